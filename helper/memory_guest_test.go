package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain doubles as the "VMM" of these tests, a process that maps a file privately and obeys lines on stdin, and as
// the helper itself.
func TestMain(m *testing.M) {
	if path := os.Getenv("TORPOR_TEST_GUEST"); path != "" {
		if err := guest(path, os.Getenv("TORPOR_TEST_JAIL") != ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("TORPOR_TEST_HELPER") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	guestPages = 4096
	guestUid   = 64321
)

func guest(path string, jailed bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	// As QEMU does with all guest memory.
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		return err
	}
	for range 4 {
		go func() {
			runtime.LockOSThread()
			for {
				_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000_000}, nil)
			}
		}()
	}
	if jailed {
		if err := enterTestJail(); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		word := strings.Fields(in.Text())
		number := func(i int) int { n, _ := strconv.Atoi(word[i]); return n }
		switch word[0] {
		case "fill": // first, count, seed (0: zeros)
			for p := number(1); p < number(1)+number(2); p++ {
				fillPage(mem[p*pageSize:(p+1)*pageSize], p, number(3))
			}
		case "touch": // writes what is there
			for p := number(1); p < number(1)+number(2); p++ {
				b := (*byte)(unsafe.Pointer(&mem[p*pageSize]))
				old := *b
				*b = ^old
				runtime.KeepAlive(b)
				*b = old
			}
		case "original": // writes what the template has
			part := mem[number(1)*pageSize : (number(1)+number(2))*pageSize]
			if _, err := f.ReadAt(part, int64(number(1)*pageSize)); err != nil {
				return err
			}
		case "drop": // gives pages back
			if err := unix.Madvise(mem[number(1)*pageSize:(number(1)+number(2))*pageSize], unix.MADV_DONTNEED); err != nil {
				return err
			}
		case "sum":
			sum := sha256.Sum256(mem)
			fmt.Println(hex.EncodeToString(sum[:]))
			continue
		case "block":
			fmt.Println("blocking")
			fmt.Println(block(word[1], time.Duration(number(2))*time.Millisecond))
			continue
		case "status":
			status, _ := os.ReadFile("/proc/thread-self/status")
			fmt.Println(strings.ReplaceAll(string(status), "\n", ";"))
			continue
		}
		fmt.Println("ok")
	}
	return in.Err()
}

func fillPage(page []byte, no, seed int) {
	if seed == 0 {
		clear(page)
		return
	}
	x := uint64(seed)<<32 ^ uint64(no)*0x9e3779b97f4a7c15
	for i := 0; i < len(page); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(page[i:], x)
	}
}

// block keeps the main thread in a system call, and says how that ended.
func block(call string, d time.Duration) string {
	begin := time.Now()
	ts := unix.NsecToTimespec(d.Nanoseconds())
	var e syscall.Errno
	switch call {
	case "ppoll":
		_, _, e = unix.Syscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	case "ppoll-mask":
		mask := ^uint64(0)
		_, _, e = unix.Syscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&ts)), uintptr(unsafe.Pointer(&mask)), 8, 0)
	case "nanosleep":
		_, _, e = unix.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
	case "futex":
		var word uint32
		_, _, e = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 0, 0, uintptr(unsafe.Pointer(&ts)), 0, 0)
	case "pipe":
		var fds [2]int
		if err := unix.Pipe(fds[:]); err != nil {
			return err.Error()
		}
		go func() { time.Sleep(d); unix.Write(fds[1], []byte("x")) }()
		_, e2 := unix.Read(fds[0], make([]byte, 1))
		if e2 != nil {
			e = e2.(syscall.Errno)
		}
	case "spin": // no system call at all
		for time.Since(begin) < d {
		}
	}
	ms := time.Since(begin).Milliseconds()
	if want := d.Milliseconds(); ms < want || ms > want+400 {
		return fmt.Sprintf("errno %d after %d ms", e, ms)
	}
	return fmt.Sprintf("errno %d in time", e)
}

// enterTestJail gives up what a VMM gives up.
func enterTestJail() error {
	runtime.LockOSThread()
	if err := syscall.Setresgid(guestUid, guestUid, guestUid); err != nil {
		return err
	}
	if err := syscall.Setresuid(guestUid, guestUid, guestUid); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // for all threads, with the filter
		return err
	}
	const nr, arg0 = 0, 16 // in struct seccomp_data
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	filter := []unix.SockFilter{load(nr)}
	for _, n := range []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_WAIT4, unix.SYS_CLOSE_RANGE} {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: n, Jf: 1}, ret(unix.SECCOMP_RET_KILL_PROCESS))
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1}, ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		load(arg0),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jt: 1}, ret(unix.SECCOMP_RET_KILL_PROCESS),
		ret(unix.SECCOMP_RET_ALLOW))
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}

type testGuest struct {
	t   testing.TB
	cmd *exec.Cmd
	pid int
	in  io.Writer
	out *bufio.Scanner
}

func startGuest(t testing.TB, template string, env ...string) *testGuest {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "TORPOR_TEST_GUEST="+template), env...)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &testGuest{t, cmd, cmd.Process.Pid, in, bufio.NewScanner(out)}
	t.Cleanup(g.kill)
	g.expect("ready")
	return g
}

func startJailedGuest(t testing.TB, template string) *testGuest {
	t.Helper()
	g := startGuest(t, template, "TORPOR_TEST_JAIL=1")
	status := g.say("status")
	for _, want := range []string{"Uid:\t64321", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Fatalf("the jailed guest lacks %q: %s", want, status)
		}
	}
	return g
}

func (g *testGuest) kill() { g.cmd.Process.Kill(); g.cmd.Wait() }

func (g *testGuest) say(format string, args ...any) string {
	g.t.Helper()
	fmt.Fprintf(g.in, format+"\n", args...)
	return g.line()
}

func (g *testGuest) line() string {
	g.t.Helper()
	if !g.out.Scan() {
		g.t.Fatal("the guest ended")
	}
	return g.out.Text()
}

func (g *testGuest) expect(want string) {
	g.t.Helper()
	if got := g.line(); got != want {
		g.t.Fatalf("guest said %q, want %q", got, want)
	}
}

// makeTemplate makes a memory in which every other page is zero.
func makeTemplate(t testing.TB, dir string) string {
	t.Helper()
	data := make([]byte, guestPages*pageSize)
	rng := rand.New(rand.NewSource(1))
	for p := 0; p < guestPages; p += 2 {
		rng.Read(data[p*pageSize : (p+1)*pageSize])
	}
	path := filepath.Join(dir, "memory")
	if err := os.WriteFile(path, data, 0o444); err != nil {
		t.Fatal(err)
	}
	return path
}

// mutate changes random pages of a guest in every way in which pages change.
func (g *testGuest) mutate(rng *rand.Rand) {
	g.t.Helper()
	for range 1 + rng.Intn(40) {
		count := 1 + rng.Intn(3)
		if rng.Intn(5) == 0 {
			count = 1 + rng.Intn(900)
		}
		first := rng.Intn(guestPages - count + 1)
		switch rng.Intn(8) {
		case 0:
			g.say("fill %d %d 0", first, count)
		case 1:
			g.say("touch %d %d", first, count)
		case 2:
			g.say("original %d %d", first, count)
		case 3:
			g.say("drop %d %d", first, count)
		default:
			g.say("fill %d %d %d", first, count, 1+rng.Intn(1000))
		}
	}
	if rng.Intn(3) == 0 {
		g.say("fill %d 1 %d", guestPages-1, rng.Intn(3))
	}
}
