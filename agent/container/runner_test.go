package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/events"
	"torpor/agent/reaper"
)

const inNamespace = "TORPOR_TEST_IN_NAMESPACE"

// The tests run as root in a mount namespace of their own, so that what they mount goes with them. The binary is also
// the container's first process, as the agent's is.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case InitName:
		Init()
		os.Exit(127)
	case ShellName:
		EnterShell()
		return
	}
	// As PID 1 of a guest we get what loses its parent.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if os.Getuid() != 0 || os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), inNamespace+"=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS},
	})
	if err != nil {
		os.Exit(m.Run()) // no namespaces here: those tests skip themselves
	}
	state, err := child.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(state.ExitCode())
}

// rootfs is this machine's file system as a container's: written to memory, with accounts of its own.
func rootfs(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv(inNamespace) == "" {
		t.Skip("needs root and a mount namespace")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("cannot make mounts private: %v", err)
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	root := filepath.Join(dir, "root")
	for _, name := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Skipf("no overlay of /: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	write(t, root, "etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n")
	write(t, root, "etc/group", "root:x:0:\napp:x:1234:\nextra:x:777:app\n")
	return root
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	_ = os.Remove(path) // a link must not lead out
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func runner(t *testing.T) *Runner {
	root := rootfs(t)
	source := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(source, []byte("nameserver 169.254.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What images bring: a link to what a service would have written.
	_ = os.Remove(filepath.Join(root, "etc/resolv.conf"))
	if err := os.Symlink("../run/nowhere/stub.conf", filepath.Join(root, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return &Runner{
		Reaper:   reaper.New(),
		Events:   events.NewRing(1 << 20),
		Root:     root,
		Cgroup:   newGroup(t),
		Overlays: []Overlay{{Source: source, Target: "/etc/resolv.conf"}},
		// More than there is needs a privilege that root does not always have.
		OpenFiles: OpenFiles{Soft: 100, Hard: limit.Max},
	}
}

// newGroup is the name of a control group of this test's own; it goes when its last process has gone.
func newGroup(t *testing.T) string {
	t.Helper()
	hierarchy := t.TempDir()
	if err := unix.Mount("cgroup2", hierarchy, "cgroup2", 0, ""); err != nil {
		t.Skipf("no cgroup2: %v", err)
	}
	dir := filepath.Join(hierarchy, fmt.Sprintf("torpor-test-%d-%d", os.Getpid(), groups.Add(1)))
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		removed := func() bool {
			_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
				_ = os.Remove(filepath.Join(path, "inner"))
				_ = os.Remove(filepath.Join(path, initGroup))
				_ = os.Remove(filepath.Join(path, shellGroup))
				return nil
			})
			return errors.Is(os.Remove(dir), os.ErrNotExist)
		}
		for deadline := time.Now().Add(5 * time.Second); !removed(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s is still there", dir)
				break
			}
		}
		_ = unix.Unmount(hierarchy, unix.MNT_DETACH)
	})
	return dir
}

var groups atomic.Int32

// output runs a shell script to its end.
func output(t *testing.T, script string, change func(*Spec)) (stdout string, code int) {
	t.Helper()
	r := runner(t)
	s := &Spec{Argv: []string{"sh", "-c", script}, Workdir: "/new/dir", Capabilities: "default", Hostname: "localhost"}
	if change != nil {
		change(s)
	}
	if err := r.Start(s); err != nil {
		t.Fatal(err)
	}
	<-r.Exited()
	state, code := r.Status()
	if state != Exited {
		t.Fatalf("state %s", state)
	}
	all, _ := r.Events.After(0, 10_000)
	var lines []string
	for _, e := range all {
		switch e.Kind {
		case events.Stdout:
			lines = append(lines, e.Text)
		case events.Stderr:
			t.Log("stderr:", e.Text)
		}
	}
	if last := all[len(all)-1]; last.Kind != events.Exit || last.Code != code {
		t.Fatalf("the last event is %+v, and it ended with %d", last, code)
	}
	return strings.Join(lines, "\n"), code
}

func TestTheWorkloadIsPidOneInItsOwnRoot(t *testing.T) {
	got, code := output(t, `echo $$; pwd; hostname; cat /etc/resolv.conf; echo $PATH; echo $HOME; ls /proc | grep -c '^[0-9]'; exit 7`, nil)
	want := "1\n/new/dir\nlocalhost\nnameserver 169.254.0.1\n" + DefaultPath + "\n/root\n"
	// The number of processes that it sees: itself, and those of the pipe that counts them.
	if !strings.HasPrefix(got, want) || code != 7 || len(strings.TrimPrefix(got, want)) != 1 {
		t.Fatalf("ended with %d:\n%s", code, got)
	}
}

func TestTheWorkloadHasDockersCapabilities(t *testing.T) {
	status := `grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs):' /proc/self/status | tr -s '\t\n' '  '; ulimit -n`
	got, _ := output(t, status, nil)
	want := "CapInh: 0000000000000000 CapPrm: 00000000a80425fb CapEff: 00000000a80425fb CapBnd: 00000000a80425fb " +
		"CapAmb: 0000000000000000 NoNewPrivs: 0 100"
	if got != want {
		t.Errorf("root:\n%s\nwant\n%s", got, want)
	}
	got, _ = output(t, status, func(s *Spec) { s.User = "app" })
	if !strings.Contains(got, "CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 00000000a80425fb") {
		t.Errorf("app:\n%s", got)
	}
}

func TestAnotherUserHasItsGroupsHomeAndOutput(t *testing.T) {
	got, code := output(t, `id -u; id -G; echo $HOME; echo into a file > /dev/stdout; ls -ld /new/dir | cut -d' ' -f3`,
		func(s *Spec) { s.User = "app" })
	if want := "1234\n1234 777\n/home/app\ninto a file\nroot"; got != want || code != 0 {
		t.Fatalf("ended with %d:\n%s\nwant\n%s", code, got, want)
	}
}

func TestDevicesAndMountsAreThere(t *testing.T) {
	got, _ := output(t, `
		head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo null; head -c 5 /dev/urandom | wc -c
		df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; touch /sys/x 2>/dev/null || echo sys is read-only
		echo 1 2>/dev/null > /proc/sys/vm/drop_caches || echo proc is guarded; ls -l /dev/ptmx | sed 's/.*-> //'
		mount -t tmpfs x /mnt 2>/dev/null || echo no mount; ls /dev/fuse 2>/dev/null || echo no fuse`, nil)
	want := "3\nnull\n5\n65536\nsys is read-only\nproc is guarded\npts/ptmx\nno mount\nno fuse"
	if got != want {
		t.Fatalf("\n%s\nwant\n%s", got, want)
	}
}

func TestASignalIsAnExitCode(t *testing.T) {
	// PID 1 cannot kill itself by a signal that it does not handle; its child can.
	if _, code := output(t, `sh -c 'kill -9 $$'; exit $?`, nil); code != 137 {
		t.Fatalf("ended with %d", code)
	}
}

func TestProcessesEndWithTheMainProcess(t *testing.T) {
	// The background process holds the output open: it must not hold the exit back.
	if got, code := output(t, `sleep 1000 & echo main; exit 3`, nil); got != "main" || code != 3 {
		t.Fatalf("ended with %d: %s", code, got)
	}
}

func TestWhatCannotStartSaysWhyAndCanBeTriedAgain(t *testing.T) {
	r := runner(t)
	for _, c := range []struct {
		spec Spec
		code string
		said string
	}{
		{Spec{Argv: []string{"no-such-program"}}, CodeExecFailed, `"no-such-program": executable file not found in $PATH`},
		{Spec{Argv: []string{"/etc/passwd"}}, CodeExecFailed, "permission denied"},
		{Spec{Argv: []string{"/etc"}}, CodeExecFailed, "is a directory"},
		{Spec{Argv: []string{"true"}, User: "ghost"}, CodeUserUnknown, `"ghost"`},
		{Spec{Argv: []string{"true"}, User: "app:ghosts"}, CodeUserUnknown, `"ghosts"`},
		{Spec{Argv: []string{"true"}, Workdir: "/etc/passwd/below"}, CodeWorkdir, "/etc/passwd/below"},
	} {
		s := c.spec
		s.Hostname, s.Capabilities = "localhost", "default"
		if s.Workdir == "" {
			s.Workdir = "/"
		}
		err := r.Start(&s)
		var coded *Error
		if !errors.As(err, &coded) || coded.Code != c.code || !strings.Contains(coded.Message, c.said) {
			t.Errorf("%v: %v, want %s with %s", s.Argv, err, c.code, c.said)
		}
	}
	ok := &Spec{Argv: []string{"true"}, Workdir: "/", Capabilities: "default", Hostname: "localhost"}
	if err := r.Start(ok); err != nil {
		t.Fatal(err)
	}
	<-r.Exited()
	if err := r.Start(ok); err == nil {
		t.Fatal("a second container was started")
	}
}

func TestTheMountTableIsInOrder(t *testing.T) {
	position := map[string]int{}
	for i, m := range mounts {
		if m.who != privilegedOnly {
			position[m.target] = i
		}
	}
	for i, m := range mounts {
		for parent := filepath.Dir(m.target); parent != "/"; parent = filepath.Dir(parent) {
			if at, ok := position[parent]; ok && at > i {
				t.Errorf("%s is mounted before %s", m.target, parent)
			}
		}
		if m.flags&unix.MS_NOSUID == 0 {
			t.Errorf("%s allows setuid programs", m.target)
		}
	}
	if !(everybody.has(true) && everybody.has(false) && privilegedOnly.has(true) && defaultOnly.has(false)) ||
		privilegedOnly.has(false) || defaultOnly.has(true) {
		t.Error("the wrong containers get a mount")
	}
}
