package guest

import (
	"fmt"
	"os"
	"path/filepath"
)

type setting struct{ path, value string }

// settings of the kernel that workloads count on: the first two as Docker has them, the third as the service does.
var settings = []setting{
	{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
	{"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"},
	{"/proc/sys/kernel/dmesg_restrict", "0"},
}

func (s setting) apply() error {
	if err := os.WriteFile(s.path, []byte(s.value), 0); err != nil {
		return fmt.Errorf("set %s to %q: %w", s.path, s.value, err)
	}
	return nil
}

// ApplySettings sets them all.
func ApplySettings() error {
	for _, s := range settings {
		if err := s.apply(); err != nil {
			return err
		}
	}
	return nil
}

// File is one that the container sees over its own.
type File struct{ Name, Target, Content string }

// Files are generated and live in RunDir.
var Files = []File{
	{"resolv.conf", "/etc/resolv.conf", "nameserver " + HostAddress + "\n"},
	{"hosts", "/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"hostname", "/etc/hostname", "localhost\n"},
}

// WriteFiles makes them.
func WriteFiles() error {
	for _, f := range Files {
		if err := os.WriteFile(filepath.Join(RunDir, f.Name), []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
