//go:build amd64

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// children lists the processes that a process has, dead ones too.
func children(t testing.TB, pid int) (all []int) {
	t.Helper()
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range processes {
		stat, _ := os.ReadFile(p)
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(strings.Split(p, "/")[2])
			all = append(all, child)
		}
	}
	return all
}

func (w *testWorker) freeze(g *testGuest, template string) int {
	w.t.Helper()
	frozen := int(w.must("freeze", fields{"pid": g.pid, "template": template})["frozenPid"].(float64))
	if all := children(w.t, g.pid); len(all) > 0 {
		w.t.Fatalf("the process has children %v now", all)
	}
	return frozen
}

// thaw ends an image.
func (w *testWorker) thaw(frozen int) {
	w.t.Helper()
	w.must("thaw", fields{"frozenPid": frozen})
	isGone(w.t, frozen)
}

// isGone accepts what waits for init to reap it, since some take their time.
func isGone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err != nil || strings.Contains(string(status), "State:\tZ") && strings.Contains(string(status), "PPid:\t1\n")
	})
}

func TestAFrozenImageStaysAsItWasWhileTheProcessGoesOn(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	rng := rand.New(rand.NewSource(7))
	var c savedChain
	for n := range 5 {
		g.mutate(rng)
		want := g.say("sum")
		frozen := w.freeze(g, template)
		for range 3 {
			g.mutate(rng)
		}
		w.save(frozen, template, filepath.Join(dir, fmt.Sprint(n)), &c)
		w.thaw(frozen)
		w.loads(template, c.files, want)
	}
	g.say("sum")
}

func TestAFrozenImageHasNothingButMemory(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	frozen := w.freeze(g, template)
	defer w.thaw(frozen)
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", frozen)); err != nil || len(open) > 0 {
		t.Errorf("descriptors: %v, %v", open, err)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", frozen))
	for _, want := range []string{"State:\tt (tracing stop)", "Threads:\t1\n", "Seccomp:\t2", "NoNewPrivs:\t1", "Uid:\t64321"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	if status, _ = os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid)); !strings.Contains(string(status), "TracerPid:\t0") {
		t.Errorf("the process is still traced:\n%s", status)
	}
	g.say("sum")
}

func TestFreezingDisturbsNoSystemCall(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	for _, call := range []string{"ppoll", "ppoll-mask", "nanosleep", "futex", "pipe", "spin"} {
		g := startJailedGuest(t, template)
		fmt.Fprintf(g.in, "block %s 500\n", call)
		g.expect("blocking")
		times := 0
		for begin := time.Now(); time.Since(begin) < 400*time.Millisecond; times++ {
			w.thaw(w.freeze(g, template))
		}
		if got := g.line(); got != map[bool]string{false: "errno 0 in time", true: "errno 110 in time"}[call == "futex"] {
			t.Errorf("%s, frozen %d times: %s", call, times, got)
		}
		if times < 5 {
			t.Errorf("%s: frozen only %d times", call, times)
		}
		g.say("sum")
		g.kill()
	}
}

func TestAFrozenImageOutlivesItsProcess(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	g.say("fill 10 3000 3")
	want := g.say("sum")
	frozen := w.freeze(g, template)
	g.kill()
	isGone(t, g.pid)
	var c savedChain
	w.save(frozen, template, filepath.Join(dir, "diff"), &c)
	w.thaw(frozen)
	eventually(t, func() bool { return errors.Is(unix.Kill(frozen, 0), unix.ESRCH) })
	w.loads(template, c.files, want)
	w.fails(codeGone, "frozen", "thaw", fields{"frozenPid": frozen})
}

func TestAFrozenImageThatWasKilledIsGone(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	frozen := w.freeze(g, template)
	unix.Kill(frozen, unix.SIGKILL)
	eventually(t, func() bool {
		_, err := w.call("save", fields{"pid": frozen, "template": template, "out": filepath.Join(dir, "x")})
		os.Remove(filepath.Join(dir, "x"))
		return err != nil && codeOf(err) == codeGone
	})
	w.thaw(frozen)
}

func TestAProcessThatIsKilledMeanwhileHangsNothing(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	rng := rand.New(rand.NewSource(3))
	for range 30 {
		g := startJailedGuest(t, template)
		var all sync.WaitGroup
		all.Add(1)
		go func() {
			defer all.Done()
			time.Sleep(time.Duration(rng.Intn(1500)) * time.Microsecond)
			g.cmd.Process.Kill()
		}()
		for {
			ok, err := w.call("freeze", fields{"pid": g.pid, "template": template})
			if err != nil {
				if codeOf(err) != codeGone {
					t.Error(err)
				}
				break
			}
			w.thaw(int(ok["frozenPid"].(float64)))
		}
		all.Wait()
		g.cmd.Wait()
	}
	eventually(t, func() bool { return len(guestProcesses(t)) == 0 })
}

// guestProcesses are the processes that run with the uid of jailed guests, and dead ones that init does not reap.
func guestProcesses(t testing.TB) (pids []string) {
	processes, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, p := range processes {
		status, _ := os.ReadFile(p)
		waits := strings.Contains(string(status), "State:\tZ") && strings.Contains(string(status), "PPid:\t1\n")
		if strings.Contains(string(status), fmt.Sprintf("Uid:\t%d", guestUid)) && !waits {
			pids = append(pids, p)
		}
	}
	return pids
}

func TestAStoppedProcessCanBeFrozenAndStaysStopped(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	stopped := func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid))
		return strings.Contains(string(status), "State:\tT (stopped)")
	}
	unix.Kill(g.pid, unix.SIGSTOP)
	eventually(t, stopped)
	w.thaw(w.freeze(g, template))
	eventually(t, stopped)
	unix.Kill(g.pid, unix.SIGCONT)
	g.say("sum")
}

// The real thing: another uid, QEMU's own sandbox, no vCPU that ever ran.
func TestQemuAnswersWhileItsImageIsSaved(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startGuest(t, template)
	g.say("fill 100 3000 5")
	var c savedChain
	want := w.save(g.pid, template, filepath.Join(dir, "diff"), &c)

	f, err := os.Open(template)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(qemu, "-S", "-M", "microvm", "-accel", "tcg", "-m", "16M", "-nodefaults", "-no-user-config", "-display", "none",
		"-object", "memory-backend-file,id=m0,size=16M,mem-path=/dev/fd/3,share=off,readonly=on,rom=off", "-machine", "memory-backend=m0",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-qmp", "stdio")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: guestUid, Gid: guestUid}}
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	q := &testGuest{t, cmd, cmd.Process.Pid, in, bufio.NewScanner(out)}
	t.Cleanup(q.kill)
	q.line() // the greeting
	q.say(`{"execute":"qmp_capabilities"}`)
	w.must("load", fields{"pid": q.pid, "template": template, "files": c.files})
	for n := range 20 {
		frozen := w.freeze(q, template)
		if got := q.say(`{"execute":"query-status"}`); !strings.Contains(got, `"prelaunch"`) {
			t.Fatalf("QMP says %s", got)
		}
		out := filepath.Join(dir, fmt.Sprint("frozen", n))
		if saved := w.must("save", fields{"pid": frozen, "template": template, "out": out}); saved["sha256"] != want["sha256"] {
			t.Fatalf("saved %v, want %v", saved, want)
		}
		w.thaw(frozen)
	}
	q.say(`{"execute":"quit"}`)
	if err := cmd.Wait(); err != nil {
		t.Errorf("QEMU: %v", err)
	}
}

func TestWithTheWorkerItsImagesEnd(t *testing.T) {
	dir := t.TempDir()
	template := makeTemplate(t, dir)
	for _, end := range []string{"killed", "end of input"} {
		g := startJailedGuest(t, template)
		cmd := helper("memory")
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(in, `{"id":1,"op":"freeze","pid":%d,"template":%q}`+"\n", g.pid, template)
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var a struct{ Ok freezeAnswer }
		if err := json.Unmarshal(line, &a); err != nil || a.Ok.FrozenPid == 0 {
			t.Fatalf("%s: %v", line, err)
		}
		if end == "killed" {
			cmd.Process.Kill()
		} else {
			in.Close()
		}
		cmd.Wait()
		isGone(t, a.Ok.FrozenPid)
		g.say("sum")
	}
}
