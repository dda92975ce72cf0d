package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// What a caller does about a failure depends on its code.
const (
	codeCorrupt  = "corrupt"  // a file is damaged, missing or another one than was meant: it will not get better
	codeNoSpace  = "no_space" // nothing was left behind; try again when there is space
	codeGone     = "gone"     // the process has ended
	codeInternal = "internal"
)

type codedError struct {
	code string
	error
}

func (e codedError) Unwrap() error { return e.error }

func corrupt(format string, args ...any) error {
	return codedError{codeCorrupt, fmt.Errorf(format, args...)}
}

func gone(format string, args ...any) error {
	return codedError{codeGone, fmt.Errorf(format, args...)}
}

// procError is for what /proc and ptrace say about a process.
func procError(pid int, err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) || hasEnded(pid) {
		return gone("process %d has ended: %w", pid, err)
	}
	return fmt.Errorf("process %d: %w", pid, err)
}

// hasEnded: zombies have, and so has what is on its way there, which may have no memory any more.
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	const exiting = 4 // PF_EXITING
	// The name of a process can hold anything: fields are counted from behind it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(string(fields[6]), 10, 64)
	return flags&exiting != 0 || bytes.ContainsAny(fields[0], "ZX")
}

// procErrorOrNil keeps what has a code already.
func procErrorOrNil(pid int, err error) error {
	var coded codedError
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return procError(pid, err)
}

func codeOf(err error) string {
	var coded codedError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return codeNoSpace
	}
	return codeInternal
}
