package server

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"torpor/agent/container"
	"torpor/agent/protocol"
)

// shell is one of which nothing is real but what the server sees.
type shell struct {
	outputs  []*io.PipeReader
	writers  []*io.PipeWriter
	typed    chan string
	ended    chan struct{}
	resized  chan [2]uint16
	exited   chan struct{}
	code     int
	hungUp   chan struct{}
	closed   chan struct{}
	hangUp   sync.Once
	close    sync.Once
	deaf     bool // it reads nothing
	blocking chan struct{}
}

func newShell() *shell {
	s := &shell{
		typed: make(chan string, 100), ended: make(chan struct{}, 1), resized: make(chan [2]uint16, 10),
		exited: make(chan struct{}), hungUp: make(chan struct{}), closed: make(chan struct{}), blocking: make(chan struct{}, 1),
	}
	for range 2 {
		r, w := io.Pipe()
		s.outputs, s.writers = append(s.outputs, r), append(s.writers, w)
	}
	return s
}

func (s *shell) Outputs() []io.Reader { return []io.Reader{s.outputs[0], s.outputs[1]} }
func (s *shell) EndInput() error      { s.ended <- struct{}{}; return nil }
func (s *shell) Write(p []byte) (int, error) {
	if s.deaf {
		s.blocking <- struct{}{}
		<-s.closed
		return 0, errors.New("closed")
	}
	s.typed <- string(p)
	return len(p), nil
}
func (s *shell) Resize(columns, rows uint16) error { s.resized <- [2]uint16{columns, rows}; return nil }
func (s *shell) Exited() <-chan struct{}           { return s.exited }
func (s *shell) ExitCode() int                     { return s.code }
func (s *shell) HangUp() {
	s.hangUp.Do(func() {
		close(s.hungUp)
		for _, w := range s.writers {
			w.Close()
		}
		select {
		case <-s.exited:
		default:
			s.code = 129
			close(s.exited)
		}
	})
}
func (s *shell) Close() { s.HangUp(); s.close.Do(func() { close(s.closed) }) }

func serveShell(t *testing.T, sh *shell, err error) *fixture {
	return serve(t, func(f *fixture) {
		f.OpenShell = func(*container.ShellSpec) (Shell, error) {
			if err != nil {
				return nil, err
			}
			return sh, nil
		}
	})
}

func TestAShellHasItsConnectionUntilItExits(t *testing.T) {
	sh := newShell()
	f := serveShell(t, sh, nil)
	conn := f.dial()
	if kind, text := f.ask(conn, protocol.Shell, `{"terminal":true}`); kind != protocol.Shell|protocol.Answer || text != "" {
		t.Fatalf("0x%02x %s", byte(kind), text)
	}
	for _, frame := range []struct {
		kind    protocol.Type
		payload string
	}{{protocol.ShellInput, "ls\n"}, {protocol.ShellResize, "\x00\x78\x00\x28"}, {protocol.ShellInputEnd, ""}} {
		if err := protocol.WriteFrame(conn, frame.kind, []byte(frame.payload)); err != nil {
			t.Fatal(err)
		}
	}
	if text := <-sh.typed; text != "ls\n" {
		t.Fatalf("typed %q", text)
	}
	if size := <-sh.resized; size != [2]uint16{120, 40} {
		t.Fatalf("resized to %v", size)
	}
	<-sh.ended
	for i, kind := range []protocol.Type{protocol.ShellOutput, protocol.ShellErrors} {
		if _, err := sh.writers[i].Write([]byte("said")); err != nil {
			t.Fatal(err)
		}
		if got, text := f.frame(conn); got != kind || text != "said" {
			t.Fatalf("0x%02x %q", byte(got), text)
		}
	}
	sh.code = 300
	close(sh.exited)
	if kind, text := f.frame(conn); kind != protocol.ShellExit || binary.BigEndian.Uint32([]byte(text)) != 300 {
		t.Fatalf("0x%02x %q", byte(kind), text)
	}
	if _, _, err := protocol.ReadFrame(conn); err != io.EOF {
		t.Fatal(err)
	}
	<-sh.closed
}

func TestAShellEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(f *fixture, conn io.ReadWriteCloser){
		"closed": func(_ *fixture, conn io.ReadWriteCloser) { conn.Close() },
		"half-closed": func(_ *fixture, conn io.ReadWriteCloser) {
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		},
		"broken": func(_ *fixture, conn io.ReadWriteCloser) {
			_ = conn.(interface{ SetLinger(int) error }).SetLinger(0)
			conn.Close()
		},
		"nonsense": func(_ *fixture, conn io.ReadWriteCloser) { _ = protocol.WriteFrame(conn, protocol.Hello, nil) },
		"bad size": func(_ *fixture, conn io.ReadWriteCloser) {
			_ = protocol.WriteFrame(conn, protocol.ShellResize, []byte{1})
		},
		"huge frame":  func(_ *fixture, conn io.ReadWriteCloser) { _, _ = conn.Write([]byte{255, 255, 255, 255}) },
		"an identity": func(f *fixture, _ io.ReadWriteCloser) { f.wants(protocol.Identity, identityPayload, "") },
	} {
		t.Run(name, func(t *testing.T) {
			sh := newShell()
			f := serveShell(t, sh, nil)
			conn := f.dial()
			f.ask(conn, protocol.Shell, "{}")
			end(f, conn)
			<-sh.closed
		})
	}
}

func TestAShellThatReadsNothingEndsWithItsConnectionTo(t *testing.T) {
	for name, end := range map[string]func(f *fixture, conn io.Closer){
		"closed":      func(_ *fixture, conn io.Closer) { conn.Close() },
		"an identity": func(f *fixture, _ io.Closer) { f.wants(protocol.Identity, identityPayload, "") },
	} {
		t.Run(name, func(t *testing.T) {
			sh := newShell()
			sh.deaf = true
			f := serveShell(t, sh, nil)
			conn := f.dial()
			f.ask(conn, protocol.Shell, "{}")
			for range 3 {
				if err := protocol.WriteFrame(conn, protocol.ShellInput, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			<-sh.blocking
			end(f, conn)
			<-sh.closed
		})
	}
}

func TestAShellWhoseOutputNobodyTakesEndsWithItsConnection(t *testing.T) {
	sh := newShell()
	f := serveShell(t, sh, nil)
	conn := f.dial()
	f.ask(conn, protocol.Shell, "{}")
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		for {
			if _, err := sh.writers[0].Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	conn.Close()
	<-sh.closed
	<-stuck
}

func TestAShellThatCannotBeOpenedSaysWhy(t *testing.T) {
	serveShell(t, nil, container.Errorf(container.CodeNoShell, "none")).refuses(protocol.Shell, "{}", "no_shell")
	serveShell(t, nil, nil).refuses(protocol.Shell, `{"command":`, "invalid")
}

var identityPayload = strings.Repeat("\x00", 56) + "\x01m"
