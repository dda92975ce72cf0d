// Package server answers the host.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"torpor/agent/container"
	"torpor/agent/events"
	"torpor/agent/metadata"
	"torpor/agent/protocol"
)

// maxConnections is far more than a host needs; what comes beyond is closed.
const maxConnections = 1024

// Workload is the container, or a test's idea of one.
type Workload interface {
	Start(*container.Spec) error
	Status() (container.State, int)
	Exited() <-chan struct{}
	// Freeze returns when the workload stands still, with or without an error within a bounded time.
	Freeze() error
	Thaw() error
}

// Identities takes an identity and knows the last one's microvm.
type Identities interface {
	Assume(*protocol.Who) error
	MicrovmID() string
}

// Server speaks the agent protocol.
type Server struct {
	Version  string
	Workload Workload
	Events   *events.Ring
	Identity Identities
	// Credentials are what the guest's metadata service tells; see CREDENTIALS.
	Credentials interface{ Set(document []byte) error }
	// OpenShell starts a shell in the workload's container; see SHELL.
	OpenShell func(*container.ShellSpec) (Shell, error)
	// Flush writes file systems out; see QUIESCE.
	Flush func(dropCaches bool) error
	// UptimeMs since the guest's boot.
	UptimeMs func() int64
	// Peer is the only address that may connect.
	Peer string
	// Loopbacks are dialled one after another to reach a port of the workload.
	Loopbacks []string
	// SocketTables are the kernel's lists of TCP sockets.
	SocketTables []string
	// LostGrace is how long the workload stays frozen by a connection that broke.
	LostGrace time.Duration

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{}

	freezing sync.Mutex
	freezers map[*net.TCPConn]struct{} // connections that keep the workload frozen
}

// Listen opens the agent's port.
func Listen(ctx context.Context, address string) (*net.TCPListener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	l, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l.(*net.TCPListener), nil
}

// Serve answers until the listener fails or the context ends.
func (s *Server) Serve(ctx context.Context, l *net.TCPListener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer s.closeAllBut(nil)
	for {
		conn, err := l.AcceptTCP()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			// What is left are passing ones (a peer that went away, no descriptors): unless the listener is gone.
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept: %w", err)
			}
			continue
		}
		if !s.admit(conn) {
			conn.Close()
			continue
		}
		go s.serveOne(conn)
	}
}

func (s *Server) admit(conn *net.TCPConn) bool {
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || peer.IP.String() != s.Peer {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConnections {
		return false
	}
	if s.conns == nil {
		s.conns = map[*net.TCPConn]struct{}{}
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) forget(conn *net.TCPConn) {
	conn.Close()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// closeAllBut ends the connections of an earlier life: their peers are gone, or are somebody else's.
func (s *Server) closeAllBut(keep *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		if conn != keep {
			_ = conn.CloseRead() // heard by those who watch it without reading
			conn.Close()
		}
	}
}

// serveOne has a connection from its beginning to its end.
func (s *Server) serveOne(conn *net.TCPConn) {
	defer s.forget(conn)
	s.letGo(conn, s.converse(conn))
}

// converse answers one connection's requests, one after another, until it ends, breaks the framing, or is taken over.
// The error says why.
func (s *Server) converse(conn *net.TCPConn) error {
	for {
		kind, payload, err := protocol.ReadFrame(conn)
		if err != nil {
			return err
		}
		switch kind {
		case protocol.Forward:
			s.forward(conn, payload)
			return nil
		case protocol.Watch:
			s.watch(conn, payload)
			return nil
		case protocol.Shell:
			s.shell(conn, payload)
			return nil
		}
		answer, err := s.answer(conn, kind, payload)
		if err != nil {
			err = protocol.WriteFrame(conn, protocol.Failure, failure(err))
		} else {
			err = protocol.WriteFrame(conn, kind|protocol.Answer, answer)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) answer(conn *net.TCPConn, kind protocol.Type, payload []byte) ([]byte, error) {
	switch kind {
	case protocol.Hello:
		return s.hello(), nil
	case protocol.Identity:
		who, err := protocol.ParseWho(payload)
		if err != nil {
			return nil, err
		}
		if err := s.Identity.Assume(&who); err != nil {
			return nil, err
		}
		s.closeAllBut(conn)
		return nil, s.thaw()
	case protocol.Start:
		spec, err := container.ParseSpec(payload)
		if err != nil {
			return nil, err
		}
		return nil, s.Workload.Start(spec)
	case protocol.Listening:
		return s.listening(payload)
	case protocol.Hook:
		return s.hook(payload)
	case protocol.Quiesce:
		return s.quiesce(payload)
	case protocol.Freeze:
		return nil, s.freeze(conn)
	case protocol.Credentials:
		if len(payload) > metadata.MaxDocument {
			return nil, invalid("CREDENTIALS: %d bytes, and %d are allowed", len(payload), metadata.MaxDocument)
		}
		return nil, s.Credentials.Set(payload)
	}
	return nil, &container.Error{Code: "unknown_request", Message: fmt.Sprintf("request type 0x%02x is not known", byte(kind))}
}

func (s *Server) hello() []byte {
	state, code := s.Workload.Status()
	b := strconv.AppendInt([]byte(`{"protocol":`), protocol.Version, 10)
	b = protocol.AppendJSONString(append(b, `,"version":`...), s.Version)
	b = strconv.AppendInt(append(b, `,"uptimeMs":`...), s.UptimeMs(), 10)
	b = protocol.AppendJSONString(append(b, `,"microvmId":`...), s.Identity.MicrovmID())
	b = protocol.AppendJSONString(append(b, `,"workload":{"state":`...), string(state))
	if state == container.Exited {
		b = strconv.AppendInt(append(b, `,"exitCode":`...), int64(code), 10)
	}
	return append(b, "}}"...)
}

// failure is an error as the host gets it.
func failure(err error) []byte {
	var coded *container.Error
	if errors.As(err, &coded) {
		return protocol.FailureJSON(coded.Code, coded.Message)
	}
	return protocol.FailureJSON("failed", err.Error())
}
