package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// jailStore is an ext4 image mounted in this process's mount namespace only: nothing to unmount is left when the
// process dies, however it dies. One image, one mount: two would destroy it.
type jailStore struct {
	image  *os.File
	target string
}

// attachJailStore waits for an earlier jail that still lets go of the image, up to half a minute.
func attachJailStore(path, target string) (*jailStore, error) {
	image, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &jailStore{image, target}
	if err := s.attach(); err != nil {
		image.Close()
		return nil, fmt.Errorf("mount the image store %s: %w", path, err)
	}
	return s, nil
}

func (s *jailStore) attach() error {
	deadline := time.Now().Add(30 * time.Second)
	for ; ; time.Sleep(20 * time.Millisecond) {
		// The lock keeps living jails apart. A killed one has lost its lock before the kernel has unmounted its store:
		// only the loop devices tell.
		err := unix.Flock(int(s.image.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			busy, e := loopUses(s.image)
			if e != nil {
				return e
			}
			if !busy {
				break
			}
			err = errors.New("it is still attached to a loop device")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it is in use: %w", err)
		}
	}
	device, err := attachLoop(s.image)
	if err != nil {
		return err
	}
	defer device.Close() // the mount holds it from now on; without users it clears itself
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	return unix.Mount(device.Name(), s.target, "ext4", flags, "discard,errors=remount-ro")
}

// detach unmounts before the lock goes: the next one finds a clean file system.
func (s *jailStore) detach() error {
	defer s.image.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := unix.Unmount(s.target, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount the image store: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for { // until the kernel has let go of the loop device too
		busy, err := loopUses(s.image)
		if err != nil || !busy || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// attachLoop returns a loop device that shows the image and clears itself when its last user is gone.
func attachLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop devices are needed for image builds: %w", err)
	}
	defer control.Close()
	for tries := 0; ; tries++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) || tries == 100 { // somebody else took it in between
			return nil, fmt.Errorf("attach a loop device: %w", err)
		}
	}
}

// loopUses tells whether any loop device shows the file.
func loopUses(image *os.File) (bool, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &want); err != nil {
		return false, err
	}
	attached, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return false, err
	}
	for _, path := range attached {
		name := strings.Split(path, "/")[3]
		device, err := os.OpenFile("/dev/"+name, os.O_RDONLY, 0)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		device.Close()
		if err == nil && info.Inode == want.Ino && info.Device == want.Dev {
			return true, nil
		}
	}
	return false, nil
}
