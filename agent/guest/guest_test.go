package guest

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountsComeAfterWhatTheyAreMountedOn(t *testing.T) {
	position := map[string]int{}
	for i, m := range mounts {
		position[m.target] = i
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
	for _, path := range Detach {
		if _, ok := position[path]; !ok {
			t.Errorf("%s is to be detached and is not mounted", path)
		}
	}
}

func TestAContainerCanResolveNames(t *testing.T) {
	for _, f := range Files {
		if f.Target == "/etc/resolv.conf" && f.Content != "nameserver 169.254.0.1\n" {
			t.Errorf("%s is %q", f.Target, f.Content)
		}
		if !strings.HasSuffix(f.Content, "\n") {
			t.Errorf("%s has no end of line", f.Target)
		}
	}
}

func TestModulesThatAreNotThereNeedNoLoading(t *testing.T) {
	if err := LoadModules(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Fatal(err)
	}
}

func TestAModuleThatDoesNotLoadIsNamedAndKept(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"list": "odd.ko\n", "odd.ko": "not a module"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := LoadModules(dir); err == nil || !strings.Contains(err.Error(), "odd.ko") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "list")); err != nil {
		t.Fatal(err)
	}
}

// In a network namespace of its own, with a tap for the guest's interface.
func TestTheNetworkIsConfigured(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	if err := addTap(t, Interface); err != nil {
		t.Skipf("no tap: %v", err)
	}
	for round := 0; round < 2; round++ { // again is no error
		if err := ConfigureNetwork(); err != nil {
			t.Fatal(err)
		}
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp == 0 {
		t.Errorf("lo: %+v, %v", lo, err)
	}
	eth, err := net.InterfaceByName(Interface)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := eth.Addrs()
	if err != nil || !contains(addrs, "169.254.0.2/30") {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	// The thread's tables, not the process's.
	for path, want := range map[string]string{
		"/proc/thread-self/net/route": "eth0\t00000000\t0100FEA9\t0003",
		"/proc/thread-self/net/arp":   "02:00:00:00:00:01",
	} {
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q: %s %v", path, want, text, err)
		}
	}
}

func contains(addrs []net.Addr, want string) bool {
	for _, a := range addrs {
		if a.String() == want {
			return true
		}
	}
	return false
}

// addTap makes an interface that exists for as long as the test.
func addTap(t *testing.T, name string) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
}
