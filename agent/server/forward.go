package server

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"time"

	"torpor/agent/protocol"
)

const (
	// dialLimit bounds the way to a port of the guest itself: longer means that nobody accepts there.
	dialLimit     = 3 * time.Second
	forwardBuffer = 16 << 10
)

// forward makes the connection one to a port of the workload.
func (s *Server) forward(conn *net.TCPConn, payload []byte) {
	if len(payload) != 2 {
		_ = protocol.WriteFrame(conn, protocol.Failure, protocol.FailureJSON("invalid", "FORWARD wants a port of two bytes"))
		return
	}
	local, err := s.dial(int(binary.BigEndian.Uint16(payload)), time.Now().Add(dialLimit))
	if err != nil {
		_ = protocol.WriteFrame(conn, protocol.Forward|protocol.Answer, []byte{1})
		return
	}
	defer local.Close()
	if protocol.WriteFrame(conn, protocol.Forward|protocol.Answer, []byte{0}) != nil {
		return
	}
	splice(conn, local)
}

// dial tries the loopback addresses in turn: a workload may listen on one of them only. The error is the first one's:
// the others fail for other reasons, e.g. for want of IPv6.
func (s *Server) dial(port int, deadline time.Time) (*net.TCPConn, error) {
	var first error
	for _, address := range s.Loopbacks {
		d := net.Dialer{Deadline: deadline, KeepAlive: -1}
		conn, err := d.Dial("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// splice copies both ways until both have ended. An end is passed on as an end; a broken side breaks the other, so that
// nobody takes half an answer for a whole one.
func splice(a, b *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(b, a)
	}()
	pump(a, b)
	<-done
}

func pump(to, from *net.TCPConn) {
	buf := make([]byte, forwardBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				// The other side wants no more: it may still have something to say, which the other pump reads.
				_ = from.CloseRead()
				return
			}
		}
		switch {
		case err == io.EOF:
			_ = to.CloseWrite()
			return
		case err != nil:
			_ = to.SetLinger(0)
			to.Close()
			from.Close()
			return
		}
	}
}
