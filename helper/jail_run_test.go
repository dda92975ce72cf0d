package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The helper as a process of its own, as on a host. Its toolchain is this host's /usr.

const jailTestUid = 400000

// init makes the test program the helper when a test starts it as one: what runs is what ships, with nothing to build.
func init() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "jail") {
		main()
		os.Exit(0)
	}
}

// jailCommand is a jail with a name of its own; whatever the test does, nothing of it may be left.
func jailCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a jail needs root")
	}
	helper, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	toolchain := t.TempDir()
	for name, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		if _, err := os.Stat("/" + to); err == nil {
			if err := os.Symlink(to, filepath.Join(toolchain, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, dir := range []string{"usr", "mnt", "etc"} {
		if err := os.Mkdir(filepath.Join(toolchain, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("/usr", filepath.Join(toolchain, "usr"), "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	name := jailTestName(t)
	t.Cleanup(func() {
		if left := jailMembers(name); len(left) > 0 {
			t.Errorf("left in the jail: %v", left)
		}
		if out, err := exec.Command(helper, "jail-sweep", name).CombinedOutput(); err != nil {
			t.Errorf("sweep: %v: %s", err, out)
		}
		if err := syscall.Unmount(filepath.Join(toolchain, "usr"), 0); err != nil {
			t.Errorf("the toolchain is still in use: %v", err)
		}
	})
	all := []string{
		"jail", "--toolchain", toolchain, "--uid-base", strconv.Itoa(jailTestUid), "--name", name,
		"--memory-bytes", strconv.Itoa(256 << 20), "--pids", "64",
	}
	return exec.Command(helper, append(all, args...)...)
}

func jailTestName(t *testing.T) string {
	return fmt.Sprintf("gotest-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
}

// jailMembers are the processes in the named jail's cgroup.
func jailMembers(name string) []string {
	h, err := findJailHierarchies("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	members, _ := os.ReadFile(filepath.Join(h.pids, jailGroup, name, "cgroup.procs"))
	return strings.Fields(string(members))
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// startJailed starts the command and waits for its first line of output.
func startJailed(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

func TestJailExitsAsTheProgramAndReportsIt(t *testing.T) {
	for script, want := range map[string]jailStatus{
		"exit 0":                 {ExitCode: 0},
		"exit 7":                 {ExitCode: 7},
		"kill -KILL $$":          {ExitCode: 137},
		"(sleep 60 &) && exit 3": {ExitCode: 3},
		"exec /nowhere":          {ExitCode: 127},
	} {
		cmd := jailCommand(t, "--status-fd", "3", "--", "sh", "-c", script)
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = []*os.File{write}
		_ = cmd.Run()
		write.Close()
		var got jailStatus
		if err := json.NewDecoder(read).Decode(&got); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if got != want || cmd.ProcessState.ExitCode() != want.ExitCode {
			t.Errorf("%s: %+v, exit code %d, want %+v", script, got, cmd.ProcessState.ExitCode(), want)
		}
	}
}

func TestJailReportsThatAProgramIsNotThere(t *testing.T) {
	out, err := jailCommand(t, "--", "no-such-program").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no-such-program") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestJailShowsNothingOfTheHost(t *testing.T) {
	shared := t.TempDir()
	if err := os.Chown(shared, jailTestUid, jailTestUid); err != nil {
		t.Fatal(err)
	}
	cmd := jailCommand(t, "--bind", shared+":/w:rw", "--env", "GIVEN=yes", "--", "sh", "-c", `
		echo "uid $(id -u) $(tr -s ' ' </proc/self/uid_map)"
		echo "root $(ls / | tr '\n' ' ')"
		echo "pids $(ls -d /proc/[0-9]* | wc -l)"
		echo "interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' \n')"
		echo "environment $(env | cut -d= -f1 | sort | tr '\n' ' ')"
		touch /w/written
		touch /usr/x 2>/dev/null || echo usr is read-only
		mount -o remount,rw /usr 2>/dev/null || echo usr stays read-only
		umount /usr 2>/dev/null || echo usr stays
		unshare -U true 2>/dev/null || echo no namespaces
		grep -q 127.0.0.1 /proc/net/fib_trie && echo loopback works
	`)
	cmd.Env = []string{"SECRET=of the daemon"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"uid 0 0 400000 65536", "root bin dev etc lib proc run sbin sys tmp usr var w \n", "interfaces lo\n",
		"environment GIVEN HOME LC_ALL PATH PWD \n", "usr is read-only", "usr stays read-only", "usr stays\n",
		"no namespaces", "loopback works",
	} {
		if !strings.Contains(strings.NewReplacer("uid 0  0", "uid 0 0", " lib64", "").Replace(string(out)), want) {
			t.Errorf("want %q in:\n%s", want, out)
		}
	}
	info, err := os.Stat(filepath.Join(shared, "written"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != jailTestUid {
		t.Errorf("what is written belongs to %v, %v", info, err)
	}
}

func TestJailPassesTermOnThenKills(t *testing.T) {
	polite := jailCommand(t, "--grace-ms", "60000", "--", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
	startJailed(t, polite)
	if err := polite.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = polite.Wait()
	if code := polite.ProcessState.ExitCode(); code != 5 {
		t.Errorf("the program's handler: exit code %d, want 5", code)
	}

	deaf := jailCommand(t, "--grace-ms", "50", "--", "sh", "-c", "trap '' TERM; setsid sleep 600 & echo up; sleep 600")
	startJailed(t, deaf)
	if err := deaf.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = deaf.Wait()
	if code := deaf.ProcessState.ExitCode(); code != 137 {
		t.Errorf("a deaf program: exit code %d, want 137", code)
	}
}

func TestJailEndsWithItsKeeper(t *testing.T) {
	cmd := jailCommand(t, "--", "sh", "-c", "setsid sleep 600 & echo up; sleep 600")
	startJailed(t, cmd)
	if len(jailMembers(jailTestName(t))) < 3 {
		t.Fatal("the jail is empty")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitFor(t, "all in the jail have ended", func() bool { return len(jailMembers(jailTestName(t))) == 0 })
}

func TestJailEndsWithItsCaller(t *testing.T) {
	cmd := jailCommand(t, "--die-with-stdin", "--", "sh", "-c", "trap '' TERM; echo up; sleep 600")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	startJailed(t, cmd)
	stdin.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}

func TestJailSweepEndsAJailByItsName(t *testing.T) {
	cmd := jailCommand(t, "--", "sh", "-c", "echo up; sleep 600")
	startJailed(t, cmd)
	helper, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(helper, "jail-sweep", jailTestName(t)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() == 0 {
		t.Error("the swept jail says that all went well")
	}
}

func TestJailLimitsMemoryProcessesAndFiles(t *testing.T) {
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("perl is needed to eat memory")
	}
	out, err := jailCommand(t, "--", "perl", "-e", `$x = "x" x (1 << 30); print "fits\n"`).CombinedOutput()
	if err == nil || bytes.Contains(out, []byte("fits")) {
		t.Errorf("a gigabyte in 256 MiB: %v: %s", err, out)
	}
	out, _ = jailCommand(t, "--", "sh", "-c", "for i in $(seq 200); do sleep 1 & done; wait").CombinedOutput()
	if !bytes.Contains(bytes.ToLower(out), []byte("fork")) {
		t.Errorf("200 processes of 64: %s", out)
	}
	out, err = jailCommand(t, "--max-file-bytes", "1000000", "--", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=2").CombinedOutput()
	if err == nil {
		t.Errorf("a file of 2 MB of 1: %s", out)
	}
}

func TestJailStoreIsKeptAndNeverMountedTwice(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a jail needs root")
	}
	image := filepath.Join(t.TempDir(), "store.ext4")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	owner := fmt.Sprintf("root_owner=%d:%d", jailTestUid, jailTestUid)
	if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", owner, image).CombinedOutput(); err != nil {
		t.Skipf("mke2fs: %v: %s", err, out)
	}
	// The first is killed with the store mounted; the second, of the same name, comes before the kernel has let go.
	first := jailCommand(t, "--store", image, "--", "sh", "-c", "echo kept >/w/file; echo up; sleep 600")
	startJailed(t, first)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	out, err := jailCommand(t, "--store", image, "--", "cat", "/w/file").CombinedOutput()
	if err != nil || string(out) != "kept\n" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
