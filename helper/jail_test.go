package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJailOptionsThatCannotBeMeant(t *testing.T) {
	whole := []string{"--toolchain", "/t", "--uid-base", "300000", "--", "true"}
	if _, err := parseJail(whole); err != nil {
		t.Fatalf("%v: %v", whole, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--uid-base", "300000", "--", "true"}, "usage"},
		{[]string{"--toolchain", "/t", "--uid-base", "300000"}, "usage"},
		{[]string{"--toolchain", "/t", "--uid-base", "1000", "--", "true"}, "at least 65536"},
		{append([]string{"--netns", "/n", "--host-net"}, whole...), "exclude"},
		{append([]string{"--pids", "9"}, whole...), "need a --name"},
		{append([]string{"--name", "a/b"}, whole...), "one word"},
		{append([]string{"--name", ".."}, whole...), "one word"},
		{append([]string{"--env", "=x"}, whole...), "K=V"},
		{append([]string{"--bind", "/a"}, whole...), "SRC:DST"},
		{append([]string{"--bind", "/a:/b:rx"}, whole...), "SRC:DST"},
		{append([]string{"--bind", "/a:b"}, whole...), "absolute"},
		{append([]string{"--bind", "/a:/b/../../c"}, whole...), "absolute and without"},
		{append([]string{"--nonsense"}, whole...), "nonsense"},
	} {
		_, err := parseJail(c.args)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestJailHierarchiesOfBothCgroupVersions(t *testing.T) {
	dir := t.TempDir()
	unified := filepath.Join(dir, "unified")
	if err := os.Mkdir(unified, 0o755); err != nil {
		t.Fatal(err)
	}
	mountinfo := filepath.Join(dir, "mountinfo")
	find := func(controllers string, lines ...string) (jailHierarchies, error) {
		t.Helper()
		for name, content := range map[string]string{
			mountinfo: strings.Join(lines, "\n") + "\n",
			filepath.Join(unified, "cgroup.controllers"): controllers + "\n",
		} {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return findJailHierarchies(mountinfo)
	}
	root := "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"
	memory := "30 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory"
	pids := "31 25 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"
	v2 := "32 25 0:28 / " + unified + " rw shared:4 - cgroup2 cgroup2 rw"

	h, err := find("", root, memory, pids, v2)
	if err != nil || h.unified || h.memory != "/sys/fs/cgroup/memory" || h.pids != "/sys/fs/cgroup/pids" {
		t.Errorf("hybrid: %+v, %v", h, err)
	}
	h, err = find("cpuset cpu io memory pids", root, v2)
	if err != nil || !h.unified || h.memory != unified {
		t.Errorf("version 2: %+v, %v", h, err)
	}
	if h, err = find("cpu", root, v2, memory); err == nil {
		t.Errorf("without pids: %+v, want an error", h)
	}
}

func TestJailLimitsInAFolder(t *testing.T) {
	for _, unified := range []bool{false, true} {
		dir := t.TempDir()
		l := &jailLimits{hierarchies: jailHierarchies{unified: unified}, folders: []string{dir}}
		names := []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max"}
		want := []string{"4096", "4096", "7"}
		events := "memory.oom_control"
		if unified {
			names = []string{"memory.max", "memory.swap.max", "pids.max"}
			want = []string{"4096", "0", "7"}
			events = "memory.events"
		}
		if err := os.WriteFile(filepath.Join(dir, events), []byte("low 0\noom_kill 3\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := l.set(4096, 7); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(got) != want[i] {
				t.Errorf("unified %v: %s is %q, %v, want %q", unified, name, got, err, want[i])
			}
		}
		if n := l.oomKills(); n != 3 {
			t.Errorf("unified %v: %d kills, want 3", unified, n)
		}
	}
}
