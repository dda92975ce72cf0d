package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initGroup is where the main process begins, one level below the workload's group: a group that has processes of its
// own cannot hand controllers down, and container engines in the workload want them at the top of what they see.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint"
const initGroup = "init"

// freezeLimit is how long the kernel has to stop a workload. It takes microseconds, unless a process sleeps in the
// kernel and cannot be woken.
const freezeLimit = 2 * time.Second

// cgroup is the folder, in a cgroup2 file system, of the group that a workload lives in and cannot leave.
type cgroup string

// make makes the group; a privileged workload has all the controllers that there are.
func (c cgroup) make(privileged bool) error {
	if err := os.MkdirAll(filepath.Join(string(c), initGroup), 0o755); err != nil {
		return err
	}
	if !privileged {
		return nil
	}
	parent := filepath.Dir(string(c))
	all, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(all)) {
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return fmt.Errorf("enable controller %s: %w", name, err)
		}
	}
	return nil
}

// enter makes the group, which this process was born in, the top of the hierarchy that it sees.
func (c cgroup) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make cgroup namespace: %w", err)
	}
	if err := os.WriteFile(filepath.Join(string(c), initGroup, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	return nil
}

// freeze returns when every process of the group stands still; after `limit` it lets them go on and fails.
func (c cgroup) freeze(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	events, err := os.Open(filepath.Join(string(c), "cgroup.events"))
	if err != nil {
		return err
	}
	defer events.Close()
	if err := c.write("1"); err != nil {
		return err
	}
	err = untilFrozen(events, deadline)
	if err != nil {
		err = errors.Join(err, c.thaw())
	}
	return err
}

func (c cgroup) thaw() error { return c.write("0") }

func (c cgroup) write(frozen string) error {
	return os.WriteFile(filepath.Join(string(c), "cgroup.freeze"), []byte(frozen), 0)
}

// untilFrozen sleeps until the kernel says that something about the group has changed, since the last look at it.
func untilFrozen(events *os.File, deadline time.Time) error {
	fd := int(events.Fd())
	var text [256]byte
	for {
		n, err := unix.Pread(fd, text[:], 0)
		if err != nil {
			return fmt.Errorf("read cgroup.events: %w", err)
		}
		if bytes.Contains(text[:n], []byte("frozen 1")) {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("a process of the workload does not stand still: it sleeps in the kernel")
		}
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for cgroup.events: %w", err)
		}
	}
}
