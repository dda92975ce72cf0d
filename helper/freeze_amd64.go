package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// forkFrozen makes the image, in four steps, while the process's main thread stands still:
//
//  1. The main thread clones a go-between that shares its memory, but has its own descriptors.
//  2. The go-between closes them, undoes MADV_DONTFORK (QEMU sets it on all guest memory) and forks the image. So the
//     image has no socket, no tap, no disk and no lock of the VMM, and the VMM's own calls are never in the way.
//  3. The go-between is killed. That makes the image a child of init, which reaps it whatever becomes of the VMM and us.
//  4. The main thread reaps the go-between, whose end no signal tells of, and goes on where it was.
//
// None of the two new processes ever executes an instruction but the system calls given to them here. Should we die in
// the middle, or the main thread before it tells of the go-between, they have no stack to go on with: the way out of
// the vDSO is their end, since signals, that of the fault too, are blocked.
func forkFrozen(guest guestMemory) (frozen int, pause time.Duration, err error) {
	at, err := syscallInstruction(guest.pid)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	main, err := seize(guest.pid)
	if err != nil {
		return 0, 0, err
	}
	frozen, err = cloneTwice(main, at, guest)
	if rerr := main.release(); err == nil {
		err = rerr
	}
	pause = time.Since(begin)
	if err != nil && frozen != 0 {
		_ = killTracee(frozen)
	}
	return frozen, pause, err
}

// noStack faults at the first use, and is not 0, which means the stack of who clones.
const noStack = 8

func cloneTwice(main *tracee, at uint64, guest guestMemory) (frozen int, err error) {
	// As the main thread knows it, which may be in a namespace of process ids.
	id, between, err := main.syscall(at, unix.SYS_CLONE, unix.CLONE_VM, noStack)
	if between != 0 {
		defer func() {
			kerr := killTracee(between)
			if _, _, rerr := main.syscall(at, unix.SYS_WAIT4, uint64(id), 0, unix.WALL|unix.WNOHANG, 0); err == nil {
				err = errors.Join(kerr, rerr)
			}
		}()
	}
	if err := done("clone", id, err); err != nil {
		return 0, err
	}
	t, err := adopt(between)
	if err != nil {
		return 0, err
	}
	result, _, err := t.syscall(at, unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	if err := done("close_range", result, err); err != nil {
		return 0, err
	}
	result, _, err = t.syscall(at, unix.SYS_MADVISE, guest.start, guest.size, unix.MADV_DOFORK)
	if err := done("madvise", result, err); err != nil {
		return 0, err
	}
	result, frozen, err = t.syscall(at, unix.SYS_CLONE, 0, noStack)
	if err := done("fork", result, err); err != nil {
		return frozen, err
	}
	if _, err := adopt(frozen); err != nil {
		return frozen, err
	}
	// Only this: its sandbox is on again.
	return frozen, procErrorOrNil(frozen, unix.PtraceSetOptions(frozen, unix.PTRACE_O_EXITKILL))
}

func done(call string, result int64, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	if result < 0 {
		return fmt.Errorf("%s in the process: %w", call, unix.Errno(-result))
	}
	return nil
}

// syscallInstruction finds one in the vDSO, which every process has.
func syscallInstruction(pid int) (uint64, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, procError(pid, err)
	}
	defer maps.Close()
	for scan := bufio.NewScanner(maps); scan.Scan(); {
		if !strings.HasSuffix(scan.Text(), "[vdso]") {
			continue
		}
		var from, to uint64
		if _, err := fmt.Sscanf(scan.Text(), "%x-%x ", &from, &to); err != nil || to-from > 1<<20 {
			return 0, fmt.Errorf("process %d: %q", pid, scan.Text())
		}
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return 0, procError(pid, err)
		}
		defer mem.Close()
		code := make([]byte, to-from)
		if _, err := mem.ReadAt(code, int64(from)); err != nil {
			return 0, procError(pid, err)
		}
		if i := bytes.Index(code, []byte{0x0f, 0x05}); i >= 0 {
			return from + uint64(i), nil
		}
	}
	return 0, procError(pid, errors.New("it has no vDSO with a system call"))
}

// setSyscall sets everything that a system call reads. Orig_rax -1: there is none to begin anew.
func setSyscall(r *unix.PtraceRegs, at, nr uint64, args []uint64) {
	var a [6]uint64
	copy(a[:], args)
	r.Rip, r.Rax, r.Orig_rax = at, nr, ^uint64(0)
	r.Rbp = noStack // what follows the instruction may fetch a stack from there (leave)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
}

func syscallResult(r *unix.PtraceRegs) int64 { return int64(r.Rax) }
