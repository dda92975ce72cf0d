package main

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel's headers say and x/sys does not.
const (
	ptraceGetSigmask = 0x420a
	ptraceSetSigmask = 0x420b
	syscallStop      = unix.SIGTRAP | 0x80 // with PTRACE_O_TRACESYSGOOD
)

// stopTime is for how long a thread may take to stop or to come back from a system call of ours. It may be waiting for
// a disk.
const stopTime = 5 * time.Second

// tracee is a thread that the calling thread traces, with what it needs to go on as if nothing had been. Only the
// thread that made it can use it.
type tracee struct {
	pid     int
	regs    unix.PtraceRegs
	sigmask uint64
}

// seize stops a thread for injected system calls. Signals wait until release.
func seize(pid int) (*tracee, error) {
	// Never PTRACE_O_EXITKILL here: our end must not be this process's.
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_SUSPEND_SECCOMP
	if err := ptrace(unix.PTRACE_SEIZE, pid, 0, options); err != nil {
		if errors.Is(err, unix.EPERM) && !hasEnded(pid) {
			return nil, fmt.Errorf("process %d cannot be traced: something else traces it, or a seccomp filter or missing "+
				"capabilities keep us from it: %w", pid, err)
		}
		return nil, procError(pid, err)
	}
	t := &tracee{pid: pid}
	if err := t.stop(); err != nil {
		_ = unix.PtraceDetach(pid) // if it does not stop, it goes when this thread ends
		return nil, err
	}
	err := unix.PtraceGetRegs(pid, &t.regs)
	if err == nil {
		err = ptrace(ptraceGetSigmask, pid, 8, uintptr(unsafe.Pointer(&t.sigmask)))
	}
	if err == nil {
		err = t.setSigmask(^uint64(0))
	}
	if err != nil {
		_ = unix.PtraceDetach(pid)
		return nil, procError(pid, err)
	}
	return t, nil
}

// adopt waits for the first stop of a process that a tracee has just made. It has not run, and has the registers and
// the blocked signals of who made it.
func adopt(pid int) (*tracee, error) {
	t := &tracee{pid: pid}
	if _, err := t.wait(unix.PtraceCont, isEventStop); err != nil {
		return nil, err
	}
	return t, procErrorOrNil(pid, unix.PtraceGetRegs(pid, &t.regs))
}

// release lets the thread go on where it was: in the kernel, on its way back from a system call that our stop
// interrupted. Whether that call is begun anew or ends with EINTR (a signal may have come) is decided by the kernel, but
// only on the way out of a signal stop: so there is one more of those, with the registers of the first.
func (t *tracee) release() error {
	err := unix.PtraceSetRegs(t.pid, &t.regs)
	if err == nil {
		err = t.setSigmask(t.sigmask)
	}
	if err == nil {
		err = unix.PtraceInterrupt(t.pid)
	}
	if err == nil {
		err = unix.PtraceCont(t.pid, 0)
	}
	if err == nil {
		_, err = t.wait(unix.PtraceCont, isEventStop)
	}
	if err == nil {
		err = unix.PtraceDetach(t.pid)
	}
	return procErrorOrNil(t.pid, err)
}

func (t *tracee) stop() error {
	if err := unix.PtraceInterrupt(t.pid); err != nil {
		return procError(t.pid, err)
	}
	_, err := t.wait(unix.PtraceCont, isEventStop)
	return err
}

func (t *tracee) setSigmask(mask uint64) error {
	return ptrace(ptraceSetSigmask, t.pid, 8, uintptr(unsafe.Pointer(&mask)))
}

// syscall has the stopped thread make a system call with the instruction at `at`, and stops it right behind that. A
// process that the call makes is stopped before its first instruction; its id is the one that we know it by.
func (t *tracee) syscall(at uint64, nr uint64, args ...uint64) (result int64, child int, err error) {
	regs := t.regs
	setSyscall(&regs, at, nr, args)
	if err := unix.PtraceSetRegs(t.pid, &regs); err != nil {
		return 0, 0, procError(t.pid, err)
	}
	for stops := 0; stops < 2; { // on the way in, and out
		if err := unix.PtraceSyscall(t.pid, 0); err != nil {
			return 0, child, procError(t.pid, err)
		}
		status, err := t.wait(unix.PtraceSyscall, func(s unix.WaitStatus) bool {
			return s.StopSignal() == syscallStop || isCloneStop(s)
		})
		if err != nil {
			return 0, child, err
		}
		if !isCloneStop(status) {
			stops++
			continue
		}
		id, err := unix.PtraceGetEventMsg(t.pid)
		if err != nil {
			return 0, child, procError(t.pid, err)
		}
		child = int(id)
	}
	if err := unix.PtraceGetRegs(t.pid, &regs); err != nil {
		return 0, child, procError(t.pid, err)
	}
	return syscallResult(&regs), child, nil
}

func isEventStop(s unix.WaitStatus) bool { return s>>16 == unix.PTRACE_EVENT_STOP }
func isCloneStop(s unix.WaitStatus) bool { return s>>16 == unix.PTRACE_EVENT_CLONE }

// wait waits for a stop, and has the thread go on from every other one. Signals that arrive before it are delivered.
func (t *tracee) wait(resume func(pid, signal int) error, wanted func(unix.WaitStatus) bool) (unix.WaitStatus, error) {
	deadline := time.Now().Add(stopTime)
	for spins := 0; ; spins++ {
		var status unix.WaitStatus
		pid, err := unix.Wait4(t.pid, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD) || (err == nil && pid != 0 && !status.Stopped()):
			return 0, gone("process %d has ended", t.pid)
		case err != nil:
			return 0, err
		case pid != 0 && wanted(status):
			return status, nil
		case pid != 0:
			signal := 0
			if status>>16 == 0 && status.StopSignal() != syscallStop {
				signal = int(status.StopSignal())
			}
			if err := resume(t.pid, signal); err != nil {
				return 0, procError(t.pid, err)
			}
		case time.Now().After(deadline):
			return 0, fmt.Errorf("process %d did not stop within %v", t.pid, stopTime)
		case spins > 200: // most stops take some µs: less than going to sleep
			// Not time.Sleep, whose shortest is a millisecond when nothing else happens.
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
		}
	}
}

func ptrace(request, pid int, addr, data uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}
