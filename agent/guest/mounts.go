// Package guest makes a bare kernel into a guest: mounts, modules, network, disk.
package guest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Paths of the agent's own file system, the initramfs.
const (
	RunDir   = "/run/torpor"
	DiskDir  = "/disk"
	diskPath = "/dev/vda"
	cgroups  = "/sys/fs/cgroup"
	// WorkloadCgroup is the container's control group; the agent stays outside.
	WorkloadCgroup = cgroups + "/workload"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const noDevices = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts of the agent, in order; data, so that a test can read it.
var mounts = []mount{
	{"proc", "/proc", "proc", noDevices, ""},
	{"sysfs", "/sys", "sysfs", noDevices, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=755"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5"},
	{"tmpfs", "/run", "tmpfs", noDevices, "mode=755,size=16m"},
	// nsdelegate: a container that sees its group cannot undo what is done to the group as a whole, e.g. thaw it.
	{"cgroup2", cgroups, "cgroup2", noDevices, "nsdelegate"},
}

// Detach lists the mounts that a container must not keep, in an order in which they can go.
var Detach = []string{"/sys", "/proc", "/dev", "/run"}

// Mount mounts what the agent itself needs.
func Mount() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
		// A kernel with DEVTMPFS_MOUNT has been here before.
		if err != nil && !(err == unix.EBUSY && m.fstype == "devtmpfs") {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return os.MkdirAll(RunDir, 0o755)
}

// ErrNoDisk is the answer for a guest that was booted without one, to see whether it boots.
var ErrNoDisk = errors.New("the guest has no disk")

// MountDisk mounts the container's root file system. The driver has probed the disk by the time its module is in; the
// device node may come a moment later.
func MountDisk() error {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(diskPath); err == nil {
			break
		}
		if _, err := os.Stat("/sys/class/block/vda"); err != nil || time.Now().After(deadline) {
			return ErrNoDisk
		}
	}
	if err := os.MkdirAll(DiskDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(diskPath, DiskDir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", diskPath, err)
	}
	return nil
}

// Flush writes all file systems out and, if asked to, gives clean caches back, so that a snapshot is small.
func Flush(dropCaches bool) error {
	unix.Sync()
	if !dropCaches {
		return nil
	}
	for _, s := range []setting{{"/proc/sys/vm/drop_caches", "3"}, {"/proc/sys/vm/compact_memory", "1"}} {
		if err := s.apply(); err != nil {
			return err
		}
	}
	return nil
}
