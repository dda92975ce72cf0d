// Package reaper owns wait4: PID 1 inherits every orphan, so nothing else may wait, or it would steal statuses.
package reaper

import (
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reaper hands each child's status to whoever started it and buries the rest.
type Reaper struct {
	mu      sync.Mutex
	waiters map[int]chan syscall.WaitStatus
	born    chan struct{}
}

// New starts the goroutine that waits.
func New() *Reaper {
	r := &Reaper{waiters: map[int]chan syscall.WaitStatus{}, born: make(chan struct{}, 1)}
	go r.reap()
	return r
}

// Start runs `fork`, which makes one child and returns its id. The channel gets the child's status, once. No status
// is looked at while fork runs, so that none can come before its waiter is known.
func (r *Reaper) Start(fork func() (pid int, err error)) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	status := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = status
	select {
	case r.born <- struct{}{}:
	default:
	}
	return pid, status, nil
}

// Expect is for a process that becomes our child only now: until somebody else's end makes it so, it must not have been
// waited for. The channel gets its status, once.
func (r *Reaper) Expect(pid int) <-chan syscall.WaitStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = status
	return status
}

func (r *Reaper) reap() {
	for {
		pid, err := peek()
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD: nobody to wait for until somebody is started
			<-r.born
			continue
		}
		r.bury(pid)
	}
}

func (r *Reaper) bury(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err != nil || got != pid {
		return // a fork that failed was waited for by ForkExec itself
	}
	if waiter := r.waiters[pid]; waiter != nil {
		delete(r.waiters, pid)
		waiter <- status
	}
}

// peek waits until a child has ended and leaves its status where it is.
func peek() (int, error) {
	// siginfo_t on 64-bit Linux: three ints, padding, then the union, which begins with si_pid.
	var info struct {
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(info.pid), nil
}

// ExitCode as shells count: 128 + n for signal n.
func ExitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// Describe says how a child ended, for people.
func Describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("killed by signal %d", status.Signal())
	}
	return fmt.Sprintf("ended with code %d", status.ExitStatus())
}
