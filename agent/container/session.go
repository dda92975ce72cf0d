package container

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hangUpGrace is how long processes have after their terminal is gone: shells write their history then.
	hangUpGrace = 2 * time.Second
	killLimit   = 5 * time.Second
	lookEvery   = 10 * time.Millisecond
)

// endSession hangs up every process of a session and kills what is left after a while. What has made a session of its
// own (setsid, a daemon) is not in it any more.
func endSession(session int) {
	signal := func(signals ...syscall.Signal) bool {
		members := sessionMembers(session)
		for _, pid := range members {
			for _, s := range signals {
				_ = syscall.Kill(pid, s)
			}
		}
		return len(members) > 0
	}
	if !signal(syscall.SIGHUP, syscall.SIGCONT) { // stopped ones must go on to hear it
		return
	}
	for deadline := time.Now().Add(hangUpGrace); time.Now().Before(deadline); time.Sleep(lookEvery) {
		if len(sessionMembers(session)) == 0 {
			return
		}
	}
	// Again and again: one that forks may have been missed.
	for deadline := time.Now().Add(killLimit); signal(syscall.SIGKILL) && time.Now().Before(deadline); {
		time.Sleep(lookEvery)
	}
}

// sessionMembers are the processes of a session that have not ended, as the agent sees their ids.
func sessionMembers(session int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var members []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err == nil && sessionOf(text) == session {
			members = append(members, pid)
		}
	}
	return members
}

// sessionOf reads `pid (name) state ppid pgrp session …`; the name may hold anything, parentheses too. One that has
// ended is in no session.
// Source: proc_pid_stat(5)
func sessionOf(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return -1
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return -1
	}
	return session
}

// stream is one output of a shell.
type stream struct {
	file     *os.File
	finished atomic.Bool
}

// Read waits for output. It ends (io.EOF) when nobody can write any more or, after the session's end, when all is read:
// a process that left the session may hold the output open for ever.
func (o *stream) Read(p []byte) (int, error) {
	for {
		finished := o.finished.Load()
		n, err := o.read(p, !finished)
		switch {
		case n > 0:
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded): // finish() wakes us: look again
			continue
		case err == nil, err == unix.EAGAIN, errors.Is(err, unix.EIO): // EIO: the other end of a terminal is closed
			return 0, io.EOF
		default:
			return 0, err
		}
	}
}

func (o *stream) read(p []byte, wait bool) (n int, err error) {
	if wait {
		return o.file.Read(p)
	}
	_ = o.file.SetReadDeadline(time.Time{})
	raw, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), p)
		return true
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

func (o *stream) finish() {
	o.finished.Store(true)
	_ = o.file.SetReadDeadline(time.Now())
}
