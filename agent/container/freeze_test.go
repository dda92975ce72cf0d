package container

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/events"
)

// running starts a script that goes on until the test ends.
func running(t *testing.T, script string, change func(*Spec)) *Runner {
	t.Helper()
	r := runner(t)
	start(t, r, script, change)
	return r
}

func start(t *testing.T, r *Runner, script string, change func(*Spec)) {
	t.Helper()
	s := &Spec{Argv: []string{"sh", "-c", script}, Workdir: "/", Capabilities: "default", Hostname: "localhost"}
	if change != nil {
		change(s)
	}
	if err := r.Start(s); err != nil {
		t.Fatal(err)
	}
}

// said waits for a line of the workload's.
func said(t *testing.T, r *Runner, line string) {
	t.Helper()
	until(t, "the line "+line, func() bool {
		all, _ := r.Events.After(0, 100_000)
		for _, e := range all {
			if e.Kind == events.Stdout && e.Text == line {
				return true
			}
		}
		return false
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}

// size of a file in the container's root, which a workload appends to.
func size(t *testing.T, r *Runner, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(r.Root, name))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// standsStill fails when a file grows that grows thousands of times a second otherwise.
func standsStill(t *testing.T, r *Runner, name string) {
	t.Helper()
	before := size(t, r, name)
	time.Sleep(50 * time.Millisecond) // there is no event for what does not happen
	if after := size(t, r, name); after != before {
		t.Fatalf("%s grew from %d to %d bytes", name, before, after)
	}
}

func grows(t *testing.T, r *Runner, name string) {
	t.Helper()
	before := size(t, r, name)
	until(t, name+" grows", func() bool { return size(t, r, name) > before })
}

const ticking = `while :; do echo x; done > /ticks & while :; do echo x; done > /more & echo on; wait`

func TestAFrozenWorkloadMakesNoProgressUntilItIsThawed(t *testing.T) {
	r := running(t, ticking, nil)
	said(t, r, "on")
	grows(t, r, "ticks")
	grows(t, r, "more")
	for range 3 {
		if err := r.Freeze(); err != nil {
			t.Fatal(err)
		}
		standsStill(t, r, "ticks")
		standsStill(t, r, "more")
		if err := r.Freeze(); err != nil { // again is no error
			t.Fatal(err)
		}
		if err := r.Thaw(); err != nil {
			t.Fatal(err)
		}
		grows(t, r, "ticks")
		grows(t, r, "more")
	}
}

func TestWithoutAWorkloadThereIsNothingToFreeze(t *testing.T) {
	r := runner(t)
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	start(t, r, "echo ran; exit 4", nil)
	<-r.Exited()
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	if state, code := r.Status(); state != Exited || code != 4 {
		t.Fatalf("%s with %d", state, code)
	}
}

func TestAWorkloadCanBeKilledWhileItIsFrozen(t *testing.T) {
	r := running(t, ticking, nil)
	said(t, r, "on")
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Cgroup, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	<-r.Exited() // the reaper gets its status, and its output ends
	if state, code := r.Status(); state != Exited || code != 137 {
		t.Fatalf("%s with %d", state, code)
	}
}

func TestManyProcessesAndAForkBombStandStill(t *testing.T) {
	// Eight that fork as fast as they can, among many that sleep.
	r := running(t, `
		for n in $(seq 300); do sleep 1000 & done
		bomb() { while :; do : | : | : & echo x >> /bomb; wait; done; }
		for n in 1 2 3 4 5 6 7 8; do bomb & done; echo on; wait`, nil)
	said(t, r, "on")
	grows(t, r, "bomb")
	for range 3 {
		begun := time.Now()
		if err := r.Freeze(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d processes frozen in %v", processes(t, r), time.Since(begun))
		standsStill(t, r, "bomb")
		if err := r.Thaw(); err != nil {
			t.Fatal(err)
		}
		grows(t, r, "bomb")
	}
}

func processes(t *testing.T, r *Runner) int {
	t.Helper()
	all, err := os.ReadFile(filepath.Join(r.Cgroup, initGroup, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(all, []byte("\n"))
}

func TestAProcessThatSleepsInTheKernelBoundsTheFreezeAndTheRestRunsOn(t *testing.T) {
	r := runner(t)
	// A file system whose server never says its first word: who looks into it sleeps and no signal wakes him.
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	silent := filepath.Join(r.Root, "silent")
	if err := os.Mkdir(silent, 0o755); err != nil {
		t.Fatal(err)
	}
	options := "rootmode=40000,user_id=0,group_id=0,fd=" + strconv.Itoa(server)
	if err := unix.Mount("silent", silent, "fuse", 0, options); err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	t.Cleanup(func() {
		unix.Close(server) // wakes the sleeper
		_ = unix.Unmount(silent, unix.MNT_DETACH)
	})
	start(t, r, `cat /silent/file & `+ticking, nil)
	said(t, r, "on")
	until(t, "a sleeper", func() bool { return sleepers(t, r) > 0 })
	grows(t, r, "ticks")
	begun := time.Now()
	err = r.Freeze()
	if took := time.Since(begun); err == nil || took < freezeLimit || took > freezeLimit+2*time.Second {
		t.Fatalf("%v after %v", err, took)
	}
	if !strings.Contains(err.Error(), "sleeps in the kernel") {
		t.Fatal(err)
	}
	grows(t, r, "ticks")
}

// sleepers counts the workload's processes in uninterruptible sleep.
func sleepers(t *testing.T, r *Runner) (n int) {
	t.Helper()
	all, err := os.ReadFile(filepath.Join(r.Cgroup, initGroup, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(all)) {
		status, _ := os.ReadFile("/proc/" + pid + "/stat")
		if bytes.Contains(status, []byte(") D ")) {
			n++
		}
	}
	return n
}

func TestAPrivilegedWorkloadHasGroupsOfItsOwnAndStandsStillWithThem(t *testing.T) {
	r := running(t, `
		grep ^0: /proc/self/cgroup; mkdir /sys/fs/cgroup/inner && echo $$ > /sys/fs/cgroup/inner/cgroup.procs && grep ^0: /proc/self/cgroup
		for name in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$name > /sys/fs/cgroup/cgroup.subtree_control || echo no $name; done
		`+ticking, func(s *Spec) { s.Capabilities = "all" })
	said(t, r, "on")
	all, _ := r.Events.After(0, 100)
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Text)
	}
	if got := strings.Join(lines, "\n"); got != "0::/init\n0::/inner\non" {
		t.Fatal(got)
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	standsStill(t, r, "ticks")
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	grows(t, r, "ticks")
}
