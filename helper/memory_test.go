package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testWorker speaks the protocol with a worker in this process.
type testWorker struct {
	t     testing.TB
	in    io.WriteCloser
	ended chan error

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan answerLine
}

type answerLine struct {
	Id    uint64          `json:"id"`
	Ok    json.RawMessage `json:"ok"`
	Error string          `json:"error"`
	Code  string          `json:"code"`
}

func startWorker(t testing.TB) *testWorker {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	w := &testWorker{t: t, in: inW, ended: make(chan error, 1), calls: map[uint64]chan answerLine{}}
	go func() {
		w.ended <- serveMemory(inR, outW)
		outW.Close()
	}()
	go func() {
		for in := bufio.NewScanner(outR); in.Scan(); {
			var a answerLine
			if err := json.Unmarshal(in.Bytes(), &a); err != nil {
				t.Errorf("answer %q: %v", in.Text(), err)
			}
			w.mu.Lock()
			w.calls[a.Id] <- a
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		inW.Close()
		if err := <-w.ended; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
	return w
}

type fields map[string]any

// call returns the answer, or an error with its code.
func (w *testWorker) call(op string, f fields) (map[string]any, error) {
	w.mu.Lock()
	w.next++
	id, answer := w.next, make(chan answerLine, 1)
	w.calls[id] = answer
	w.mu.Unlock()
	all := fields{"id": id, "op": op}
	for k, v := range f {
		all[k] = v
	}
	line, _ := json.Marshal(all)
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		if a.Error != "" {
			return nil, codedError{a.Code, errors.New(a.Error)}
		}
		var ok map[string]any
		return ok, json.Unmarshal(a.Ok, &ok)
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("%s: no answer", op)
	}
}

func (w *testWorker) must(op string, f fields) map[string]any {
	w.t.Helper()
	ok, err := w.call(op, f)
	if err != nil {
		w.t.Fatalf("%s: %v", op, err)
	}
	return ok
}

// fails checks the code of a failure, and that its message has a name in it.
func (w *testWorker) fails(code, name, op string, f fields) {
	w.t.Helper()
	_, err := w.call(op, f)
	if err == nil || codeOf(err) != code || !strings.Contains(err.Error(), name) {
		w.t.Fatalf("%s: %v, want %s of %s", op, err, code, name)
	}
}

// savedChain is what a caller remembers: files with their digests.
type savedChain struct {
	paths []string
	files []fields
}

func (w *testWorker) save(pid int, template, out string, c *savedChain) map[string]any {
	w.t.Helper()
	saved := w.must("save", fields{"pid": pid, "template": template, "out": out, "parents": c.paths})
	c.paths = append(c.paths, out)
	c.files = append(c.files, fields{"path": out, "sha256": saved["sha256"], "indexSha256": saved["indexSha256"]})
	w.must("verify", fields{"path": out, "sha256": saved["sha256"]})
	if saved["livePages"].(float64) > saved["storedPages"].(float64) {
		w.t.Errorf("more pages count than there are: %v", saved)
	}
	return saved
}

// loads checks that a fresh process gets to the memory that is meant.
func (w *testWorker) loads(template string, files []fields, want string) {
	w.t.Helper()
	g := startJailedGuest(w.t, template)
	defer g.kill()
	w.must("load", fields{"pid": g.pid, "template": template, "files": files})
	if got := g.say("sum"); got != want {
		w.t.Fatalf("memory differs after load of %d files", len(files))
	}
}

func TestADiffBringsAnotherProcessToTheSameMemory(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startJailedGuest(t, template)
	g.say("fill 1 1 7")                // a hole that gets data
	g.say("fill 2 1 9")                // data that changes
	g.say("fill 4 1 0")                // data that becomes zero
	g.say("fill 5 1 0")                // a hole that is written with what it was
	g.say("fill %d 1 3", guestPages-1) // the last page
	g.say("fill 100 1600 4")           // longer than a block
	g.say("touch 2000 8")              // private, but the same
	var c savedChain
	saved := w.save(g.pid, template, filepath.Join(dir, "diff"), &c)
	for field, want := range map[string]float64{"samePages": 9, "dataPages": 1603, "livePages": 1603, "storedPages": 1603} {
		if saved[field] != want {
			t.Errorf("%s is %v, want %v", field, saved[field], want)
		}
	}
	w.loads(template, c.files, g.say("sum"))
}

func TestChainsSayWhatTheProcessHad(t *testing.T) {
	w := startWorker(t)
	for seed := int64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w.t = t
			rng, dir := rand.New(rand.NewSource(seed)), t.TempDir()
			template := makeTemplate(t, dir)
			g := startGuest(t, template)
			var c savedChain
			for n := range 6 {
				g.mutate(rng)
				want := g.say("sum")
				saved := w.save(g.pid, template, filepath.Join(dir, fmt.Sprint("diff", n)), &c)
				w.loads(template, c.files, want)
				if again := w.must("save", fields{"pid": g.pid, "template": template, "out": filepath.Join(dir, fmt.Sprint("again", n)), "parents": c.paths}); again["dataPages"] != 0.0 || again["bytes"] != float64(trailerSize) {
					t.Fatalf("a save without changes is not empty: %v", again)
				}

				out := filepath.Join(dir, fmt.Sprint("compact", n))
				compact := w.must("compact", fields{"template": template, "files": c.files, "out": out})
				if compact["dataPages"] != saved["livePages"] {
					t.Fatalf("compacted to %v pages, %v are live", compact["dataPages"], saved["livePages"])
				}
				one := []fields{{"path": out, "sha256": compact["sha256"], "indexSha256": compact["indexSha256"]}}
				w.loads(template, one, want)
				full := filepath.Join(dir, fmt.Sprint("full", n))
				if w.must("save", fields{"pid": g.pid, "template": template, "out": full})["sha256"] != compact["sha256"] {
					t.Fatal("the compacted chain is not the file that a save without parents makes")
				}
				switch rng.Intn(4) {
				case 0: // go on from the compacted file
					c = savedChain{[]string{out}, one}
				case 1: // or in a process that was loaded
					g.kill()
					g = startGuest(t, template)
					w.must("load", fields{"pid": g.pid, "template": template, "files": c.files})
				}
			}
		})
	}
}

func TestADamagedFileIsRefusedByName(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startGuest(t, template)
	g.say("fill 3 9 7")
	g.say("fill 40 2 0")
	var c savedChain
	w.save(g.pid, template, filepath.Join(dir, "first"), &c)
	g.say("fill 4 2 8")
	g.say("original 9 1")
	g.say("fill 200 1 1")
	w.save(g.pid, template, filepath.Join(dir, "second"), &c)
	target := startGuest(t, template)

	for i, file := range c.paths {
		raw, _ := os.ReadFile(file)
		bad := filepath.Join(dir, "bad")
		paths := append([]string(nil), c.paths...)
		paths[i] = bad
		files := make([]fields, len(paths)) // no digests: the checksums must do
		for j, p := range paths {
			files[j] = fields{"path": p}
		}
		dead := func(at int) bool {
			return i == 0 && (at/pageSize == 1 || at/pageSize == 2 || at/pageSize == 6) && at < 9*pageSize
		}
		write := func(contents []byte) {
			if err := os.WriteFile(bad, contents, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for at := 0; at < len(raw); at++ {
			if at < len(raw)-200 && at%511 != 0 {
				continue // every byte of the index's end, samples of the rest
			}
			flipped := bytes.Clone(raw)
			flipped[at] ^= 1 << (at % 8)
			write(flipped)
			load := fields{"pid": target.pid, "template": template, "files": files}
			if dead(at) { // newer files override these pages
				w.must("load", load)
			} else {
				w.fails(codeCorrupt, "bad", "load", load)
				w.fails(codeCorrupt, "bad", "compact", fields{"template": template, "files": files, "out": filepath.Join(dir, "never")})
			}
			w.fails(codeCorrupt, "bad", "verify", fields{"path": bad, "sha256": c.files[i]["sha256"]})
			files[i] = fields{"path": bad, "sha256": c.files[i]["sha256"]}
			w.fails(codeCorrupt, "bad", "load", load)
			files[i] = fields{"path": bad}
		}
		for _, n := range []int{0, 1, trailerSize - 1, trailerSize, pageSize, len(raw) - trailerSize, len(raw) - 1} {
			write(raw[:n])
			for _, op := range []string{"load", "compact"} {
				f := fields{"template": template, "files": files}
				if op == "load" {
					f["pid"] = target.pid
				} else {
					f["out"] = filepath.Join(dir, "never")
				}
				w.fails(codeCorrupt, "bad", op, f)
			}
			w.fails(codeCorrupt, "bad", "save", fields{"pid": g.pid, "template": template, "out": filepath.Join(dir, "never"), "parents": paths})
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("a failed compact or save left its file")
	}
	missing := fields{"path": filepath.Join(dir, "missing")}
	w.fails(codeCorrupt, "missing", "load", fields{"pid": target.pid, "template": template, "files": []fields{missing}})
	swapped := fields{"path": c.paths[0], "indexSha256": c.files[1]["indexSha256"]}
	w.fails(codeCorrupt, "first", "load", fields{"pid": target.pid, "template": template, "files": []fields{swapped}})
}

func TestAFullDiskLeavesNothing(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skip("needs root: ", err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	g := startGuest(t, template)
	g.say("fill 0 %d 5", guestPages)
	out := filepath.Join(small, "diff")
	w.fails(codeNoSpace, "diff", "save", fields{"pid": g.pid, "template": template, "out": out})
	full := filepath.Join(dir, "full")
	w.must("save", fields{"pid": g.pid, "template": template, "out": full})
	w.fails(codeNoSpace, "diff", "compact", fields{"template": template, "files": []fields{{"path": full}}, "out": out})
	if left, _ := os.ReadDir(small); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	g.say("drop 1000 3000")
	w.must("save", fields{"pid": g.pid, "template": template, "out": out})
}

func TestAnExistingFileIsNotOverwritten(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startGuest(t, template)
	out := filepath.Join(dir, "diff")
	if err := os.WriteFile(out, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.fails(codeInternal, "diff", "save", fields{"pid": g.pid, "template": template, "out": out})
	if kept, _ := os.ReadFile(out); string(kept) != "precious" {
		t.Error("it was")
	}
}

func TestAProcessThatEndedIsGone(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	g := startGuest(t, template)
	var c savedChain
	w.save(g.pid, template, filepath.Join(dir, "diff"), &c)
	g.cmd.Process.Kill() // a zombie now, and nobody after that
	for range 2 {
		eventually(t, func() bool {
			_, err := w.call("save", fields{"pid": g.pid, "template": template, "out": filepath.Join(dir, "x")})
			return err != nil && codeOf(err) == codeGone
		})
		w.fails(codeGone, "process", "load", fields{"pid": g.pid, "template": template, "files": c.files})
		w.fails(codeGone, "process", "freeze", fields{"pid": g.pid, "template": template})
		g.cmd.Wait()
	}
	w.fails(codeInternal, "not mapped", "save", fields{"pid": os.Getpid(), "template": template, "out": filepath.Join(dir, "x")})
}

func eventually(t testing.TB, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 5 s")
		}
	}
}

func TestManyRequestsAtOnce(t *testing.T) {
	w, dir := startWorker(t), t.TempDir()
	template := makeTemplate(t, dir)
	var all sync.WaitGroup
	for n := range 8 {
		g := startGuest(t, template)
		g.say("fill %d 900 %d", n*10, n+1)
		want := g.say("sum")
		to := startGuest(t, template)
		all.Add(1)
		go func() {
			defer all.Done()
			out := filepath.Join(dir, fmt.Sprint(n))
			saved, err := w.call("save", fields{"pid": g.pid, "template": template, "out": out})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := w.call("load", fields{"pid": to.pid, "template": template, "files": []fields{{"path": out, "sha256": saved["sha256"]}}}); err != nil {
				t.Error(err)
				return
			}
			if to.say("sum") != want {
				t.Errorf("guest %d got another one's memory", n)
			}
		}()
	}
	all.Wait()
}

func helper(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TORPOR_TEST_HELPER=1")
	return cmd
}

func TestTheWorkerAnswersWhatItCanAndEndsWithItsInput(t *testing.T) {
	for _, c := range []struct {
		in, out string
		exit    int
	}{
		{"", "", 0},
		{`{"id":1,"op":"nothing"}`, `{"id":1,"error":"nothing: no such op","code":"internal"}`, 0},
		{`{"id":2,"op":"verify","path":"relative","sha256":""}`, `"relative\" is not an absolute path","code":"internal"}`, 0},
		{`{"id":3,"op":"thaw","frozenPid":4,"extra":1}`, `unknown field \"extra\"","code":"internal"}`, 0},
		{`{"id":4,"op":"thaw","frozenPid":"x"}`, `"code":"internal"`, 0},
		{`{"id":5,"op":"thaw","frozenPid":1}`, `{"id":5,"error":"thaw: no frozen image 1","code":"gone"}`, 0},
		{`{"id":6,"op":"save"}`, `"code":"internal"`, 0},
		{`{"op":"save"}`, "", 2},
		{"{}", "", 2},
		{"no json", "", 2},
		{"\xff\x00", "", 2},
		{`{"id":-1}`, "", 2},
		{strings.Repeat("x", 2*maxLine), "", 2},
	} {
		cmd := helper("memory")
		cmd.Stdin = strings.NewReader(c.in + "\n")
		if c.in == "" {
			cmd.Stdin = nil
		}
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != c.exit || !strings.Contains(string(out), c.out) || (c.out == "") != (len(out) == 0) {
			t.Errorf("%.60q: exit %d and %q", c.in, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func FuzzRequestsNeverPanic(f *testing.F) {
	for _, s := range []string{`{"id":1,"op":"save","pid":1,"template":"/x","out":"/y","parents":["/z"]}`, `{"id":1,"op":"load","files":[{}]}`, `[]`, `{"id":1e3}`, "{}\n{}", `{"id":1,"op":"freeze","pid":-1}`, `{"id":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(in, []byte("/")) {
			return // files of this machine are none of its business
		}
		var out bytes.Buffer
		_ = serveMemory(bytes.NewReader(in), &out)
		for _, line := range strings.Split(out.String(), "\n") {
			if strings.Contains(line, "panic") {
				t.Fatal(line)
			}
		}
	})
}

func FuzzOpenDiffNeverBelievesTooMuch(f *testing.F) {
	f.Add([]byte(strings.Repeat("x", trailerSize)))
	f.Add(encodeIndex(nil, []entry{{1, 2, kindZero}, {7, 1, kindTemplate}}, guestPages*pageSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "diff")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openDiff(path, 0)
		if err != nil {
			return
		}
		defer d.Close()
		for _, e := range d.entries {
			if uint64(e.first)+uint64(e.count) > d.memoryBytes/pageSize {
				t.Fatalf("entry %+v is beyond memory", e)
			}
		}
	})
}
