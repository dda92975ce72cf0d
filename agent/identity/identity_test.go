package identity

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/protocol"
)

// recorder is a System that notes what is asked of it and fails where it is told to.
type recorder struct {
	steps []string
	fail  string
}

func (r *recorder) step(name string) error {
	r.steps = append(r.steps, name)
	if name == r.fail {
		return errors.New("broken")
	}
	return nil
}

func (r *recorder) Reseed([]byte) error         { return r.step("reseed") }
func (r *recorder) StepClock(int64) error       { return r.step("clock") }
func (r *recorder) SetMachineID([16]byte) error { return r.step("machine id") }
func (r *recorder) AbortOutbound() error        { return r.step("abort") }

var launched = protocol.Who{MachineID: [16]byte{1}, MicrovmID: "microvm-2"}

func TestAnIdentityIsTakenInOrder(t *testing.T) {
	system := &recorder{}
	k := &Keeper{System: system}
	if err := k.Assume(&launched); err != nil {
		t.Fatal(err)
	}
	if want := []string{"reseed", "clock", "machine id", "abort"}; !reflect.DeepEqual(system.steps, want) {
		t.Fatalf("%v, want %v", system.steps, want)
	}
	if k.MicrovmID() != "microvm-2" {
		t.Fatalf("microvm is %q", k.MicrovmID())
	}
}

func TestAResumeKeepsTheMachineID(t *testing.T) {
	system := &recorder{}
	if err := (&Keeper{System: system}).Assume(&protocol.Who{MicrovmID: "same"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"reseed", "clock", "abort"}; !reflect.DeepEqual(system.steps, want) {
		t.Fatalf("%v, want %v", system.steps, want)
	}
}

func TestAStepThatFailsEndsTheIdentity(t *testing.T) {
	for n, step := range []string{"reseed", "clock", "machine id", "abort"} {
		system := &recorder{fail: step}
		k := &Keeper{System: system}
		if err := k.Assume(&launched); err == nil || len(system.steps) != n+1 || k.MicrovmID() != "" {
			t.Errorf("%s: %v after %v, microvm %q", step, err, system.steps, k.MicrovmID())
		}
	}
}

func TestTheIDsAreRewrittenInPlace(t *testing.T) {
	files := FilesIn(t.TempDir())
	k := &Kernel{Files: files}
	if err := k.SetMachineID([16]byte{0xab}); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(files.BootID) // as a mount holds it
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	first := read(t, files.BootID)
	if err := k.SetMachineID([16]byte{0xcd, 0xef}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, files.MachineID); got != "cdef"+strings.Repeat("0", 28)+"\n" {
		t.Fatalf("machine id %q", got)
	}
	second := make([]byte, 64)
	n, _ := held.Read(second)
	if got := string(second[:n]); got == first || got != read(t, files.BootID) {
		t.Fatalf("boot id was %q, is %q to whom had it open", first, got)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n$`).MatchString(first) {
		t.Fatalf("boot id %q", first)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAClockThatIsRightIsLeftAlone(t *testing.T) {
	// Setting it would need a privilege, or change the machine that the test runs on.
	if err := (&Kernel{}).StepClock(time.Now().UnixNano()); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyConnectionsToOtherMachinesEnd(t *testing.T) {
	self := netip.MustParseAddr("169.254.0.2")
	for _, c := range []struct {
		local, peer string
		ends        bool
	}{
		{"169.254.0.2:40000", "93.184.216.34:443", true},
		{"[fe80::1]:40000", "[2606:2800::1]:443", true},
		{"[::ffff:169.254.0.2]:40000", "[::ffff:93.184.216.34]:443", true},
		{"169.254.0.2:8080", "169.254.0.1:50000", true}, // not the agent's: nothing else comes from the host
		{"169.254.0.2:4699", "169.254.0.1:50000", false},
		{"127.0.0.1:4699", "127.0.0.1:50000", false},
		{"169.254.0.2:4699", "169.254.0.2:50000", false},
		{"127.0.0.1:8080", "127.0.0.1:40000", false},
		{"[::1]:8080", "[::1]:40000", false},
		{"[::ffff:127.0.0.1]:8080", "[::ffff:127.0.0.1]:40000", false},
		{"172.17.0.1:8080", "172.17.0.1:40000", false},
	} {
		local, peer := netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.peer)
		id := make([]byte, socketIDSize)
		binary.BigEndian.PutUint16(id[sourcePortAt:], local.Port())
		family := byte(unix.AF_INET6)
		if local.Addr().Is4() {
			family = unix.AF_INET
		}
		copy(id[sourceAt:], local.Addr().AsSlice())
		copy(id[destinationAt:], peer.Addr().AsSlice())
		if got := leavesGuest(family, id, self, 4699); got != c.ends {
			t.Errorf("%s – %s: ends %v", c.local, c.peer, got)
		}
	}
}
