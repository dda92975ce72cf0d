package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"torpor/agent/netlink"
)

// The slot's network: the same in every guest, so that a clone needs no other.
const (
	GuestAddress = "169.254.0.2"
	HostAddress  = "169.254.0.1"
	prefixLength = 30
	// noIPv6 of eth0: there is no router for it, and every clone would begin anew to look for one and for others with
	// its address. Programs still have ::1.
	noIPv6 = "/proc/sys/net/ipv6/conf/" + Interface + "/disable_ipv6"
	// HostMAC is every slot's: the neighbour entry below is in the template's memory.
	HostMAC = "02:00:00:00:00:01"
	// Interface that leads to the host.
	Interface = "eth0"
)

// ConfigureNetwork brings lo and eth0 up, with address, default route and the host as a permanent neighbour.
func ConfigureNetwork() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	eth, err := net.InterfaceByName(Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", Interface, err)
	}
	mac, err := net.ParseMAC(HostMAC)
	if err != nil {
		return err
	}
	guest, host := net.ParseIP(GuestAddress).To4(), net.ParseIP(HostAddress).To4()
	if err := os.WriteFile(noIPv6, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a kernel without IPv6 has no such file
	}
	rt, err := netlink.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	for _, step := range []struct {
		name    string
		kind    uint16
		flags   uint16
		message []byte
	}{
		{"lo up", unix.RTM_NEWLINK, 0, linkUp(lo.Index)},
		{"eth0 up", unix.RTM_NEWLINK, 0, linkUp(eth.Index)},
		{"address", unix.RTM_NEWADDR, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, address(eth.Index, guest)},
		{"default route", unix.RTM_NEWROUTE, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, defaultRoute(eth.Index, host)},
		{"neighbour", unix.RTM_NEWNEIGH, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, neighbour(eth.Index, host, mac)},
	} {
		if err := rt.Request(step.kind, step.flags, step.message); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// The messages of rtnetlink(7): a fixed header in host byte order, then attributes.

func linkUp(index int) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)  // flags
	binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP) // which of them to change
	return b
}

func address(index int, ip net.IP) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[3] = unix.AF_INET, prefixLength, unix.RT_SCOPE_UNIVERSE
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	b = netlink.AppendAttribute(b, unix.IFA_LOCAL, ip)
	return netlink.AppendAttribute(b, unix.IFA_ADDRESS, ip)
}

func defaultRoute(index int, gateway net.IP) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[4], b[5] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT
	b[6], b[7] = unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	b = netlink.AppendAttribute(b, unix.RTA_GATEWAY, gateway)
	return netlink.AppendAttribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
}

func neighbour(index int, ip net.IP, mac net.HardwareAddr) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = unix.AF_INET
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint16(b[8:], unix.NUD_PERMANENT)
	b = netlink.AppendAttribute(b, unix.NDA_DST, ip)
	return netlink.AppendAttribute(b, unix.NDA_LLADDR, mac)
}
