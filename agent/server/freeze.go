package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// LostGrace is how long a workload stays frozen after a connection that froze it was lost without having been ended.
// It may be one of the time before a snapshot: then an identity is on its way, or the host ends the guest.
const LostGrace = 30 * time.Second

// keepAlive is how often the other side is asked whether it is there: it may have gone without a word.
const keepAlive = 10 * time.Second

// freeze stops the workload for as long as this connection, and whatever others freeze it, live.
func (s *Server) freeze(conn *net.TCPConn) error {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	// Also when another connection has frozen it: there may have been no workload at that time.
	if err := s.Workload.Freeze(); err != nil {
		return err
	}
	_ = conn.SetKeepAlive(true)
	_ = conn.SetKeepAlivePeriod(keepAlive)
	if s.freezers == nil {
		s.freezers = map[*net.TCPConn]struct{}{}
	}
	s.freezers[conn] = struct{}{}
	return nil
}

// thaw lets the workload go on, whoever froze it.
func (s *Server) thaw() error {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	clear(s.freezers)
	return s.Workload.Thaw()
}

// letGo ends what a connection has frozen: at once when the host ended it. That it broke says nothing about the host's
// will, because to a clone every connection of its past is broken.
func (s *Server) letGo(conn *net.TCPConn, err error) {
	s.freezing.Lock()
	_, frozen := s.freezers[conn]
	s.freezing.Unlock()
	if !frozen {
		return
	}
	if lost(conn, err) {
		time.AfterFunc(s.LostGrace, func() { s.release(conn) })
		return
	}
	s.release(conn)
}

func (s *Server) release(conn *net.TCPConn) {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	if _, frozen := s.freezers[conn]; !frozen {
		return // an identity has thawed it meanwhile
	}
	delete(s.freezers, conn)
	if len(s.freezers) > 0 {
		return
	}
	if err := s.Workload.Thaw(); err != nil {
		fmt.Println("torpor-agent: thaw:", err)
	}
}

// lost says whether a connection broke, rather than having been ended by a side of it.
func lost(conn *net.TCPConn, err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "write" {
		// An answer that nobody wants any more: the end may have come before.
		_, err = io.Copy(io.Discard, conn)
	}
	var errno syscall.Errno
	return errors.As(err, &errno)
}
