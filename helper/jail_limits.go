package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// jailGroup is the parent of all jails' cgroups, directly below the hierarchy's top: a later daemon finds it there.
const jailGroup = "torpor-build"

// jailHierarchies says where the cgroups of a controller are. On a host with version 2 all are the same folder.
type jailHierarchies struct {
	unified      bool
	memory, pids string
}

// jailLimits are the cgroups of one jail.
type jailLimits struct {
	hierarchies jailHierarchies
	folders     []string
}

func findJailHierarchies(mountinfo string) (jailHierarchies, error) {
	var h jailHierarchies
	file, err := os.Open(mountinfo)
	if err != nil {
		return h, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options - type source super-options
		before, after, found := strings.Cut(lines.Text(), " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !found || len(front) < 5 || len(back) < 3 {
			continue
		}
		point, options := front[4], strings.Split(back[2], ",")
		switch back[0] {
		case "cgroup":
			if slices.Contains(options, "memory") && h.memory == "" {
				h.memory = point
			}
			if slices.Contains(options, "pids") && h.pids == "" {
				h.pids = point
			}
		case "cgroup2":
			controllers, err := os.ReadFile(filepath.Join(point, "cgroup.controllers"))
			if err != nil {
				continue
			}
			names := strings.Fields(string(controllers))
			if slices.Contains(names, "memory") && slices.Contains(names, "pids") {
				return jailHierarchies{unified: true, memory: point, pids: point}, nil
			}
		}
	}
	if err := lines.Err(); err != nil {
		return h, err
	}
	if h.memory == "" || h.pids == "" {
		return h, errors.New("this host has no cgroups for memory and pids: image builds cannot be limited")
	}
	return h, nil
}

func (h jailHierarchies) tops() []string {
	if h.unified {
		return []string{h.memory}
	}
	return []string{h.memory, h.pids}
}

// makeJailLimits makes the cgroups of a named jail. Without a name there are none.
func makeJailLimits(name string, memoryBytes, pids int64) (*jailLimits, error) {
	if name == "" {
		return &jailLimits{}, nil
	}
	h, err := findJailHierarchies("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	l := &jailLimits{hierarchies: h}
	for _, top := range h.tops() {
		parent := filepath.Join(top, jailGroup)
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, fmt.Errorf("make the cgroup of builds: %w", err)
		}
		if h.unified {
			for _, folder := range []string{top, parent} {
				if err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+memory +pids"), 0o644); err != nil {
					return nil, fmt.Errorf("let builds have limits: %w", err)
				}
			}
		}
		folder := filepath.Join(parent, name)
		err := os.Mkdir(folder, 0o755)
		if errors.Is(err, fs.ErrExist) { // of a jail of that name whose keeper was killed
			if err = endCgroup(folder); err == nil {
				err = os.Mkdir(folder, 0o755)
			}
		}
		if err != nil {
			_ = l.remove()
			return nil, fmt.Errorf("make the cgroup of the build: %w", err)
		}
		l.folders = append(l.folders, folder)
	}
	if err := l.set(memoryBytes, pids); err != nil {
		_ = l.remove()
		return nil, err
	}
	return l, nil
}

func (l *jailLimits) set(memoryBytes, pids int64) error {
	memory, processes := l.folders[0], l.folders[len(l.folders)-1]
	files := []struct {
		path     string
		value    int64
		optional bool // swap accounting is not on everywhere
	}{
		{filepath.Join(memory, "memory.limit_in_bytes"), memoryBytes, false},
		{filepath.Join(memory, "memory.memsw.limit_in_bytes"), memoryBytes, true},
		{filepath.Join(processes, "pids.max"), pids, false},
	}
	if l.hierarchies.unified {
		files[0].path = filepath.Join(memory, "memory.max")
		files[1].path = filepath.Join(memory, "memory.swap.max")
		files[1].value = 0
	}
	for i, f := range files {
		if f.value == 0 && !(i == 1 && l.hierarchies.unified && memoryBytes > 0) {
			continue
		}
		err := os.WriteFile(f.path, []byte(strconv.FormatInt(f.value, 10)), 0o644)
		if err != nil && !(f.optional && errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("limit the build: %w", err)
		}
	}
	return nil
}

func (l *jailLimits) add(pid int) error {
	for _, folder := range l.folders {
		if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("put the build under its limits: %w", err)
		}
	}
	return nil
}

// oomKills reads how many processes the memory limit ended. The count is for a message: unreadable is none.
func (l *jailLimits) oomKills() int {
	if len(l.folders) == 0 {
		return 0
	}
	name := "memory.oom_control"
	if l.hierarchies.unified {
		name = "memory.events"
	}
	content, err := os.ReadFile(filepath.Join(l.folders[0], name))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(content), "\n") {
		if value, found := strings.CutPrefix(line, "oom_kill "); found {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

// remove ends what is still in the cgroups and removes them.
func (l *jailLimits) remove() error {
	for _, folder := range l.folders {
		if err := endCgroup(folder); err != nil {
			return err
		}
	}
	return nil
}

// endCgroup kills until nobody is left: between reading the list and the last kill, a fork bomb has grown.
func endCgroup(folder string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := syscall.Rmdir(folder)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove the cgroup %s: %w", folder, err)
		}
		if os.WriteFile(filepath.Join(folder, "cgroup.kill"), []byte("1"), 0o644) != nil {
			members, _ := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
			for _, line := range strings.Fields(string(members)) {
				if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// jailSweep is for a daemon's start: what an earlier one left behind ends.
func jailSweep(args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errUsage
	}
	h, err := findJailHierarchies("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, top := range h.tops() {
		entries, err := os.ReadDir(filepath.Join(top, jailGroup))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() || !strings.HasPrefix(e.Name(), args[0]) {
				continue
			}
			if err := endCgroup(filepath.Join(top, jailGroup, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
