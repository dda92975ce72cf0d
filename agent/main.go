// torpor-agent is PID 1 of every guest, the only program of its initramfs: it makes the guest, runs the container and
// answers the host, as docs/agent-protocol.md says.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/container"
	"torpor/agent/events"
	"torpor/agent/guest"
	"torpor/agent/identity"
	"torpor/agent/metadata"
	"torpor/agent/reaper"
	"torpor/agent/server"
)

const (
	agentPort    = 4699
	metadataPort = 4698
	logBytes     = 1 << 20
	// memoryTarget keeps the agent's heap small in guests that have little: the garbage collector works harder then.
	memoryTarget = 48 << 20
)

func main() {
	switch os.Args[0] {
	case container.InitName:
		container.Init()
		os.Exit(127)
	case container.ShellName:
		container.EnterShell()
		return
	}
	if os.Getpid() != 1 {
		fmt.Println("torpor-agent " + version)
		return
	}
	// The first line on the console is the proof that a guest boots.
	fmt.Println("torpor-agent " + version)
	err := run(context.Background())
	fmt.Println("torpor-agent: fatal:", err)
	// PID 1 must not return. The VMM does not reboot: it ends.
	for {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		time.Sleep(time.Second)
	}
}

func run(ctx context.Context) error {
	debug.SetMemoryLimit(memoryTarget)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"mounts", guest.Mount},
		{"modules", func() error { return guest.LoadModules(guest.BootModules) }},
		{"network", guest.ConfigureNetwork},
		{"settings", guest.ApplySettings},
		{"files", guest.WriteFiles},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	diskErr := guest.MountDisk()
	if diskErr != nil && !errors.Is(diskErr, guest.ErrNoDisk) {
		return diskErr
	}
	files := identity.FilesIn(guest.RunDir)
	address := netip.AddrPortFrom(netip.MustParseAddr(guest.GuestAddress), agentPort)
	kernel := &identity.Kernel{Files: files, Random: "/dev/urandom", Address: address.Addr(), Port: address.Port()}
	id, err := identity.RandomID()
	if err != nil {
		return fmt.Errorf("machine id: %w", err)
	}
	if err := kernel.SetMachineID(id); err != nil {
		return fmt.Errorf("machine id: %w", err)
	}
	ring := events.NewRing(logBytes)
	credentials := &metadata.Service{Peer: guest.HostAddress}
	runner := &container.Runner{
		Reaper:    reaper.New(),
		Events:    ring,
		Root:      guest.DiskDir,
		Cgroup:    guest.WorkloadCgroup,
		Detach:    guest.Detach,
		Overlays:  overlays(files),
		OpenFiles: container.OpenFiles{Soft: 1024, Hard: 65536},
		Prepare:   func(spec *container.Spec) error { return prepare(spec, diskErr) },
	}
	s := &server.Server{
		Version:      version,
		Workload:     runner,
		OpenShell:    func(spec *container.ShellSpec) (server.Shell, error) { return runner.OpenShell(spec) },
		Events:       ring,
		Credentials:  credentials,
		Identity:     &identity.Keeper{System: kernel},
		Flush:        guest.Flush,
		UptimeMs:     uptimeMs,
		Peer:         guest.HostAddress,
		Loopbacks:    []string{"127.0.0.1", "::1", guest.GuestAddress},
		SocketTables: []string{"/proc/net/tcp", "/proc/net/tcp6"},
		LostGrace:    server.LostGrace,
	}
	listener, err := server.Listen(ctx, address.String())
	if err != nil {
		return err
	}
	metadataListener, err := server.Listen(ctx, netip.AddrPortFrom(address.Addr(), metadataPort).String())
	if err != nil {
		return err
	}
	go func() { fmt.Println("torpor-agent: metadata:", credentials.Serve(metadataListener)) }()
	return s.Serve(ctx, listener)
}

// prepare checks and loads what only a container needs.
func prepare(spec *container.Spec, diskErr error) error {
	if diskErr != nil {
		return diskErr
	}
	if spec.Capabilities == "all" {
		return guest.LoadModules(guest.ContainerModules)
	}
	return os.RemoveAll(guest.ContainerModules)
}

func overlays(files identity.Files) []container.Overlay {
	all := []container.Overlay{
		{Source: files.MachineID, Target: "/etc/machine-id"},
		{Source: files.BootID, Target: "/proc/sys/kernel/random/boot_id"},
	}
	for _, f := range guest.Files {
		all = append(all, container.Overlay{Source: filepath.Join(guest.RunDir, f.Name), Target: f.Target})
	}
	return all
}

func uptimeMs() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return now.Nano() / 1e6
}
