package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func vmmVerbs() map[string]verb {
	return map[string]verb{
		"vmm": {
			"vmm --netns PATH --tap NAME --uid N --qmp SOCKET --log FILE --record FILE [--template-memory FILE] [--kvm]\n" +
				"      --bind SRC:DST[:rw] … -- PROGRAM ARG…\n" +
				"      becomes PROGRAM in a jail; descriptor 100 is the tap, 101 the listening QMP socket; writes the record of\n" +
				"      this process and \"ready\\n\" to stdout just before",
			vmm,
		},
		"memory":       {"memory   serves requests, one JSON object a line, until stdin ends; see docs/helper-protocol.md", memory},
		"seal":         {"seal FILE   digs holes for zero pages, makes the file durable, prints its digest", seal},
		"digest":       {"digest FILE", digest},
		"checksum":     {"checksum [--cached] [--idle] [--pace BYTES] FILE …   one JSON object a file, a line each", checksum},
		"merge-layers": {"merge-layers OUT DISK-BYTES LAYER …   oldest first; OUT is one layer that reads as they do, durable", mergeLayers},
	}
}

// Descriptors that the VMM finds open. Far from the low numbers: those may be in use by the Go runtime, which dies when
// one of its own is replaced under it.
const (
	tapFd = 100
	qmpFd = 101
)

type bind struct {
	source, target string
	writable       bool
}

type binds []bind

func (b *binds) String() string { return fmt.Sprint(*b) }
func (b *binds) Set(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || (len(parts) == 3 && parts[2] != "rw") {
		return fmt.Errorf("%q is not SRC:DST[:rw]", s)
	}
	if !filepath.IsAbs(parts[0]) || !filepath.IsAbs(parts[1]) {
		return fmt.Errorf("%q: both paths must be absolute", s)
	}
	*b = append(*b, bind{parts[0], parts[1], len(parts) == 3})
	return nil
}

// vmm gives up every right that the VMM does not need, in an order in which each step still has the rights for itself,
// and execs it: the process id that the caller got from spawn is the VMM's.
func vmm(args []string) error {
	var (
		fs     = flag.NewFlagSet("vmm", flag.ContinueOnError)
		netns  = fs.String("netns", "", "")
		tap    = fs.String("tap", "tap0", "")
		uid    = fs.Int("uid", 0, "")
		qmp    = fs.String("qmp", "", "")
		log    = fs.String("log", "", "")
		record = fs.String("record", "", "")
		memory = fs.String("template-memory", "", "")
		kvm    = fs.Bool("kvm", false, "")
		mounts binds
	)
	fs.SetOutput(io.Discard)
	fs.Var(&mounts, "bind", "")
	if err := fs.Parse(args); err != nil || fs.NArg() == 0 || *netns == "" || *qmp == "" || *log == "" || *record == "" || *uid <= 0 {
		return errUsage
	}
	program := fs.Args()
	// Namespaces, capabilities and the bounding set belong to a thread; exec keeps those of the calling one.
	runtime.LockOSThread()

	logFd, err := unix.Open(*log, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", *log, err)
	}
	listener, err := listenQmp(*qmp)
	if err != nil {
		return err
	}
	tapDevice, err := openTap(*netns, *tap)
	if err != nil {
		return err
	}
	// Before the VMM is there, so that whoever comes after a crash of our caller finds it.
	if err := writeRecord(*record, *memory); err != nil {
		return err
	}
	groups := []int{}
	if *kvm {
		st, err := os.Stat("/dev/kvm")
		if err != nil {
			return err
		}
		groups = append(groups, int(st.Sys().(*syscall.Stat_t).Gid))
	}
	if err := enterRoot(mounts, *kvm); err != nil {
		return fmt.Errorf("jail: %w", err)
	}
	if err := limitResources(); err != nil {
		return err
	}
	if err := noHugePages(); err != nil {
		return err
	}
	if err := dropPrivileges(*uid, groups); err != nil {
		return err
	}
	ready, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, qmpFd+1)
	if err != nil {
		return err
	}
	for _, fd := range []struct{ from, to int }{{tapDevice, tapFd}, {listener, qmpFd}, {logFd, 1}, {logFd, 2}} {
		if err := unix.Dup3(fd.from, fd.to, 0); err != nil {
			return err
		}
	}
	if _, err := unix.Write(ready, []byte("ready\n")); err != nil {
		return err
	}
	err = syscall.Exec(program[0], program, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"})
	return fmt.Errorf("exec %s: %w", program[0], err)
}

// writeRecord says who this process is, and thus who the VMM will be: the whole file at once, durable.
func writeRecord(path, templateMemory string) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	// The name of a process can hold anything: fields are counted from behind it.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return fmt.Errorf("/proc/self/stat has %d fields", len(fields))
	}
	record := map[string]any{
		"pid": os.Getpid(), "startTime": fields[19], "bootId": strings.TrimSpace(string(boot)), "templateMemory": nil,
	}
	if templateMemory != "" {
		record["templateMemory"] = templateMemory
	}
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	return err
}

// listenQmp makes the socket before the VMM starts, so that a client can connect at once, and the VMM, which could
// not make it in its jail, gets the descriptor only.
func listenQmp(path string) (int, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	return fd, unix.Listen(fd, 1)
}

// openTap enters the slot's network namespace for good: the VMM then sees no other network either.
func openTap(netns, name string) (int, error) {
	ns, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("network namespace %s: %w", netns, err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("enter %s: %w", netns, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return -1, fmt.Errorf("tap %s in %s: %w", name, netns, err)
	}
	return fd, nil
}

// enterRoot makes a root that holds the VMM's program files read-only, the given folders, and nothing else.
func enterRoot(mounts binds, kvm bool) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Any folder that is there: what it holds is only covered up, in this namespace. What is to be bound may lie below
	// it, so bindMount works on descriptors that are opened first.
	const root = "/tmp"
	program := binds{{"/usr", "/usr", false}}
	links := map[string]string{}
	for _, path := range []string{"/bin", "/lib", "/lib64", "/sbin"} {
		if target, err := os.Readlink(path); err == nil {
			links[path] = target
		} else if _, err := os.Stat(path); err == nil {
			program = append(program, bind{path, path, false})
		}
	}
	for _, path := range []string{"/etc/ld.so.cache", "/etc/alternatives"} {
		if _, err := os.Stat(path); err == nil {
			program = append(program, bind{path, path, false})
		}
	}
	// Device nodes are bound one by one, outside of the nodev rule of the rest.
	devices := binds{{"/dev/null", "/dev/null", true}, {"/dev/zero", "/dev/zero", true}, {"/dev/urandom", "/dev/urandom", true}}
	if kvm {
		devices = append(devices, bind{"/dev/kvm", "/dev/kvm", true})
	}
	var todo []openBind
	for _, group := range []struct {
		binds binds
		flags uintptr
	}{
		{devices, unix.MS_NOSUID | unix.MS_NOEXEC},
		{program, unix.MS_NOSUID | unix.MS_NODEV},
		{mounts, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		for _, m := range group.binds {
			fd, err := unix.Open(m.source, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", m.source, err)
			}
			defer unix.Close(fd)
			todo = append(todo, openBind{m, fd, group.flags})
		}
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=64k"); err != nil {
		return err
	}
	for path, target := range links {
		if err := os.Symlink(target, root+path); err != nil {
			return err
		}
	}
	for _, m := range todo {
		if err := m.mount(root); err != nil {
			return fmt.Errorf("bind %s: %w", m.source, err)
		}
	}
	if err := os.Mkdir(root+"/old", 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, root+"/old"); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Remove("/old"); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}

// openBind is a bind whose source is held open.
type openBind struct {
	bind
	fd    int
	flags uintptr
}

func (m openBind) mount(root string) error {
	target := filepath.Join(root, m.target)
	source := fmt.Sprintf("/proc/self/fd/%d", m.fd)
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	flags := m.flags
	if !m.writable {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// noHugePages: an emulator's code buffer is written here and there, and every touch would take 2 MiB of it. What guests
// touch of their memory are single pages of the template's file in any case. Source: PR_SET_THP_DISABLE, prctl(2); an
// exec keeps it.
func noHugePages() error {
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("PR_SET_THP_DISABLE: %w", err)
	}
	return nil
}

func limitResources() error {
	for _, l := range []struct {
		what  int
		limit uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 1024}} {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.limit, Max: l.limit}); err != nil {
			return fmt.Errorf("rlimit: %w", err)
		}
	}
	return nil
}

func dropPrivileges(uid int, groups []int) error {
	last := 40 // CAP_CHECKPOINT_RESTORE; the kernel answers EINVAL for those that it does not have
	for c := 0; c <= last; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}
