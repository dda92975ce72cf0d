package container

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/reaper"
)

const (
	// maxShells is how many shells a guest has at once.
	maxShells = 16
	// shellGroup is where shells begin, beside the main process's group: see initGroup.
	shellGroup = "shell"
	// entryLimit bounds what depends on the image's file system, which may be one that never answers.
	entryLimit = 20 * time.Second
)

// Shell is one that runs in the container, with all that is in its session.
type Shell struct {
	terminal *os.File // nil without one
	input    *os.File // the terminal, or a pipe
	outputs  []*stream
	session  int
	exited   chan struct{}
	exitCode int // to be read when exited is closed
	leave    func()
	hangUp   sync.Once // its id may be another session's later
	closing  sync.Once
}

// OpenShell starts a shell, or the command that is asked for, as root in the running container. Close it.
func (r *Runner) OpenShell(spec *ShellSpec) (*Shell, error) {
	container, err := r.enter()
	if err != nil {
		return nil, err
	}
	shell, entry, err := r.openShell(spec, container)
	if err != nil {
		go func() {
			if entry != nil {
				<-entry // one that is stuck in the image's file system keeps its place
			}
			r.leave()
		}()
		return nil, err
	}
	return shell, nil
}

// enter takes one of the places.
func (r *Runner) enter() (*Spec, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != Running {
		return nil, Errorf(CodeNotRunning, "the workload does not run, and so there is no container to have a shell in")
	}
	if r.shells >= maxShells {
		return nil, Errorf(CodeTooMany, "%d shells are open already, and so many are allowed: close one", r.shells)
	}
	r.shells++
	return r.spec, nil
}

func (r *Runner) leave() {
	r.mu.Lock()
	r.shells--
	r.mu.Unlock()
}

// openShell returns what tells the end of the process that entered the container, when there was one and it failed.
func (r *Runner) openShell(spec *ShellSpec, container *Spec) (*Shell, <-chan syscall.WaitStatus, error) {
	payload, err := json.Marshal(shellOrder{Container: container, Shell: spec, OpenFiles: r.OpenFiles})
	if err != nil {
		return nil, nil, err
	}
	group := filepath.Join(r.Cgroup, shellGroup)
	if err := os.MkdirAll(group, 0o755); err != nil {
		return nil, nil, Errorf(CodeSetup, "cannot make the shells' cgroup: %v", err)
	}
	var p shellPipes
	defer p.close()
	if err := p.open(spec.Terminal); err != nil {
		return nil, nil, err
	}
	entry, entryEnded, err := r.Reaper.Start(func() (int, error) { return r.forkEntry(&p, group) })
	if err != nil {
		return nil, nil, Errorf(CodeSetup, "cannot enter the container: %v", err)
	}
	p.closeChildEnds()
	go func(w *os.File) {
		defer w.Close()
		_, _ = w.Write(payload)
	}(p.order.take())
	pid, terminal, err := p.report()
	if err != nil {
		// It has said why and ends, or it is stuck.
		_ = syscall.Kill(entry, syscall.SIGKILL)
		return nil, entryEnded, err
	}
	status := r.Reaper.Expect(pid)
	p.reports.Close() // lets the entry end, and the shell be our child

	shell := &Shell{session: pid, exited: make(chan struct{}), leave: r.leave}
	if terminal != nil {
		shell.terminal, shell.input, shell.outputs = terminal, terminal, []*stream{{file: terminal}}
	} else {
		shell.input = p.stdin.w
		shell.outputs = []*stream{{file: p.stdout.r}, {file: p.stderr.r}}
		p.stdin.w, p.stdout.r, p.stderr.r = nil, nil, nil
	}
	go func() {
		<-entryEnded
		shell.exitCode = reaper.ExitCode(<-status)
		close(shell.exited)
	}()
	return shell, nil, nil
}

func (r *Runner) forkEntry(p *shellPipes, groupPath string) (int, error) {
	group, err := os.Open(groupPath)
	if err != nil {
		return 0, err
	}
	defer group.Close()
	return syscall.ForkExec("/proc/self/exe", []string{ShellName}, &syscall.ProcAttr{
		Dir: "/",
		Files: []uintptr{
			p.stdin.r.Fd(), p.stdout.w.Fd(), p.stderr.w.Fd(), p.reportEnd.Fd(), p.order.r.Fd(), r.main.Fd(),
		},
		// Born in the group, as all that it starts will be.
		Sys: &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())},
	})
}

// Outputs are its terminal's; or, without one, its standard output and its standard error. They end after HangUp.
func (s *Shell) Outputs() []io.Reader {
	readers := make([]io.Reader, len(s.outputs))
	for i, o := range s.outputs {
		readers[i] = o
	}
	return readers
}

// Write types, or writes to the standard input; it waits until there is room.
func (s *Shell) Write(p []byte) (int, error) { return s.input.Write(p) }

// EndInput is Ctrl-D on an empty line, or the end of the standard input.
func (s *Shell) EndInput() error {
	if s.terminal != nil {
		_, err := s.terminal.Write([]byte{4})
		return err
	}
	return s.input.Close()
}

// Resize tells the terminal's new size, and with it the programs on it. Without a terminal it is nothing.
func (s *Shell) Resize(columns, rows uint16) error {
	if s.terminal == nil {
		return nil
	}
	raw, err := s.terminal.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = setSize(int(fd), columns, rows) })
	if failed != nil {
		return failed
	}
	return err
}

// Exited is closed when the shell itself has ended, with the code of ExitCode; what it started may go on.
func (s *Shell) Exited() <-chan struct{} { return s.exited }

func (s *Shell) ExitCode() int { return s.exitCode }

// HangUp ends all that is in the shell's session, the shell too if it is there still. What could be read before can be
// read after it, and then the outputs end.
func (s *Shell) HangUp() {
	s.hangUp.Do(func() { endSession(s.session) })
	for _, o := range s.outputs {
		o.finish()
	}
}

// Close gives everything back. What still runs is hung up.
func (s *Shell) Close() {
	s.closing.Do(func() {
		s.HangUp()
		s.input.Close()
		for _, o := range s.outputs {
			o.file.Close()
		}
		s.leave()
	})
}

// shellPipes lie between the agent and an entry into the container.
type shellPipes struct {
	stdin, stdout, stderr, order pipe
	reports                      *net.UnixConn
	reportEnd                    *os.File
}

func (p *shellPipes) each() []*pipe { return []*pipe{&p.stdin, &p.stdout, &p.stderr, &p.order} }

func (p *shellPipes) open(terminal bool) error {
	for _, one := range p.each() {
		if terminal && one != &p.order {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		one.r, one.w = r, w
	}
	if terminal {
		var err error
		if p.stdin.r, err = os.Open(os.DevNull); err != nil {
			return err
		}
		for _, one := range []*pipe{&p.stdout, &p.stderr} {
			if one.w, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
				return err
			}
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket pair: %w", err)
	}
	p.reportEnd = os.NewFile(uintptr(pair[1]), "report")
	ours := os.NewFile(uintptr(pair[0]), "reports")
	defer ours.Close() // FileConn has a descriptor of its own
	conn, err := net.FileConn(ours)
	if err != nil {
		return fmt.Errorf("socket pair: %w", err)
	}
	p.reports = conn.(*net.UnixConn)
	return nil
}

// report waits for the entry's one message: the shell's pid and terminal, or the reason why there is none.
func (p *shellPipes) report() (pid int, terminal *os.File, err error) {
	_ = p.reports.SetReadDeadline(time.Now().Add(entryLimit))
	text, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	n, rightsN, _, _, err := p.reports.ReadMsgUnix(text, rights)
	if err != nil || n == 0 {
		return 0, nil, Errorf(CodeSetup, "cannot enter the container: no answer from there within %v", entryLimit)
	}
	fds := descriptors(rights[:rightsN])
	what, rest, _ := strings.Cut(string(text[:n]), "\n")
	pid, err = strconv.Atoi(rest)
	if what != started || err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return 0, nil, &Error{Code: what, Message: rest}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		terminal = os.NewFile(uintptr(fd), "terminal") // it does not block: it was opened so
	}
	return pid, terminal, nil
}

func descriptors(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var all []int
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

func (p *shellPipes) closeChildEnds() {
	for _, f := range []**os.File{&p.stdin.r, &p.stdout.w, &p.stderr.w, &p.order.r, &p.reportEnd} {
		(*f).Close()
		*f = nil
	}
}

func (p *shellPipes) close() {
	for _, one := range p.each() {
		if one.r != nil {
			one.r.Close()
		}
		if one.w != nil {
			one.w.Close()
		}
	}
	if p.reportEnd != nil {
		p.reportEnd.Close()
	}
	if p.reports != nil {
		p.reports.Close()
	}
}
