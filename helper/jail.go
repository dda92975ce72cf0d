package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// jailVerbs are the verbs of image builds.
func jailVerbs() map[string]verb {
	return map[string]verb{
		"jail": {
			"jail --toolchain DIR --uid-base N [--name NAME --memory-bytes N --pids N] [--netns PATH|--host-net]\n" +
				"      [--store IMAGE] [--bind SRC:DST[:rw]] … [--env K=V] … [--resolv FILE] [--max-file-bytes N]\n" +
				"      [--grace-ms N] [--die-with-stdin] [--merge-output] [--status-fd N] -- PROGRAM ARG…\n" +
				"      runs PROGRAM as uid 0 of its own namespaces, mapped to N…N+65535, in a root that holds the toolchain's\n" +
				"      /usr and what --bind and --store (an ext4 image, mounted at /w) name; nothing of it outlives this process",
			func(args []string) error { return jail(args) },
		},
		"jail-init":  {"jail-init   (started by jail)", func([]string) error { return jailInit() }},
		"jail-sweep": {"jail-sweep PREFIX   ends every jail whose --name begins so, and removes its limits", jailSweep},
	}
}

// jailUids is the size of the range of user ids that a jail maps.
const jailUids = 65536

// jailStart is what the process outside tells the jail's PID 1, once limits are in place.
type jailStart struct {
	Argv         []string
	Env          []string
	Hostname     string
	OwnNetwork   bool
	MaxFileBytes uint64
}

// jailStatus is written to --status-fd as JSON, so that a caller can tell the jail's failures from the program's.
type jailStatus struct {
	// ExitCode is the program's; 128+n when signal n ended it.
	ExitCode int `json:"exitCode"`
	// OOMKills counts the processes that the memory limit ended.
	OOMKills int `json:"oomKills"`
	// Error says why the program could not be run at all.
	Error string `json:"error,omitempty"`
}

type jailOptions struct {
	toolchain, name, netns, store, resolv string
	uidBase                               int
	memoryBytes, pids                     int64
	maxFileBytes                          uint64
	hostNet, dieWithStdin, mergeOutput    bool
	statusFd                              int
	grace                                 time.Duration
	mounts                                []jailBind
	env, argv                             []string
}

// jailEnv is the whole environment of the program, before --env.
var jailEnv = []string{
	"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/w",
	"LC_ALL=C.UTF-8",
}

func parseJail(args []string) (*jailOptions, error) {
	o := &jailOptions{}
	fs := flag.NewFlagSet("jail", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.toolchain, "toolchain", "", "")
	fs.StringVar(&o.name, "name", "", "")
	fs.StringVar(&o.netns, "netns", "", "")
	fs.StringVar(&o.store, "store", "", "")
	fs.StringVar(&o.resolv, "resolv", "", "")
	fs.IntVar(&o.uidBase, "uid-base", 0, "")
	fs.Int64Var(&o.memoryBytes, "memory-bytes", 0, "")
	fs.Int64Var(&o.pids, "pids", 0, "")
	fs.Uint64Var(&o.maxFileBytes, "max-file-bytes", 0, "")
	fs.BoolVar(&o.hostNet, "host-net", false, "")
	fs.BoolVar(&o.dieWithStdin, "die-with-stdin", false, "")
	fs.BoolVar(&o.mergeOutput, "merge-output", false, "")
	fs.IntVar(&o.statusFd, "status-fd", -1, "")
	graceMs := fs.Int("grace-ms", 2000, "")
	fs.Func("bind", "", func(s string) error {
		b, err := parseJailBind(s)
		o.mounts = append(o.mounts, b)
		return err
	})
	fs.Func("env", "", func(s string) error {
		if i := strings.IndexByte(s, '='); i < 1 {
			return fmt.Errorf("%q is not K=V", s)
		}
		o.env = append(o.env, s)
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.argv = fs.Args()
	o.grace = time.Duration(*graceMs) * time.Millisecond
	switch {
	case o.toolchain == "" || len(o.argv) == 0:
		return nil, errUsage
	case o.uidBase < jailUids:
		return nil, fmt.Errorf("--uid-base %d: must be at least %d, so that no user of this host is in the range", o.uidBase, jailUids)
	case o.netns != "" && o.hostNet:
		return nil, errors.New("--netns and --host-net exclude each other")
	case o.name == "" && (o.memoryBytes != 0 || o.pids != 0):
		return nil, errors.New("--memory-bytes and --pids need a --name")
	case strings.ContainsAny(o.name, "/ \n") || strings.HasPrefix(o.name, "."):
		return nil, fmt.Errorf("--name %q: must be one word without slashes that does not begin with a dot", o.name)
	}
	return o, nil
}

// jail becomes the program's keeper: it returns only when the options are wrong, else it exits as the program did.
func jail(args []string) error {
	o, err := parseJail(args)
	if err != nil {
		return err
	}
	// Namespaces and PDEATHSIG belong to a thread: all of it happens on this one.
	runtime.LockOSThread()
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	status, err := runJail(o)
	if err != nil {
		status = jailStatus{ExitCode: 1, Error: err.Error()}
	}
	if o.statusFd >= 0 {
		if err := json.NewEncoder(os.NewFile(uintptr(o.statusFd), "status")).Encode(status); err != nil {
			return fmt.Errorf("report the status: %w", err)
		}
	}
	if err != nil {
		return err
	}
	os.Exit(status.ExitCode)
	return nil
}

func runJail(o *jailOptions) (status jailStatus, err error) {
	stop := make(chan os.Signal, 4)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if o.netns != "" {
		if err := enterNetns(o.netns); err != nil {
			return status, err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return status, fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return status, fmt.Errorf("make mounts private: %w", err)
	}
	root, err := makeJailRoot(o)
	if err != nil {
		return status, err
	}
	if o.store != "" {
		store, err := attachJailStore(o.store, root+"/w")
		if err != nil {
			return status, err
		}
		defer func() {
			if e := store.detach(); e != nil && err == nil {
				err = e
			}
		}()
	}
	limits, err := makeJailLimits(o.name, o.memoryBytes, o.pids)
	if err != nil {
		return status, err
	}
	defer func() {
		if e := limits.remove(); e != nil && err == nil {
			err = e
		}
	}()
	// The child finds its root as the working folder: no path that its user id might not be allowed to walk.
	if err := unix.Chdir(root); err != nil {
		return status, fmt.Errorf("enter %s: %w", root, err)
	}
	return startJail(o, limits, stop)
}

// startJail clones PID 1 of the jail, puts it under its limits before it does anything, and waits for its end.
func startJail(o *jailOptions, limits *jailLimits, stop <-chan os.Signal) (status jailStatus, err error) {
	controlRead, controlWrite, err := os.Pipe()
	if err != nil {
		return status, err
	}
	defer controlWrite.Close()
	failureRead, failureWrite, err := os.Pipe()
	if err != nil {
		return status, err
	}
	defer failureRead.Close()

	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	ownNetwork := o.netns == "" && !o.hostNet
	if ownNetwork {
		flags |= unix.CLONE_NEWNET
	}
	cmd := exec.Command("/proc/self/exe", "jail-init")
	cmd.Env = jailEnv
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if o.mergeOutput { // one pipe keeps the order of lines
		cmd.Stderr = os.Stdout
	}
	cmd.ExtraFiles = []*os.File{controlRead, failureWrite}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 flags,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: o.uidBase, Size: jailUids}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: o.uidBase, Size: jailUids}},
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{},
		// Set by the runtime after the change of credentials, which would clear it. Should it fail all the same, the
		// end of the control pipe ends the jail.
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true,
	}
	if err := cmd.Start(); err != nil {
		return status, fmt.Errorf("start the jail: %w", err)
	}
	controlRead.Close()
	failureWrite.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	if err := limits.add(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return status, err
	}
	start := jailStart{
		Argv: o.argv, Env: append(append([]string{}, jailEnv...), o.env...), Hostname: "build",
		OwnNetwork: ownNetwork, MaxFileBytes: o.maxFileBytes,
	}
	if err := json.NewEncoder(controlWrite).Encode(start); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return status, fmt.Errorf("start the jail: %w", err)
	}
	if o.dieWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = cmd.Process.Kill()
		}()
	}
	waitErr := waitJail(cmd, ended, stop, o.grace)
	failure, _ := io.ReadAll(io.LimitReader(failureRead, 4096))
	if len(failure) > 0 {
		return status, errors.New(string(failure))
	}
	var exit *exec.ExitError
	switch {
	case errors.As(waitErr, &exit):
		ws := exit.Sys().(syscall.WaitStatus)
		status.ExitCode = ws.ExitStatus()
		if ws.Signaled() {
			status.ExitCode = 128 + int(ws.Signal())
		}
	case waitErr != nil:
		return status, waitErr
	}
	status.OOMKills = limits.oomKills()
	return status, nil
}

// waitJail passes a wish to end on to the program, and after the grace ends the jail with everything in it.
func waitJail(cmd *exec.Cmd, ended <-chan error, stop <-chan os.Signal, grace time.Duration) error {
	var deadline <-chan time.Time
	for {
		select {
		case err := <-ended:
			return err
		case <-stop:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if deadline == nil {
				deadline = time.After(grace)
			}
		case <-deadline:
			_ = cmd.Process.Kill()
		}
	}
}

func enterNetns(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
