package server

import (
	"errors"
	"net"
	"testing"
	"time"

	"torpor/agent/protocol"
)

// freezes asks over a new connection, which stays.
func (f *fixture) freezes() *net.TCPConn {
	f.t.Helper()
	conn := f.dial()
	if kind, text := f.ask(conn, protocol.Freeze, ""); kind != protocol.Freeze|protocol.Answer || text != "" {
		f.t.Fatalf("0x%02x %s", byte(kind), text)
	}
	f.isFrozen()
	return conn
}

func (f *fixture) isFrozen() {
	f.t.Helper()
	if !f.workload.frozen.Load() {
		f.t.Fatal("the workload runs")
	}
}

func (f *fixture) thaws() {
	f.t.Helper()
	select {
	case <-f.workload.thawed:
	case <-time.After(10 * time.Second):
		f.t.Fatal("the workload is still frozen")
	}
}

// settles until the server has seen the end of connections that are closed: it forgets them at last.
func (f *fixture) settles(connections int) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		n := len(f.conns)
		f.mu.Unlock()
		if n == connections {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d connections, want %d", n, connections)
		}
	}
}

var someone = string(append(make([]byte, 8+32+16), "\x02vm"...))

func TestAWorkloadIsFrozenForAsLongAsTheConnectionLives(t *testing.T) {
	f := serve(t, nil)
	conn := f.freezes()
	// It goes on to answer, here and elsewhere.
	f.ask(conn, protocol.Hello, "")
	f.ask(f.dial(), protocol.Hello, "")
	f.isFrozen()
	conn.Close()
	f.thaws()
}

func TestAHalfCloseThawsToo(t *testing.T) {
	f := serve(t, nil)
	conn := f.freezes()
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	f.thaws()
}

func TestOfTwoThatFreezeTheLastOneThaws(t *testing.T) {
	f := serve(t, nil)
	first, second := f.freezes(), f.freezes()
	f.ask(second, protocol.Freeze, "") // twice over one connection counts once
	first.Close()
	f.settles(1)
	f.isFrozen()
	second.Close()
	f.thaws()
}

func TestAnIdentityThawsWhoeverFroze(t *testing.T) {
	f := serve(t, nil)
	first, second := f.freezes(), f.freezes()
	f.wants(protocol.Identity, someone, "")
	f.thaws()
	closed(t, first)
	closed(t, second)
	// What is frozen from here on is not thawed by those that are gone.
	f.settles(1)
	third := f.freezes()
	f.settles(2)
	f.isFrozen()
	if f.ask(third, protocol.Identity, someone); f.workload.frozen.Load() {
		t.Fatal("frozen by the connection that brought the identity")
	}
}

func TestAnIdentityThatFailsThawsNothing(t *testing.T) {
	f := serve(t, func(f *fixture) { f.identity.err = errors.New("no clock") })
	f.freezes()
	f.refuses(protocol.Identity, someone, "failed")
	f.isFrozen()
}

func TestAConnectionThatBreaksThawsOnlyAfterAWhile(t *testing.T) {
	// To a clone, the connections of its past look like this.
	reset := func(conn *net.TCPConn) {
		_ = conn.SetLinger(0)
		conn.Close()
	}
	f := serve(t, nil)
	reset(f.freezes())
	f.settles(0)
	f.isFrozen()
	f.wants(protocol.Identity, someone, "")
	f.thaws()

	f = serve(t, func(f *fixture) { f.LostGrace = time.Millisecond })
	reset(f.freezes())
	f.thaws()
}

func TestAWorkloadThatDoesNotFreezeIsNobodys(t *testing.T) {
	f := serve(t, func(f *fixture) { f.workload.freezeErr = errors.New("asleep in the kernel") })
	conn := f.dial()
	if kind, _ := f.ask(conn, protocol.Freeze, ""); kind != protocol.Failure {
		t.Fatalf("0x%02x", byte(kind))
	}
	f.ask(conn, protocol.Hello, "") // and the connection goes on
	conn.Close()
	f.settles(0)
	if len(f.workload.thawed) != 0 {
		t.Fatal("thawed by a connection that froze nothing")
	}
}
