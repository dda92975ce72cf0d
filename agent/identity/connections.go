package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"torpor/agent/netlink"
)

// Sizes and offsets of sock_diag(7): inet_diag_req_v2 is four bytes, the states and the socket's id; inet_diag_msg is
// four bytes, the id and counters.
const (
	socketIDSize = 48
	requestSize  = 8 + socketIDSize
	messageIDAt  = 4
	// within the id
	sourcePortAt, sourceAt, destinationAt = 0, 4, 20
)

// connected are all states of TCP that have a peer who may still believe in the connection.
const connected = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_SYN_RECV |
	1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT |
	1<<unix.BPF_TCP_LAST_ACK | 1<<unix.BPF_TCP_CLOSING

// abortOutbound ends the TCP connections to other machines: their peers have forgotten them, or are also those of
// other clones. Programs get ECONNABORTED at once instead of a silence of minutes. Connections within the guest stay,
// and so do those of `keepPort`, the agent's own.
func abortOutbound(self netip.Addr, keepPort uint16) error {
	s, err := netlink.Open(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var doomed [][]byte
		all := request(family, make([]byte, socketIDSize))
		err := s.Dump(unix.SOCK_DIAG_BY_FAMILY, all, func(answer []byte) {
			if len(answer) < messageIDAt+socketIDSize {
				return
			}
			id := answer[messageIDAt : messageIDAt+socketIDSize]
			if leavesGuest(family, id, self, keepPort) {
				doomed = append(doomed, request(family, id))
			}
		})
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
		for _, one := range doomed {
			// ENOENT: it ended by itself meanwhile.
			if err := s.Request(unix.SOCK_DESTROY, 0, one); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("abort a connection: %w", err)
			}
		}
	}
	return nil
}

func request(family byte, id []byte) []byte {
	b := make([]byte, 0, requestSize)
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, connected)
	return append(b, id...)
}

func leavesGuest(family byte, id []byte, self netip.Addr, keepPort uint16) bool {
	peer, local := address(family, id[destinationAt:]), address(family, id[sourceAt:])
	if peer.IsLoopback() || peer == self || peer == local {
		return false
	}
	return !(local == self && binary.BigEndian.Uint16(id[sourcePortAt:]) == keepPort)
}

func address(family byte, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16])).Unmap()
}
