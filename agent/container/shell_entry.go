package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShellName is argv[0] of the process that OpenShell forks: the agent's own program, told to start something in the
// container.
const ShellName = "torpor-shell"

// Descriptors of that process beside 0, 1 and 2, which are the pipes of a shell without a terminal.
const (
	shellReportFD = 3 // a socket: one message says how it went; its end says that the agent knows the shell
	shellOrderFD  = 4 // the order, as JSON, to its end
	containerFD   = 5 // a pidfd of the container's main process
)

// namespaces of the container that a shell enters; the network is the agent's.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// shellOrder is all that this process needs to know.
type shellOrder struct {
	Container *Spec      `json:"container"`
	Shell     *ShellSpec `json:"shell"`
	OpenFiles OpenFiles  `json:"openFiles"`
}

// started is what the agent hears of a shell that runs; its terminal comes with it.
const started = "started"

// EnterShell is the main function of a process that starts one shell in the container and ends when the agent has taken
// it over. A process cannot move itself into another pid namespace, only its children.
func EnterShell() {
	// Namespaces and credentials are a thread's: this one must be the one that forks.
	runtime.LockOSThread()
	for _, fd := range []int{shellReportFD, shellOrderFD, containerFD} {
		unix.CloseOnExec(fd)
	}
	pid, terminal, err := startShell()
	if err != nil {
		failure := &Error{}
		if !errors.As(err, &failure) {
			failure = Errorf(CodeSetup, "cannot enter the container: %v", err)
		}
		_ = unix.Sendmsg(shellReportFD, []byte(failure.Code+"\n"+failure.Message), nil, nil, 0)
		return
	}
	var rights []byte
	if terminal >= 0 {
		rights = unix.UnixRights(terminal)
	}
	if unix.Sendmsg(shellReportFD, []byte(started+"\n"+strconv.Itoa(pid)), rights, nil, 0) != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // nobody is there to have it
	}
	// Until then the shell's status is ours to collect, and so stays uncollected.
	_, _ = unix.Read(shellReportFD, make([]byte, 1))
}

// startShell returns the shell's pid as the agent sees it, and the agent's end of its terminal, or -1.
func startShell() (pid, terminal int, err error) {
	var o shellOrder
	if err := json.NewDecoder(os.NewFile(shellOrderFD, "order")).Decode(&o); err != nil {
		return 0, -1, fmt.Errorf("read order: %w", err)
	}
	// A thread that shares root and working directory with others cannot change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(containerFD, namespaces); err != nil {
		return 0, -1, fmt.Errorf("enter namespaces: %w", err)
	}
	files := []uintptr{0, 1, 2}
	terminal = -1
	if o.Shell.Terminal {
		master, slave, err := openTerminal(o.Shell.Columns, o.Shell.Rows)
		if err != nil {
			return 0, -1, err
		}
		terminal, files = master, []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
	}
	pid, err = forkShell(&o, files)
	return pid, terminal, err
}

// forkShell makes this thread root in the container, and forks the shell from it.
func forkShell(o *shellOrder, files []uintptr) (int, error) {
	id, err := userInContainer("")
	if err != nil {
		return 0, err
	}
	unix.Umask(0o022)
	if unix.Chdir(o.Container.Workdir) != nil {
		if err := unix.Chdir("/"); err != nil {
			return 0, fmt.Errorf("enter /: %w", err)
		}
	}
	argv, err := o.Shell.argv()
	if err != nil {
		return 0, err
	}
	env := shellEnvironment(o.Container, o.Shell, id.Home)
	path, _ := variable(env, "PATH")
	program, err := lookUp(argv[0], path)
	if err != nil {
		return 0, Errorf(CodeExecFailed, "cannot run %q: %v", argv[0], reason(err))
	}
	if err := limitOpenFiles(o.OpenFiles); err != nil {
		return 0, err
	}
	if err := become(id, o.Container.privileged()); err != nil {
		return 0, err
	}
	pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: o.Shell.Terminal, Ctty: 0},
	})
	if err == syscall.ENOENT {
		return 0, Errorf(CodeExecFailed, "cannot run %q: its interpreter or loader is not in the image", program)
	}
	if err != nil {
		return 0, Errorf(CodeExecFailed, "cannot run %q: %v", argv[0], err)
	}
	return pid, nil
}

// openTerminal makes a terminal in the container's own devpts, so that it has a name there.
func openTerminal(columns, rows uint16) (master, slave int, err error) {
	master, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open a terminal: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(master, &fs); err != nil || fs.Type != unix.DEVPTS_SUPER_MAGIC {
		return -1, -1, Errorf(CodeSetup, "the container's /dev/pts is not a devpts file system any more")
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, -1, fmt.Errorf("unlock the terminal: %w", err)
	}
	if err := setSize(master, columns, rows); err != nil {
		return -1, -1, err
	}
	// By the master and not by its name, which could be anything's by now.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, -1, fmt.Errorf("open the terminal's other end: %w", errno)
	}
	return master, int(peer), nil
}

func setSize(terminal int, columns, rows uint16) error {
	if err := unix.IoctlSetWinsize(terminal, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		return fmt.Errorf("set the terminal's size: %w", err)
	}
	return nil
}
