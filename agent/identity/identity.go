// Package identity makes a clone somebody else: what every copy of a snapshot shares and must not.
package identity

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"torpor/agent/protocol"
)

// maxClockErrorNs is how far the real-time clock may be off before it is stepped.
const maxClockErrorNs = 50_000_000

// Files are what the container has mounted over its own. They are rewritten in place, because a mount follows the
// inode and not the name.
type Files struct{ MachineID, BootID string }

// FilesIn names the files of a folder.
func FilesIn(dir string) Files {
	return Files{MachineID: filepath.Join(dir, "machine-id"), BootID: filepath.Join(dir, "boot_id")}
}

// System is what an identity is written to.
type System interface {
	// Reseed credits fresh entropy and makes the kernel's generator use it at once.
	Reseed(entropy []byte) error
	// StepClock sets the real-time clock unless it is right.
	StepClock(unixNanos int64) error
	// SetMachineID makes the machine id and a new boot id visible.
	SetMachineID(id [16]byte) error
	// AbortOutbound ends the workload's connections to other machines.
	AbortOutbound() error
}

// Keeper takes identities, one after another.
type Keeper struct {
	System System

	mu        sync.Mutex
	microvmID string
}

// Assume does everything that must be done before traffic. Order matters: the boot id comes from the generator.
func (k *Keeper) Assume(who *protocol.Who) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.System.Reseed(who.Entropy[:]); err != nil {
		return fmt.Errorf("reseed: %w", err)
	}
	if err := k.System.StepClock(who.UnixNanos); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	if !who.KeepsMachineID() {
		if err := k.System.SetMachineID(who.MachineID); err != nil {
			return fmt.Errorf("set machine id: %w", err)
		}
	}
	if err := k.System.AbortOutbound(); err != nil {
		return fmt.Errorf("abort connections: %w", err)
	}
	k.microvmID = who.MicrovmID
	return nil
}

// MicrovmID is empty until the first identity.
func (k *Keeper) MicrovmID() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.microvmID
}

// Kernel is the real System.
type Kernel struct {
	Files Files
	// Random is the generator's device.
	Random string
	// Address of the guest, and the agent's Port at it.
	Address netip.Addr
	Port    uint16
}

// AbortOutbound implements System.
func (k *Kernel) AbortOutbound() error { return abortOutbound(k.Address, k.Port) }

// Reseed implements System. Source: random(4), RNDADDENTROPY and RNDRESEEDCRNG.
func (k *Kernel) Reseed(entropy []byte) error {
	fd, err := unix.Open(k.Random, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", k.Random, err)
	}
	defer unix.Close(fd)
	pool := make([]byte, 8, 8+len(entropy)) // struct rand_pool_info: bits, bytes, data
	binary.NativeEndian.PutUint32(pool, uint32(8*len(entropy)))
	binary.NativeEndian.PutUint32(pool[4:], uint32(len(entropy)))
	pool = append(pool, entropy...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool[0])))
	runtime.KeepAlive(pool)
	if errno != 0 {
		return fmt.Errorf("RNDADDENTROPY: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return fmt.Errorf("RNDRESEEDCRNG: %w", errno)
	}
	return nil
}

// StepClock implements System.
func (k *Kernel) StepClock(unixNanos int64) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	if off := now.Nano() - unixNanos; -maxClockErrorNs <= off && off <= maxClockErrorNs {
		return nil
	}
	want := unix.NsecToTimespec(unixNanos)
	return unix.ClockSettime(unix.CLOCK_REALTIME, &want)
}

// SetMachineID implements System.
func (k *Kernel) SetMachineID(id [16]byte) error {
	if err := overwrite(k.Files.MachineID, hex.EncodeToString(id[:])+"\n"); err != nil {
		return err
	}
	boot, err := randomUUID()
	if err != nil {
		return err
	}
	return overwrite(k.Files.BootID, boot+"\n")
}

// overwrite keeps the inode and, since the length never changes, never shows an empty or short file.
func overwrite(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Pwrite(fd, []byte(text), 0); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// RandomID is a machine id for a guest that nobody has named yet.
func RandomID() (id [16]byte, err error) {
	_, err = unix.Getrandom(id[:], 0)
	return id, err
}

// randomUUID is version 4, as the kernel writes its boot id.
func randomUUID() (string, error) {
	b, err := RandomID()
	if err != nil {
		return "", err
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}
