package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// jailBind shows a file or folder of the host in the jail, read-only unless it ends in `:rw`.
type jailBind struct {
	source, target string
	writable       bool
}

func parseJailBind(s string) (jailBind, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || (len(parts) == 3 && parts[2] != "rw") {
		return jailBind{}, fmt.Errorf("%q is not SRC:DST[:rw]", s)
	}
	for _, p := range parts[:2] {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return jailBind{}, fmt.Errorf("%q: both paths must be absolute and without . or ..", s)
		}
	}
	return jailBind{parts[0], parts[1], len(parts) == 3}, nil
}

// jailEtc is all that programs in the jail find of a configuration. No registry is known.
var jailEtc = map[string]string{
	"etc/passwd":                     "root:x:0:0:root:/w:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
	"etc/group":                      "root:x:0:\nnogroup:x:65534:\n",
	"etc/hosts":                      "127.0.0.1 localhost build\n::1 localhost\n",
	"etc/nsswitch.conf":              "hosts: files dns\n",
	"etc/resolv.conf":                "",
	"etc/containers/policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}` + "\n",
	"etc/containers/registries.conf": "unqualified-search-registries = []\nshort-name-mode = \"enforcing\"\n",
}

var jailFolders = []string{"usr", "proc", "sys", "dev/pts", "dev/shm", "etc/containers", "tmp", "run", "var", "w"}

var jailLinks = map[string]string{
	"var/tmp": "/tmp", "var/run": "/run",
	"dev/fd": "/proc/self/fd", "dev/stdin": "/proc/self/fd/0", "dev/stdout": "/proc/self/fd/1",
	"dev/stderr": "/proc/self/fd/2", "dev/ptmx": "pts/ptmx",
}

var jailDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// makeJailRoot builds the root on a tmpfs that only this process's mount namespace has, as the host's root: what it
// mounts, the user of the jail can neither unmount nor make writable. It returns where it built it.
func makeJailRoot(o *jailOptions) (string, error) {
	// Sources first: the new root may cover one of their folders.
	usr, err := openTree(filepath.Join(o.toolchain, "usr"))
	if err != nil {
		return "", err
	}
	defer unix.Close(usr)
	root := filepath.Join(o.toolchain, "mnt")
	tmpfs := func(target, options string, flags uintptr) error {
		data := fmt.Sprintf("%s,uid=%d,gid=%d", options, o.uidBase, o.uidBase)
		if err := unix.Mount("tmpfs", target, "tmpfs", flags, data); err != nil {
			return fmt.Errorf("mount tmpfs at %s: %w", target, err)
		}
		return nil
	}
	sources := make([]int, len(o.mounts))
	for i, b := range o.mounts {
		if sources[i], err = openTree(b.source); err != nil {
			return "", err
		}
		defer unix.Close(sources[i])
	}
	// Without flags: buildah remounts / without any, and may not take away what a more privileged user has set.
	if err := tmpfs(root, "mode=755,size=4m", 0); err != nil {
		return "", err
	}
	for _, dir := range jailFolders {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	for _, dir := range []string{"tmp", "run", "dev/shm"} {
		if err := tmpfs(filepath.Join(root, dir), "mode=1777,size=1g", unix.MS_NOSUID|unix.MS_NODEV); err != nil {
			return "", err
		}
	}
	if err := writeJailEtc(root, o); err != nil {
		return "", err
	}
	if err := linkJail(root, o.toolchain); err != nil {
		return "", err
	}
	if err := attachTree(usr, filepath.Join(root, "usr"), false); err != nil {
		return "", err
	}
	for _, name := range jailDevices {
		if err := bindDevice(filepath.Join(root, "dev", name), "/dev/"+name); err != nil {
			return "", err
		}
	}
	for i, b := range o.mounts {
		target := filepath.Join(root, b.target)
		if err := makeMountPoint(target, b.source); err != nil {
			return "", err
		}
		if err := attachTree(sources[i], target, b.writable); err != nil {
			return "", err
		}
	}
	return root, nil
}

func writeJailEtc(root string, o *jailOptions) error {
	for name, content := range jailEtc {
		if name == "etc/resolv.conf" && o.resolv != "" {
			read, err := os.ReadFile(o.resolv)
			if err != nil {
				return err
			}
			content = string(read)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	// mke2fs makes different file systems without its own defaults; buildah fetches ADD's URLs itself.
	for _, name := range []string{"etc/mke2fs.conf", "etc/ssl/certs/ca-certificates.crt"} {
		read, err := os.ReadFile(filepath.Join(o.toolchain, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		target := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, read, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// linkJail repeats the toolchain's links from / into /usr (bin, sbin, lib, lib64 as the architecture has them).
func linkJail(root, toolchain string) error {
	for name, to := range jailLinks {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(toolchain)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		to, err := os.Readlink(filepath.Join(toolchain, e.Name()))
		if err != nil {
			return err
		}
		if !strings.HasPrefix(to, "usr/") {
			continue
		}
		if err := os.Symlink(to, filepath.Join(root, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func openTree(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// attachTree mounts an opened tree, without devices and set-user-id programs.
func attachTree(fd int, target string, writable bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	if !writable {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("restrict the mount %s: %w", target, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

func bindDevice(target, source string) error {
	if err := os.WriteFile(target, nil, 0o644); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", source, err)
	}
	return nil
}

// makeMountPoint makes a file for a file and a folder for a folder, where nothing is yet.
func makeMountPoint(target, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
