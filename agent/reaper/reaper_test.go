package reaper

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
)

func fork(argv ...string) func() (int, error) {
	return func() (int, error) {
		return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	}
}

func TestEachStatusGoesToWhoeverStartedTheChild(t *testing.T) {
	r := New()
	var all sync.WaitGroup
	for code := 0; code < 40; code++ {
		all.Add(1)
		go func() {
			defer all.Done()
			_, status, err := r.Start(fork("/bin/sh", "-c", "exit "+string(rune('0'+code%10))))
			if err != nil {
				t.Error(err)
				return
			}
			if got := ExitCode(<-status); got != code%10 {
				t.Errorf("ended with %d, want %d", got, code%10)
			}
		}()
	}
	all.Wait()
}

func TestASignalCountsAsShellsCountIt(t *testing.T) {
	_, status, err := New().Start(fork("/bin/sh", "-c", "kill -9 $$"))
	if err != nil {
		t.Fatal(err)
	}
	if got := ExitCode(<-status); got != 137 {
		t.Fatalf("ended with %d", got)
	}
}

func TestAForkThatFailsLeavesNothingBehind(t *testing.T) {
	r := New()
	if _, _, err := r.Start(fork("/does/not/exist")); !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("started: %v", err)
	}
	// The next child is still waited for.
	_, status, err := r.Start(fork("/bin/sh", "-c", "exit 5"))
	if err != nil {
		t.Fatal(err)
	}
	if got := ExitCode(<-status); got != 5 {
		t.Fatalf("ended with %d", got)
	}
}
