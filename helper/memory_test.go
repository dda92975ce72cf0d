package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const guestPages = 1024

// TestMain doubles as the "VMM" of these tests: a process that maps a file privately and obeys lines on stdin.
func TestMain(m *testing.M) {
	if path := os.Getenv("TORPOR_TEST_GUEST"); path != "" {
		guest(path)
		return
	}
	os.Exit(m.Run())
}

func guest(path string) {
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, guestPages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var page, value int
		if n, _ := fmt.Sscanf(in.Text(), "fill %d %d", &page, &value); n == 2 {
			for i := range mem[page*pageSize : (page+1)*pageSize] {
				mem[page*pageSize+i] = byte(value)
			}
			fmt.Println("ok")
			continue
		}
		sum := sha256.Sum256(mem)
		fmt.Println(hex.EncodeToString(sum[:]))
	}
}

type testGuest struct {
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Scanner
}

func startGuest(t *testing.T, template string) *testGuest {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TORPOR_TEST_GUEST="+template)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	g := &testGuest{t, cmd.Process.Pid, in, bufio.NewScanner(out)}
	g.expect("ready")
	return g
}

func (g *testGuest) say(line string) string {
	g.t.Helper()
	fmt.Fprintln(g.in, line)
	if !g.out.Scan() {
		g.t.Fatal("the guest ended")
	}
	return g.out.Text()
}

func (g *testGuest) expect(want string) {
	g.t.Helper()
	if !g.out.Scan() || g.out.Text() != want {
		g.t.Fatalf("guest said %q, want %q", g.out.Text(), want)
	}
}

func makeTemplate(t *testing.T, dir string) string {
	t.Helper()
	data := make([]byte, guestPages*pageSize)
	rng := rand.New(rand.NewSource(1))
	for p := 0; p < guestPages; p += 2 { // every other page is a hole
		rng.Read(data[p*pageSize : (p+1)*pageSize])
	}
	path := filepath.Join(dir, "memory")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs a verb as main would and returns what it printed.
func output(t *testing.T, f func([]string) error, args ...string) (map[string]any, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	err = f(args)
	os.Stdout = old
	w.Close()
	printed, _ := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := json.Unmarshal(printed, &v); err != nil {
		t.Fatalf("printed %q: %v", printed, err)
	}
	return v, nil
}

func TestMemoryDiffBringsAnotherProcessToTheSameMemory(t *testing.T) {
	dir := t.TempDir()
	template := makeTemplate(t, dir)
	first := startGuest(t, template)
	first.say("fill 1 7")    // a hole that gets data
	first.say("fill 2 9")    // data that changes
	first.say("fill 4 0")    // data that becomes zero
	first.say("fill 5 0")    // a hole that is written with what it was
	first.say("fill 1023 3") // the last page
	for p := 100; p < 700; p++ {
		first.say(fmt.Sprintf("fill %d %d", p, p%251+1)) // longer than a chunk
	}
	want := first.say("sum")

	diff := filepath.Join(dir, "diff")
	saved, err := output(t, saveMemory, "--pid", fmt.Sprint(first.pid), "--template", template, "--out", diff)
	if err != nil {
		t.Fatal(err)
	}
	if got := saved["samePages"].(float64); got != 1 {
		t.Errorf("pages equal to the template: %v, want 1 (page 5)", got)
	}
	if got := saved["dataPages"].(float64); got != 603 {
		t.Errorf("pages with data: %v, want 603", got)
	}
	raw, _ := os.ReadFile(diff)
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != saved["sha256"] {
		t.Error("the printed sha256 is not the file's")
	}

	second := startGuest(t, template)
	if _, err := output(t, loadMemory, "--pid", fmt.Sprint(second.pid), "--template", template, "--in", diff, "--sha256", saved["sha256"].(string)); err != nil {
		t.Fatal(err)
	}
	if got := second.say("sum"); got != want {
		t.Errorf("memory differs after load: %s, want %s", got, want)
	}
}

func TestEveryFlippedByteOfADiffIsNoticed(t *testing.T) {
	dir := t.TempDir()
	template := makeTemplate(t, dir)
	g := startGuest(t, template)
	g.say("fill 3 7")
	diff := filepath.Join(dir, "diff")
	saved, err := output(t, saveMemory, "--pid", fmt.Sprint(g.pid), "--template", template, "--out", diff)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(diff)
	bad := filepath.Join(dir, "bad")
	for at := 0; at < len(raw); at += 37 {
		flipped := bytes.Clone(raw)
		flipped[at] ^= 0x40
		if err := os.WriteFile(bad, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := output(t, loadMemory, "--pid", fmt.Sprint(g.pid), "--template", template, "--in", bad, "--sha256", saved["sha256"].(string)); err == nil {
			t.Fatalf("byte %d flipped: load succeeded", at)
		}
	}
	for _, n := range []int{0, 1, trailerSize - 1, trailerSize, len(raw) - 1} {
		os.WriteFile(bad, raw[:n], 0o600)
		if _, err := output(t, loadMemory, "--pid", fmt.Sprint(g.pid), "--template", template, "--in", bad, "--sha256", saved["sha256"].(string)); err == nil {
			t.Fatalf("cut to %d bytes: load succeeded", n)
		}
	}
}

func FuzzReadDiffNeverBelievesTooMuch(f *testing.F) {
	f.Add([]byte(strings.Repeat("x", trailerSize)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "diff")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		table, err := readDiff(in, guestPages*pageSize)
		if err != nil {
			return
		}
		for _, e := range table {
			if uint64(e.first)+uint64(e.count) > guestPages {
				t.Fatalf("entry %+v is beyond memory", e)
			}
		}
	})
}

func TestSaveMemoryRefusesAProcessThatHasNotMappedTheTemplate(t *testing.T) {
	template := makeTemplate(t, t.TempDir())
	if _, err := output(t, saveMemory, "--pid", fmt.Sprint(os.Getpid()), "--template", template, "--out", filepath.Join(t.TempDir(), "d")); err == nil {
		t.Fatal("no error")
	}
}

func TestSealKeepsContentsAndDigestDoesNotDependOnHoles(t *testing.T) {
	dir := t.TempDir()
	template := makeTemplate(t, dir)
	before, _ := os.ReadFile(template)
	dense, err := output(t, digest, template)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := output(t, seal, template)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(template)
	if !bytes.Equal(before, after) {
		t.Error("sealing changed the contents")
	}
	if dense["sha256"] != sealed["sha256"] {
		t.Error("the digest depends on holes")
	}
	if got := sealed["dataBytes"].(float64); got != guestPages/2*pageSize {
		t.Errorf("%v data bytes, want %d", got, guestPages/2*pageSize)
	}
	var st unix.Stat_t
	if err := unix.Stat(template, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > guestPages/2*pageSize+1<<20 {
		t.Errorf("the file still takes %d bytes", st.Blocks*512)
	}
}
