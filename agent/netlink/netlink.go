// Package netlink speaks the kernel's netlink(7) as far as the agent needs it.
package netlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Socket asks one request after another.
type Socket struct {
	fd  int
	seq uint32
	buf []byte
}

// Open makes a socket of a netlink family, e.g. unix.NETLINK_ROUTE.
func Open(family int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Socket{fd: fd, buf: make([]byte, 32<<10)}, nil
}

// Close ends it.
func (s *Socket) Close() { unix.Close(s.fd) }

// Request sends a message and waits for the kernel's acknowledgement.
func (s *Socket) Request(kind, flags uint16, message []byte) error {
	if err := s.send(kind, flags|unix.NLM_F_ACK, message); err != nil {
		return err
	}
	return s.receive(nil)
}

// Dump sends a message and calls `each` for every answer. The answer is valid during the call only.
func (s *Socket) Dump(kind uint16, message []byte, each func(answer []byte)) error {
	if err := s.send(kind, unix.NLM_F_DUMP, message); err != nil {
		return err
	}
	return s.receive(each)
}

func (s *Socket) send(kind, flags uint16, message []byte) error {
	s.seq++
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(message)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, s.seq)
	b = append(binary.NativeEndian.AppendUint32(b, 0), message...)
	return unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// receive reads up to the acknowledgement or the end of the dump.
func (s *Socket) receive(each func([]byte)) error {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for b := s.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			length := int(binary.NativeEndian.Uint32(b))
			if length < unix.SizeofNlMsghdr || length > len(b) {
				return fmt.Errorf("netlink message of %d bytes in %d", length, len(b))
			}
			body := b[unix.SizeofNlMsghdr:length]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return acknowledgement(body)
			default:
				if each != nil {
					each(body)
				}
			}
			b = b[min(len(b), (length+3)&^3):]
		}
	}
}

func acknowledgement(body []byte) error {
	if len(body) < 4 {
		return fmt.Errorf("netlink acknowledgement of %d bytes", len(body))
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// AppendAttribute appends one attribute, padded.
func AppendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}
