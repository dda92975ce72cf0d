package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A frozen image is a process that was forked off a VMM by force: it shares the VMM's memory, copy on write, as it was
// at that moment, and never runs. The VMM goes on while the image is saved at leisure.
//
// ptrace answers only the thread that attached. So each image has a thread of its own, for as long as it lives; the
// kernel kills the image when that thread is gone, whatever ended it.

func init() {
	// The main thread cannot end, so it must not become an image's.
	runtime.LockOSThread()
}

type freezeRequest struct {
	requestHead
	Pid      int    `json:"pid"`
	Template string `json:"template"`
}

func (r freezeRequest) check() error { return errors.Join(checkPid(r.Pid), checkPaths(r.Template)) }

type freezeAnswer struct {
	FrozenPid int   `json:"frozenPid"`
	PauseUs   int64 `json:"pauseUs"` // for how long the process's main thread stood still
}

type thawRequest struct {
	requestHead
	FrozenPid int `json:"frozenPid"`
}

func (r thawRequest) check() error { return checkPid(r.FrozenPid) }

type thawAnswer struct{}

// frozenImages are those that this worker made.
type frozenImages struct {
	mu  sync.Mutex
	all map[int]*frozenImage
}

type frozenImage struct {
	thaw  chan struct{} // closed when the image is to end
	ended chan error
}

// freeze must only be given a process whose vCPUs stand still, or the image is of many moments.
func (f *frozenImages) freeze(r freezeRequest) (answer freezeAnswer, err error) {
	template, guest, err := openGuest(r.Pid, r.Template)
	if err != nil {
		return answer, err
	}
	defer template.Close()
	image := &frozenImage{thaw: make(chan struct{}), ended: make(chan error, 1)}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this function
		pid, pause, err := forkFrozen(guest)
		answer = freezeAnswer{pid, pause.Microseconds()}
		made <- err
		if err == nil {
			<-image.thaw
			image.ended <- killTracee(pid)
		}
	}()
	if err := <-made; err != nil {
		return freezeAnswer{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[int]*frozenImage{}
	}
	f.all[answer.FrozenPid] = image
	return answer, nil
}

// thaw ends an image. It need not be there any more, but it must have been ours.
func (f *frozenImages) thaw(r thawRequest) (thawAnswer, error) {
	f.mu.Lock()
	image := f.all[r.FrozenPid]
	delete(f.all, r.FrozenPid)
	f.mu.Unlock()
	if image == nil {
		return thawAnswer{}, gone("no frozen image %d", r.FrozenPid)
	}
	close(image.thaw)
	if err := <-image.ended; err != nil {
		return thawAnswer{}, fmt.Errorf("frozen image %d: %w", r.FrozenPid, err)
	}
	return thawAnswer{}, nil
}

// thawAll is for the end of the worker.
func (f *frozenImages) thawAll() {
	f.mu.Lock()
	pids := make([]int, 0, len(f.all))
	for pid := range f.all {
		pids = append(pids, pid)
	}
	f.mu.Unlock()
	for _, pid := range pids {
		_, _ = f.thaw(thawRequest{FrozenPid: pid})
	}
}

// killTracee ends a process that this thread traces. Its parent gets to know it as well, and has to reap it.
func killTracee(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR) || (err == nil && status.Stopped()):
		case errors.Is(err, unix.ECHILD):
			return nil
		default:
			return err
		}
	}
}
