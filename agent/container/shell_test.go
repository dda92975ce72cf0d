package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// opened is a shell in a container, with what it has put out so far.
type opened struct {
	*Shell
	t    *testing.T
	mu   sync.Mutex
	text []*bytes.Buffer
	done sync.WaitGroup
}

func openShell(t *testing.T, r *Runner, spec ShellSpec) *opened {
	t.Helper()
	o := openUnread(t, r, spec)
	o.read()
	return o
}

func openUnread(t *testing.T, r *Runner, spec ShellSpec) *opened {
	t.Helper()
	if spec.Term == "" {
		spec.Term = defaultTerm
	}
	shell, err := r.OpenShell(&spec)
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{Shell: shell, t: t}
	t.Cleanup(func() {
		shell.Close()
		o.done.Wait()
	})
	return o
}

func (o *opened) read() {
	for _, output := range o.Outputs() {
		into := &bytes.Buffer{}
		o.text = append(o.text, into)
		o.done.Add(1)
		go func() {
			defer o.done.Done()
			chunk := make([]byte, 4096)
			for {
				n, err := output.Read(chunk)
				o.mu.Lock()
				into.Write(chunk[:n])
				o.mu.Unlock()
				if err != nil {
					if err != io.EOF && !errors.Is(err, os.ErrClosed) {
						o.t.Error(err)
					}
					return
				}
			}
		}()
	}
}

func (o *opened) said(output int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text[output].String()
}

func (o *opened) types(text string) {
	o.t.Helper()
	if _, err := o.Write([]byte(text)); err != nil {
		o.t.Fatal(err)
	}
}

// shows waits until the terminal has shown a text; what was typed is shown too, so ask for what only running it makes.
func (o *opened) shows(text string) {
	o.t.Helper()
	defer func() {
		if o.t.Failed() {
			o.t.Logf("the terminal shows %q", o.said(0))
		}
	}()
	until(o.t, fmt.Sprintf("%q on the terminal", text), func() bool { return strings.Contains(o.said(0), text) })
}

// ends waits for the shell's end and what it left on its outputs.
func (o *opened) ends() int {
	o.t.Helper()
	select {
	case <-o.Exited():
	case <-time.After(20 * time.Second):
		o.t.Fatalf("it runs on: %q", o.said(0))
	}
	o.HangUp()
	o.done.Wait()
	return o.ExitCode()
}

const idle = `echo on; sleep 1000`

// container runs one that does nothing, with the machine's own shells.
func idleContainer(t *testing.T, change func(*Spec)) *Runner {
	t.Helper()
	r := running(t, idle, change)
	said(t, r, "on")
	return r
}

func TestAShellIsRootInTheContainerWithATerminalOfItsOwn(t *testing.T) {
	r := idleContainer(t, func(s *Spec) {
		s.User, s.Workdir, s.Env = "app", "/work", []string{"COLOUR=blue", "TERM=dumb"}
	})
	o := openShell(t, r, ShellSpec{Terminal: true})
	o.types("stty -echo; PS1=; echo size=$(stty size)\n")
	o.shows("size=0 0")
	o.types(`echo "$(tty) $(id -u) $(pwd) $HOME $TERM $COLOUR $(cat /proc/1/comm) $(hostname)"` + "\n")
	o.shows("/dev/pts/0 0 /work /root xterm blue sh localhost")
	o.types(`grep CapEff /proc/self/status; ulimit -n; grep ^0: /proc/self/cgroup` + "\n")
	o.shows("00000000a80425fb\r\n100\r\n0::/shell\r\n")
	if err := o.Resize(120, 40); err != nil {
		t.Fatal(err)
	}
	o.types("echo size=$(stty size)\n")
	o.shows("size=40 120")
	o.types("exit 7\n")
	if code := o.ends(); code != 7 {
		t.Fatalf("ended with %d", code)
	}
}

func TestJobControlAndControlCharactersWork(t *testing.T) {
	o := openShell(t, idleContainer(t, nil), ShellSpec{Terminal: true, Columns: 80, Rows: 24})
	o.types("stty -echo; PS1=; set -m; trap 'echo not the shell' TERM\n")
	o.types("sh -c 'echo loop$((1+1)); exec sleep 1000'\n")
	o.shows("loop2\r\n")
	o.types("\x03")
	o.types("echo code=$?\n")
	o.shows("code=130")
	o.types("sh -c 'echo loop$((2+1)); exec sleep 1000'\n")
	o.shows("loop3\r\n")
	o.types("\x1a")
	o.shows("Stopped")
	o.types("bg; jobs; kill %1; echo size=$(stty size)\n")
	o.shows("size=24 80")
	o.types("exit 5\n")
	if code := o.ends(); code != 5 {
		t.Fatalf("ended with %d", code)
	}
}

func TestACommandHasPipesAndItsOwnExitCode(t *testing.T) {
	o := openShell(t, idleContainer(t, nil), ShellSpec{Command: []string{"sh", "-c", `cat; echo "$1" >&2; exit 3`, "sh", "a  b"}})
	o.types("through\x00the pipe")
	if err := o.EndInput(); err != nil {
		t.Fatal(err)
	}
	if code := o.ends(); code != 3 || o.said(0) != "through\x00the pipe" || o.said(1) != "a  b\n" {
		t.Fatalf("ended with %d: %q, %q", code, o.said(0), o.said(1))
	}
}

func TestASignalIsTheExitCodeOfAShell(t *testing.T) {
	r := idleContainer(t, nil)
	if code := openShell(t, r, ShellSpec{Command: []string{"sh", "-c", "kill -9 $$"}}).ends(); code != 137 {
		t.Fatalf("ended with %d", code)
	}
}

func TestTheTerminalsNameIsOneThatTheImageKnows(t *testing.T) {
	r := idleContainer(t, nil)
	dir := filepath.Join(r.Root, "usr/share/terminfo/f")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "fancy-1", "")
	for asked, want := range map[string]string{"fancy-1": "fancy-1\n", "fancy-2": "xterm\n"} {
		o := openShell(t, r, ShellSpec{Command: []string{"sh", "-c", "echo $TERM"}, Term: asked})
		if o.ends(); o.said(0) != want {
			t.Errorf("%s: %q", asked, o.said(0))
		}
	}
}

// alive counts processes by a mark in their command lines.
func alive(mark string) int {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	count := 0
	for _, name := range entries {
		if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(mark)) {
			count++
		}
	}
	return count
}

func TestAHangUpEndsAllThatIsInTheSession(t *testing.T) {
	r := idleContainer(t, nil)
	mark := strconv.Itoa(100_000 + os.Getpid())
	o := openShell(t, r, ShellSpec{Terminal: true})
	o.types("stty -echo; PS1=\n")
	// Each in a way of its own: a job, one that ignores the hang-up, one that is stopped, and one that left.
	o.types("set -m; sleep " + mark + "1 & nohup sleep " + mark + "2 >/dev/null 2>&1 &\n")
	o.types("sh -c 'kill -STOP $$; exec sleep " + mark + "3' & setsid sleep " + mark + "4 >/dev/null 2>&1 </dev/null &\n")
	o.types("echo all$((1+1))\n")
	o.shows("all2")
	until(t, "five processes", func() bool {
		return alive(mark+"1") == 1 && alive(mark+"2") == 1 && alive(mark+"3") == 1 && alive(mark+"4") == 1
	})
	before := time.Now()
	o.HangUp()
	if took := time.Since(before); took < hangUpGrace {
		t.Errorf("what ignores the hang-up had %v to end", took)
	}
	until(t, "their end", func() bool { return alive(mark+"1")+alive(mark+"2")+alive(mark+"3") == 0 })
	if alive(mark+"4") != 1 {
		t.Error("what had a session of its own was ended")
	}
	o.done.Wait()
	<-o.Exited()
	if state, _ := r.Status(); state != Running {
		t.Error("the workload was ended")
	}
}

func TestOutputEndsAlthoughADaemonHoldsIt(t *testing.T) {
	o := openShell(t, idleContainer(t, nil), ShellSpec{Command: []string{"sh", "-c", "setsid sleep 1000 & echo last"}})
	if code := o.ends(); code != 0 || o.said(0) != "last\n" {
		t.Fatalf("ended with %d: %q", code, o.said(0))
	}
}

func TestAllOutputOfAShellThatEndedCanBeRead(t *testing.T) {
	r := idleContainer(t, nil)
	for _, terminal := range []bool{false, true} {
		// Less than a terminal or pipe holds: it ends although nobody reads.
		o := openUnread(t, r, ShellSpec{Terminal: terminal, Command: []string{"sh", "-c", "head -c 3000 /dev/zero | tr '\\0' x"}})
		<-o.Exited()
		o.HangUp()
		o.read()
		o.done.Wait()
		if o.said(0) != strings.Repeat("x", 3000) {
			t.Errorf("with terminal %v: %d bytes", terminal, len(o.said(0)))
		}
	}
}

func TestAWriterWaitsForItsReader(t *testing.T) {
	r := idleContainer(t, nil)
	o := openUnread(t, r, ShellSpec{Terminal: true, Command: []string{"sh", "-c", "while :; do echo xxxxxxxx; echo x >> /ticks; done"}})
	grows(t, r, "ticks")
	var last int64 = -1
	until(t, "the writer waits", func() bool {
		now := size(t, r, "ticks")
		still := now == last
		last = now
		time.Sleep(20 * time.Millisecond)
		return still
	})
	standsStill(t, r, "ticks")
	o.read()
	grows(t, r, "ticks")
	o.HangUp()
	o.done.Wait()
}

func TestAReaderThatDoesNotReadHoldsNobodyBack(t *testing.T) {
	o := openShell(t, idleContainer(t, nil), ShellSpec{Command: []string{"sleep", "1000"}})
	failed := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = o.Write(make([]byte, 64<<10))
		}
		failed <- err
	}()
	o.HangUp()
	o.Close()
	if err := <-failed; !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
}

func TestShellsStandStillWithTheWorkload(t *testing.T) {
	r := idleContainer(t, nil)
	openShell(t, r, ShellSpec{Terminal: true, Command: []string{"sh", "-c", "while :; do echo x >> /ticks; done"}})
	grows(t, r, "ticks")
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	standsStill(t, r, "ticks")
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	grows(t, r, "ticks")
}

func TestWhatCannotBeAShellSaysWhy(t *testing.T) {
	r := runner(t)
	refused := func(spec ShellSpec, code, said string) {
		t.Helper()
		spec.Term = defaultTerm
		_, err := r.OpenShell(&spec)
		var coded *Error
		if !errors.As(err, &coded) || coded.Code != code || !strings.Contains(coded.Message, said) {
			t.Errorf("%v: %v, want %s with %s", spec.Command, err, code, said)
		}
	}
	refused(ShellSpec{}, CodeNotRunning, "does not run")
	start(t, r, idle, nil)
	refused(ShellSpec{Command: []string{"no-such-program"}}, CodeExecFailed, "executable file not found in $PATH")
	refused(ShellSpec{Command: []string{"/etc/passwd"}}, CodeExecFailed, "permission denied")
	write(t, r.Root, "lost", "#!/no/interpreter\n")
	if err := os.Chmod(filepath.Join(r.Root, "lost"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(ShellSpec{Command: []string{"/lost"}}, CodeExecFailed, "interpreter")
	for _, name := range []string{"bin/bash", "bin/sh"} {
		if err := os.Remove(filepath.Join(r.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	refused(ShellSpec{Terminal: true}, CodeNoShell, "neither /bin/bash nor /bin/sh")
	if code := openShell(t, r, ShellSpec{Command: []string{"true"}}).ends(); code != 0 {
		t.Errorf("a command ended with %d", code)
	}
}

func TestThereIsAnEndToShellsAndPlacesAreGivenBack(t *testing.T) {
	r := idleContainer(t, nil)
	var all []*opened
	for range maxShells {
		all = append(all, openShell(t, r, ShellSpec{Command: []string{"sleep", "1000"}}))
	}
	_, err := r.OpenShell(&ShellSpec{Command: []string{"true"}, Term: defaultTerm})
	var coded *Error
	if !errors.As(err, &coded) || coded.Code != CodeTooMany {
		t.Fatalf("one more: %v", err)
	}
	all[0].Close()
	openShell(t, r, ShellSpec{Command: []string{"true"}}).ends()
}

func TestAShellEndsWithItsContainer(t *testing.T) {
	r := idleContainer(t, nil)
	o := openShell(t, r, ShellSpec{Terminal: true})
	if err := os.WriteFile(filepath.Join(r.Cgroup, initGroup, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	<-r.Exited()
	if code := o.ends(); code != 137 {
		t.Fatalf("ended with %d", code)
	}
}

func TestTheSessionOfAProcess(t *testing.T) {
	for stat, want := range map[string]int{
		"12 (sh) S 1 12 77 0 -1":       77,
		"12 (a) R 1 (b)) S 1 12 78 0":  78,
		"12 (sh) Z 1 12 77 0 -1":       -1,
		"12 (sh) S 1":                  -1,
		"":                             -1,
		"12 (sh) S 1 12 many 34816 -1": -1,
	} {
		if got := sessionOf([]byte(stat)); got != want {
			t.Errorf("%q: %d, want %d", stat, got, want)
		}
	}
}

func TestShellsAreCheckedBeforeTheyAreStarted(t *testing.T) {
	for _, bad := range []string{"", "[]", `{"command":[""]}`, `{"command":["a\u0000b"]}`, `{"cols":70000}`, `{"command":"ls"}`} {
		if _, err := ParseShellSpec([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	for term, want := range map[string]string{"screen.xterm-256color": "screen.xterm-256color", "../../x": "xterm", "": "xterm", "-x": "xterm"} {
		s, err := ParseShellSpec([]byte(fmt.Sprintf(`{"terminal":true,"cols":80,"rows":24,"term":%q}`, term)))
		if err != nil || s.Term != want || s.Columns != 80 || s.Rows != 24 || !s.Terminal {
			t.Errorf("%s: %+v, %v", term, s, err)
		}
	}
}
