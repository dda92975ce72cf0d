package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	jailControlFd = 3
	jailFailureFd = 4
)

// jailCapabilities are those that buildah needs in its own user namespace to mount, to unpack layers and to hand its
// RUN steps the usual container set. None of them reaches outside the namespace.
var jailCapabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
	unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT,
	unix.CAP_SYS_ADMIN, unix.CAP_SETFCAP, unix.CAP_MKNOD,
}

// jailInit is PID 1 of the jail. It exits as the program does, and its exit ends whatever is left in the jail.
func jailInit() error {
	// Capabilities belong to a thread, and the program is started from this one.
	runtime.LockOSThread()
	unix.CloseOnExec(jailControlFd)
	unix.CloseOnExec(jailFailureFd)
	code, err := initJail(os.NewFile(jailControlFd, "control"))
	if err != nil {
		if _, e := os.NewFile(jailFailureFd, "failure").WriteString(err.Error()); e != nil {
			return e
		}
		code = 1
	}
	os.Exit(code)
	return nil
}

func initJail(control *os.File) (int, error) {
	if os.Getpid() != 1 {
		return 0, errors.New("jail-init is started by jail, not by hand")
	}
	decoder := json.NewDecoder(control)
	var start jailStart
	if err := decoder.Decode(&start); err != nil {
		return 0, fmt.Errorf("read what to run: %w", err)
	}
	go func() { // the process outside is gone: so is the jail
		_, _ = io.Copy(io.Discard, control)
		os.Exit(1)
	}()
	if err := enterJailRoot(); err != nil {
		return 0, err
	}
	if err := unix.Sethostname([]byte(start.Hostname)); err != nil {
		return 0, fmt.Errorf("set the host name: %w", err)
	}
	if start.OwnNetwork {
		if err := raiseLoopback(); err != nil {
			return 0, err
		}
	}
	if err := limitJailProcess(start.MaxFileBytes); err != nil {
		return 0, err
	}
	// A namespace of its own would give a build step the capabilities back that buildah has taken from it.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return 0, fmt.Errorf("forbid nested user namespaces: %w", err)
	}
	if err := dropJailCapabilities(); err != nil {
		return 0, err
	}
	return runJailProgram(start)
}

// enterJailRoot makes the working folder, which is the root that was built outside, the root of everything. Its mounts
// came from a more privileged namespace and are locked; a copy of the tree has an unlocked top, which pivot_root needs.
func enterJailRoot() error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the root: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, ".", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	// While the host's /proc is still in sight: a user namespace may mount no more than it can see.
	if err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return nil
}

// raiseLoopback makes 127.0.0.1 usable: many a build step tests a server that it has just made.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("raise the loopback interface: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("raise the loopback interface: %w", err)
	}
	return nil
}

func limitJailProcess(maxFileBytes uint64) error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	files.Max = min(files.Max, 65536)
	files.Cur = files.Max
	limits := map[int]syscall.Rlimit{
		syscall.RLIMIT_NOFILE: files,
		syscall.RLIMIT_CORE:   {},
	}
	if maxFileBytes > 0 {
		limits[syscall.RLIMIT_FSIZE] = syscall.Rlimit{Cur: maxFileBytes, Max: maxFileBytes}
	}
	for which, limit := range limits {
		if err := syscall.Setrlimit(which, &limit); err != nil {
			return fmt.Errorf("set resource limit %d: %w", which, err)
		}
	}
	return nil
}

// dropJailCapabilities takes all others out of the bounding set; the next exec leaves them behind.
func dropJailCapabilities() error {
	keep := map[uintptr]bool{}
	for _, c := range jailCapabilities {
		keep[c] = true
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

func runJailProgram(start jailStart) (int, error) {
	path, err := exec.LookPath(start.Argv[0])
	if err != nil {
		return 0, err
	}
	stop := make(chan os.Signal, 4)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	pid, err := syscall.ForkExec(path, start.Argv, &syscall.ProcAttr{
		Dir: "/w", Env: start.Env, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", path, err)
	}
	go func() {
		for range stop {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}()
	for { // reap whatever falls to PID 1, until the program itself ends
		var ws syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for %s: %w", path, err)
		case ended == pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case ended == pid:
			return ws.ExitStatus(), nil
		}
	}
}
