package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// who gets a mount: everybody, containers with Docker's default capabilities, or those with all.
type who int

const (
	everybody who = iota
	defaultOnly
	privilegedOnly
)

func (w who) has(privileged bool) bool {
	return w == everybody || privileged == (w == privilegedOnly)
}

type mount struct {
	who                    who
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const (
	noDevices = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	noExec    = unix.MS_NOSUID | unix.MS_NOEXEC
)

// mounts of the container, in order; data, so that a test can read it.
var mounts = []mount{
	{everybody, "proc", "/proc", "proc", noDevices, ""},
	{everybody, "tmpfs", "/dev", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=65536k"},
	{everybody, "devpts", "/dev/pts", "devpts", noExec, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{everybody, "shm", "/dev/shm", "tmpfs", noDevices, "mode=1777,size=65536k"},
	{everybody, "mqueue", "/dev/mqueue", "mqueue", noDevices, ""},
	{defaultOnly, "sysfs", "/sys", "sysfs", noDevices | unix.MS_RDONLY, ""},
	{privilegedOnly, "sysfs", "/sys", "sysfs", noDevices, ""},
	{privilegedOnly, "cgroup2", "/sys/fs/cgroup", "cgroup2", noDevices, ""},
}

// readOnly are the paths below /proc that a default container can read only, and hidden those that it sees empty. Both
// are what Docker does; the wall between tenants is the VM.
var (
	readOnly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	hidden   = []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"}
)

type device struct {
	who          who
	name         string
	major, minor uint32
}

var devices = []device{
	{everybody, "null", 1, 3},
	{everybody, "zero", 1, 5},
	{everybody, "full", 1, 7},
	{everybody, "random", 1, 8},
	{everybody, "urandom", 1, 9},
	{everybody, "tty", 5, 0},
	{privilegedOnly, "fuse", 10, 229},
}

var links = [][2]string{ // name in /dev, what it points to
	{"ptmx", "pts/ptmx"},
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
}

// Overlay is a file of ours that the container sees instead of its own.
type Overlay struct {
	Source string `json:"source"` // path in the agent's file system
	Target string `json:"target"` // path in the container
}

// enterRoot makes `root`, a mount point, this process's `/`. It is a move and not a pivot_root, which the kernel
// refuses below an initramfs; nothing of the agent's file system can be reached afterwards.
// Source: Linux Documentation/filesystems/ramfs-rootfs-initramfs.rst
func enterRoot(root string, detach []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter %s: %w", root, err)
	}
	for _, path := range detach {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach %s: %w", path, err)
		}
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", root, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// populate mounts and makes all that a container has beside its disk.
func populate(privileged bool) error {
	for _, m := range mounts {
		if !m.who.has(privileged) {
			continue
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, d := range devices {
		if !d.who.has(privileged) {
			continue
		}
		path := "/dev/" + d.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", path, err)
		}
	}
	for _, l := range links {
		if err := os.Symlink(l[1], "/dev/"+l[0]); err != nil {
			return err
		}
	}
	if privileged {
		return nil
	}
	return protectProc()
}

func protectProc() error {
	for _, path := range readOnly {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if err == unix.ENOENT {
			continue
		}
		if err == nil {
			err = unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|noDevices, "")
		}
		if err != nil {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	for _, path := range hidden {
		if err := unix.Mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil && err != unix.ENOENT {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	return nil
}

// openOverlays takes hold of the sources while they can still be named.
func openOverlays(overlays []Overlay) ([]int, error) {
	trees := make([]int, 0, len(overlays))
	for _, o := range overlays {
		tree, err := unix.OpenTree(unix.AT_FDCWD, o.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", o.Source, err)
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

// attachOverlays puts them over the container's files; what is missing there is created empty, to have a place.
func attachOverlays(overlays []Overlay, trees []int) error {
	for i, o := range overlays {
		target, err := place(o.Target)
		if err != nil {
			return err
		}
		if err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount over %s: %w", o.Target, err)
		}
		unix.Close(trees[i])
	}
	return nil
}

// place follows links to the file that a path means, and makes it if there is none. Images often come with a
// /etc/resolv.conf that points to where some service would have written it.
func place(path string) (string, error) {
	for hops := 0; hops < 16; hops++ {
		link, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !strings.HasPrefix(link, "/") {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = filepath.Clean(link)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	return path, file.Close()
}
