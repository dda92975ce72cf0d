package container

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/events"
	"torpor/agent/reaper"
)

// State of the workload.
type State string

const (
	None    State = "none"
	Running State = "running"
	Exited  State = "exited"
)

// outputGrace is how long output may still come after the main process has ended: whoever could write it died with it.
const outputGrace = 2 * time.Second

// OpenFiles is how many files a process of the container may have open: at first, and at most.
type OpenFiles struct{ Soft, Hard uint64 }

// Runner starts the container of this guest, once, and knows what became of it.
type Runner struct {
	Reaper *reaper.Reaper
	Events *events.Ring
	// Root is where the disk is mounted.
	Root string
	// Cgroup is the folder of the workload's control group, to be made, in a cgroup2 file system.
	Cgroup    string
	Detach    []string
	Overlays  []Overlay
	OpenFiles OpenFiles
	// Prepare runs before a container is started, e.g. to load what it needs.
	Prepare func(*Spec) error

	starting sync.Mutex
	mu       sync.Mutex
	state    State
	exitCode int
	exited   chan struct{}
	spec     *Spec    // of the running container
	main     *os.File // a pidfd of its first process: its id may be another's when it has ended
	shells   int      // that are open
}

// Status says how the workload is; the code is meaningful once it has exited.
func (r *Runner) Status() (State, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == "" {
		return None, 0
	}
	return r.state, r.exitCode
}

// Exited is closed when the workload has ended.
func (r *Runner) Exited() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exit()
}

// exit wants r.mu.
func (r *Runner) exit() chan struct{} {
	if r.exited == nil {
		r.exited = make(chan struct{})
	}
	return r.exited
}

// Start returns when the container's program runs. After a failure it can be tried again.
func (r *Runner) Start(spec *Spec) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	if state, _ := r.Status(); state != None {
		return Errorf("already_started", "this guest has had its container: it is %s", state)
	}
	if r.Prepare != nil {
		if err := r.Prepare(spec); err != nil {
			return Errorf(CodeSetup, "%v", err)
		}
	}
	if err := cgroup(r.Cgroup).make(spec.privileged()); err != nil {
		return Errorf(CodeSetup, "cannot make the container's cgroup: %v", err)
	}
	payload, err := json.Marshal(order{
		Spec: spec, Root: r.Root, Cgroup: r.Cgroup, Detach: r.Detach, Overlays: r.Overlays, OpenFiles: r.OpenFiles,
	})
	if err != nil {
		return err
	}
	var p pipes
	defer p.close()
	if err := p.open(); err != nil {
		return err
	}
	var main *os.File
	_, status, err := r.Reaper.Start(func() (pid int, err error) {
		if pid, err = r.fork(&p); err == nil {
			main, err = openProcess(pid) // while its id is its own, whatever becomes of it
		}
		return pid, err
	})
	if err != nil {
		return Errorf(CodeSetup, "cannot make the container's namespaces: %v", err)
	}
	p.closeChildEnds()
	// The child reads its order before anything else; when it cannot, it reports or dies, and both end the reports.
	go func(w *os.File) {
		defer w.Close()
		_, _ = w.Write(payload)
	}(p.order.take())
	report, _ := io.ReadAll(io.LimitReader(p.report.r, 64<<10))
	if len(report) > 0 {
		<-status
		main.Close()
		code, message, _ := strings.Cut(string(report), "\n")
		return &Error{Code: code, Message: message}
	}
	r.mu.Lock()
	r.state, r.spec, r.main = Running, spec, main
	r.mu.Unlock()
	r.follow(status, p.stdout.r, p.stderr.r)
	p.stdout.r, p.stderr.r = nil, nil
	return nil
}

// follow owns the output pipes from here on.
func (r *Runner) follow(status <-chan syscall.WaitStatus, stdout, stderr *os.File) {
	var output sync.WaitGroup
	collect := func(kind events.Kind, from *os.File) {
		defer output.Done()
		defer from.Close()
		events.Collect(from, func(line string) { r.Events.AddLine(kind, line) })
	}
	output.Add(2)
	go collect(events.Stdout, stdout)
	go collect(events.Stderr, stderr)
	go func() {
		code := reaper.ExitCode(<-status)
		late := time.AfterFunc(outputGrace, func() {
			stdout.Close()
			stderr.Close()
		})
		output.Wait()
		late.Stop()
		r.Events.AddExit(code)
		r.mu.Lock()
		r.state, r.exitCode = Exited, code
		close(r.exit())
		r.mu.Unlock()
	}()
}

// Freeze returns when no process of the workload runs any more, or with an error after a bounded time: then all of them
// run on. Without a workload there is nothing to do.
func (r *Runner) Freeze() error {
	if state, _ := r.Status(); state != Running {
		return nil
	}
	return cgroup(r.Cgroup).freeze(freezeLimit)
}

// Thaw lets the workload go on, frozen or not.
func (r *Runner) Thaw() error {
	if state, _ := r.Status(); state == None {
		return nil
	}
	return cgroup(r.Cgroup).thaw()
}

func (r *Runner) fork(p *pipes) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	group, err := os.Open(r.Cgroup)
	if err != nil {
		return 0, err
	}
	defer group.Close()
	return syscall.ForkExec("/proc/self/exe", []string{InitName}, &syscall.ProcAttr{
		Dir: "/",
		Files: []uintptr{
			null.Fd(), p.stdout.w.Fd(), p.stderr.w.Fd(), p.report.w.Fd(), p.order.r.Fd(),
		},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
			// Born in its group: none of its children can come to be outside.
			UseCgroupFD: true,
			CgroupFD:    int(group.Fd()),
		},
	})
}

func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "container"), nil
}

type pipe struct{ r, w *os.File }

func (p *pipe) take() *os.File {
	w := p.w
	p.w = nil
	return w
}

// pipes between the agent and a container in the making.
type pipes struct{ stdout, stderr, report, order pipe }

func (p *pipes) each() []*pipe { return []*pipe{&p.stdout, &p.stderr, &p.report, &p.order} }

func (p *pipes) open() error {
	for _, one := range p.each() {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		one.r, one.w = r, w
	}
	return nil
}

func (p *pipes) closeChildEnds() {
	for _, f := range []**os.File{&p.stdout.w, &p.stderr.w, &p.report.w, &p.order.r} {
		(*f).Close()
		*f = nil
	}
}

func (p *pipes) close() {
	for _, one := range p.each() {
		if one.r != nil {
			one.r.Close()
		}
		if one.w != nil {
			one.w.Close()
		}
	}
}
