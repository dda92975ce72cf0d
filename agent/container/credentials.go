package container

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultCapabilities is Docker's set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const defaultCapabilities uint64 = 0xa80425fb

// become makes this thread, and what it executes, the container's user. Root keeps the set, others have no capability
// but those that a setuid program regains: the bounding set.
// All calls are raw, and so for this thread alone: exec ends the others.
func become(id Identity, privileged bool) error {
	set, err := boundCapabilities(privileged)
	if err != nil {
		return err
	}
	groups := make([]uint32, len(id.Groups))
	for i, g := range id.Groups {
		groups[i] = uint32(g)
	}
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); e != 0 {
		return fmt.Errorf("set groups: %w", e)
	}
	gid, uid := uintptr(id.GID), uintptr(id.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
		return fmt.Errorf("set group %d: %w", gid, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
		return fmt.Errorf("set user %d: %w", uid, e)
	}
	if id.UID != 0 {
		set = 0
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(set), Permitted: uint32(set)},
		{Effective: uint32(set >> 32), Permitted: uint32(set >> 32)},
	}
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// boundCapabilities drops what the container is not to have and returns the rest.
func boundCapabilities(privileged bool) (uint64, error) {
	var set uint64
	for c := uintptr(0); c < 64; c++ {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			break // beyond the last one that this kernel knows
		}
		if err != nil {
			return 0, fmt.Errorf("read capability %d: %w", c, err)
		}
		if privileged || defaultCapabilities&(1<<c) != 0 {
			set |= uint64(held) << c
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return set, nil
}

// limitOpenFiles is the container's RLIMIT_NOFILE.
func limitOpenFiles(limit OpenFiles) error {
	// From syscall and not unix: Go restores its own idea of this limit on exec unless it saw the change.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Soft, Max: limit.Hard}); err != nil {
		return fmt.Errorf("limit open files to %d: %w", limit.Hard, err)
	}
	return nil
}
