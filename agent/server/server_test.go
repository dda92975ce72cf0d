package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"torpor/agent/container"
	"torpor/agent/events"
	"torpor/agent/protocol"
)

// workload is a container of which nothing is real but what the server sees.
type workload struct {
	started chan *container.Spec
	err     error
	exited  chan struct{}
	code    int

	frozen    atomic.Bool
	freezeErr error
	thawed    chan struct{}
}

func (w *workload) Freeze() error {
	w.frozen.Store(w.freezeErr == nil)
	return w.freezeErr
}

func (w *workload) Thaw() error {
	w.frozen.Store(false)
	w.thawed <- struct{}{}
	return nil
}

func (w *workload) Start(s *container.Spec) error {
	if w.err == nil {
		w.started <- s
	}
	return w.err
}

func (w *workload) Exited() <-chan struct{} { return w.exited }

func (w *workload) Status() (container.State, int) {
	select {
	case <-w.exited:
		return container.Exited, w.code
	default:
		return container.Running, 0
	}
}

type identities struct {
	who *protocol.Who
	err error
}

func (i *identities) Assume(w *protocol.Who) error { i.who = w; return i.err }
func (i *identities) MicrovmID() string {
	if i.who == nil {
		return ""
	}
	return i.who.MicrovmID
}

type credentials struct{ document []byte }

func (c *credentials) Set(document []byte) error { c.document = document; return nil }

type fixture struct {
	*Server
	t        *testing.T
	address  string
	workload *workload
	identity *identities
	told     *credentials
	flushed  []bool
}

// serve runs a server on loopback until the test ends.
func serve(t *testing.T, change func(*fixture)) *fixture {
	t.Helper()
	f := &fixture{
		t:        t,
		workload: &workload{started: make(chan *container.Spec, 1), exited: make(chan struct{}), thawed: make(chan struct{}, 10)},
		identity: &identities{},
		told:     &credentials{},
	}
	f.Server = &Server{
		Version:     "1.2.3",
		Workload:    f.workload,
		Events:      events.NewRing(1 << 20),
		Identity:    f.identity,
		Credentials: f.told,
		Flush:       func(drop bool) error { f.flushed = append(f.flushed, drop); return nil },
		UptimeMs:    func() int64 { return 77 },
		Peer:        "127.0.0.1",
		Loopbacks:   []string{"127.0.0.1", "::1"},
		LostGrace:   time.Hour,
	}
	if change != nil {
		change(f)
	}
	ctx, stop := context.WithCancel(context.Background())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("serve ended with %v", err)
		}
	})
	return f
}

func (f *fixture) dial() *net.TCPConn {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		f.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func (f *fixture) ask(conn net.Conn, kind protocol.Type, payload string) (protocol.Type, string) {
	f.t.Helper()
	if err := protocol.WriteFrame(conn, kind, []byte(payload)); err != nil {
		f.t.Fatal(err)
	}
	return f.frame(conn)
}

func (f *fixture) frame(conn net.Conn) (protocol.Type, string) {
	f.t.Helper()
	kind, payload, err := protocol.ReadFrame(conn)
	if err != nil {
		f.t.Fatal(err)
	}
	return kind, string(payload)
}

// wants asks over a new connection and compares.
func (f *fixture) wants(kind protocol.Type, payload, answer string) {
	f.t.Helper()
	if got, text := f.ask(f.dial(), kind, payload); got != kind|protocol.Answer || text != answer {
		f.t.Fatalf("answer 0x%02x %s, want %s", byte(got), text, answer)
	}
}

// refuses asks and wants a failure with a code.
func (f *fixture) refuses(kind protocol.Type, payload, code string) {
	f.t.Helper()
	got, text := f.ask(f.dial(), kind, payload)
	var said struct{ Error, Code string }
	if err := json.Unmarshal([]byte(text), &said); err != nil || got != protocol.Failure || said.Code != code || said.Error == "" {
		f.t.Fatalf("answer 0x%02x %s, want code %s", byte(got), text, code)
	}
}

func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, conn); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, then %v: want the end of the connection", n, err)
	}
}

func TestHelloSaysWhoAnswers(t *testing.T) {
	f := serve(t, nil)
	f.wants(protocol.Hello, "", `{"protocol":1,"version":"1.2.3","uptimeMs":77,"microvmId":"","workload":{"state":"running"}}`)
	f.workload.code = 137
	close(f.workload.exited)
	f.wants(protocol.Hello, "", `{"protocol":1,"version":"1.2.3","uptimeMs":77,"microvmId":"","workload":{"state":"exited","exitCode":137}}`)
}

func TestAConnectionCarriesRequestsOneAfterAnother(t *testing.T) {
	f := serve(t, nil)
	conn := f.dial()
	two := protocol.AppendFrame(protocol.AppendFrame(nil, protocol.Quiesce, []byte(`{"dropCaches":true}`)), protocol.Quiesce, nil)
	if _, err := conn.Write(two); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if kind, text := f.frame(conn); kind != protocol.Quiesce|protocol.Answer || text != "" {
			t.Fatalf("0x%02x %s", byte(kind), text)
		}
	}
	if len(f.flushed) != 2 || !f.flushed[0] || f.flushed[1] {
		t.Fatalf("flushed %v", f.flushed)
	}
	// A failure does not end it.
	if kind, _ := f.ask(conn, 0x70, ""); kind != protocol.Failure {
		t.Fatalf("0x%02x", byte(kind))
	}
	if kind, _ := f.ask(conn, protocol.Hello, ""); kind != protocol.Hello|protocol.Answer {
		t.Fatalf("0x%02x", byte(kind))
	}
}

func TestAnybodyElseIsClosedAtOnce(t *testing.T) {
	f := serve(t, func(f *fixture) { f.Peer = "169.254.0.1" })
	closed(t, f.dial())
}

func TestABrokenFrameEndsTheConnection(t *testing.T) {
	f := serve(t, nil)
	for _, head := range []string{"\x00\x00\x00\x00", "\x7f\xff\xff\xff"} {
		conn := f.dial()
		if _, err := conn.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		closed(t, conn)
	}
}

func TestAnIdentityEndsAllOtherConnections(t *testing.T) {
	f := serve(t, nil)
	idle, watching, asking := f.dial(), f.dial(), f.dial()
	f.ask(idle, protocol.Hello, "")
	f.Events.AddLine(events.Stdout, "x")
	f.ask(watching, protocol.Watch, string(make([]byte, 8)))
	who := append(make([]byte, 8+32+16), append([]byte{2}, "vm"...)...)
	if kind, text := f.ask(asking, protocol.Identity, string(who)); kind != protocol.Identity|protocol.Answer || text != "" {
		t.Fatalf("0x%02x %s", byte(kind), text)
	}
	closed(t, idle)
	closed(t, watching)
	if kind, text := f.ask(asking, protocol.Hello, ""); kind != protocol.Hello|protocol.Answer || !strings.Contains(text, `"microvmId":"vm"`) {
		t.Fatalf("0x%02x %s", byte(kind), text)
	}
}

func TestAnIdentityThatFailsSaysSo(t *testing.T) {
	f := serve(t, func(f *fixture) { f.identity.err = errors.New("no clock") })
	f.refuses(protocol.Identity, string(make([]byte, 57)), "failed")
	f.refuses(protocol.Identity, "short", "failed")
}

func TestStartHandsTheContainerOver(t *testing.T) {
	f := serve(t, nil)
	f.wants(protocol.Start, `{"argv":["node","."],"env":["A=b"],"user":"app","workdir":"/app"}`, "")
	if s := <-f.workload.started; s.Argv[1] != "." || s.User != "app" || s.Workdir != "/app" {
		t.Fatalf("%+v", s)
	}
	f.refuses(protocol.Start, `{"argv":[]}`, container.CodeInvalid)
	f.workload.err = container.Errorf(container.CodeExecFailed, "cannot run")
	f.refuses(protocol.Start, `{"argv":["a"]}`, container.CodeExecFailed)
}

func TestWatchSendsWhatComes(t *testing.T) {
	f := serve(t, nil)
	f.Events.AddLine(events.Stdout, "one")
	f.Events.AddLine(events.Stderr, "two")
	conn := f.dial()
	after := binary.BigEndian.AppendUint64(nil, 1)
	_, text := f.ask(conn, protocol.Watch, string(after))
	if !strings.Contains(text, `"seq":2`) || !strings.Contains(text, `"kind":"stderr","text":"two"`) {
		t.Fatal(text)
	}
	f.Events.AddExit(9)
	if kind, text := f.frame(conn); kind != protocol.Watch|protocol.Answer || !strings.Contains(text, `"kind":"exit","exitCode":9`) {
		t.Fatalf("0x%02x %s", byte(kind), text)
	}
	f.refuses(protocol.Watch, "odd", container.CodeInvalid)
}

func TestWatchFramesFitHoweverTheLinesAreEscaped(t *testing.T) {
	f := serve(t, nil)
	line := strings.Repeat("\x01", events.MaxLine)
	for range 100 {
		f.Events.AddLine(events.Stdout, line)
	}
	conn := f.dial()
	kind, text := f.ask(conn, protocol.Watch, string(make([]byte, 8)))
	for lost := 0; kind == protocol.Watch|protocol.Answer; kind, text = f.frame(conn) {
		var e struct {
			Seq   int
			Lines int
			Text  string
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		lost += e.Lines
		if e.Lines == 0 && e.Text != line {
			t.Fatalf("a line of %d bytes", len(e.Text))
		}
		if e.Seq == 100 {
			return
		}
	}
	t.Fatalf("0x%02x %s", byte(kind), text)
}

func TestTheListenerThatIsWaitedForIsFound(t *testing.T) {
	table := filepath.Join(t.TempDir(), "tcp")
	f := serve(t, func(f *fixture) { f.SocketTables = []string{table, table + "6-missing"} })
	f.wants(protocol.Listening, `{"ports":[8080],"timeoutMs":1}`, `{"port":null}`)
	conn := f.dial()
	if err := protocol.WriteFrame(conn, protocol.Listening, []byte(`{"ports":[9000,8080],"timeoutMs":60000}`)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(table, []byte("  0: 00000000:1F90 00000000:0000 0A rest\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, text := f.frame(conn); text != `{"port":8080}` {
		t.Fatal(text)
	}
	f.refuses(protocol.Listening, `{"ports":[0]}`, container.CodeInvalid)
	f.refuses(protocol.Listening, `no`, container.CodeInvalid)
}

func TestWaitingEndsWithTheWorkload(t *testing.T) {
	f := serve(t, nil)
	conn := f.dial()
	if err := protocol.WriteFrame(conn, protocol.Listening, []byte(`{"ports":[8080],"timeoutMs":60000}`)); err != nil {
		t.Fatal(err)
	}
	f.workload.code = 1
	close(f.workload.exited)
	if _, text := f.frame(conn); text != `{"exitCode":1}` {
		t.Fatal(text)
	}
}

func TestSocketTablesAreRead(t *testing.T) {
	open := map[int]bool{}
	addListeners(open, `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 383 1 00000000 100 0 0 10 0
   1: 0200FEA9:125B 0100FEA9:985C 01 00000000:00000000 00:00000000 00000000     0        0 384 1 00000000 20 4 30 10 -1
   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
garbage
   3: nocolon 00000000:0000 0A
   4: 00000000:zzzz 00000000:0000 0A`)
	if len(open) != 2 || !open[8080] || !open[80] {
		t.Fatalf("%v", open)
	}
}

// local is a TCP server of the workload, on a port that it returns.
func local(t *testing.T, network, address string, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func portBytes(t *testing.T, port string) string {
	t.Helper()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return string(binary.BigEndian.AppendUint16(nil, uint16(n)))
}

func TestForwardKeepsEveryByteAndTheHalfClose(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		t.Run(network, func(t *testing.T) {
			f := serve(t, nil)
			// Answers only when the request has ended, as a half-close says.
			port := local(t, network, address, func(c *net.TCPConn) {
				all, _ := io.ReadAll(c)
				_, _ = c.Write(append([]byte("got:"), all...))
			})
			conn := f.dial()
			if kind, text := f.ask(conn, protocol.Forward, portBytes(t, port)); kind != protocol.Forward|protocol.Answer || text != "\x00" {
				t.Fatalf("0x%02x %q", byte(kind), text)
			}
			body := bytes.Repeat([]byte("0123456789"), 100_000)
			go func() {
				_, _ = conn.Write(body)
				_ = conn.CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, append([]byte("got:"), body...)) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestBytesRightBehindAForwardBelongToIt(t *testing.T) {
	f := serve(t, nil)
	port := local(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	conn := f.dial()
	if _, err := conn.Write(append(protocol.AppendFrame(nil, protocol.Forward, []byte(portBytes(t, port))), "early"...)); err != nil {
		t.Fatal(err)
	}
	f.frame(conn)
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAnAnswerThatBreaksOffIsNotTakenForAWholeOne(t *testing.T) {
	f := serve(t, nil)
	port := local(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = c.Write([]byte("half"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	conn := f.dial()
	f.ask(conn, protocol.Forward, portBytes(t, port))
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Fatal("the connection ended as if all had been said")
	}
}

func TestAPortWhereNobodyListensIsRefused(t *testing.T) {
	f := serve(t, nil)
	conn := f.dial()
	if kind, text := f.ask(conn, protocol.Forward, portBytes(t, freePort(t))); kind != protocol.Forward|protocol.Answer || text != "\x01" {
		t.Fatalf("0x%02x %q", byte(kind), text)
	}
	closed(t, conn)
	f.refuses(protocol.Forward, "\x01", container.CodeInvalid)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	return port
}

func TestCredentialsAreHandedOnAsTheyAre(t *testing.T) {
	f := serve(t, nil)
	conn := f.dial()
	for _, document := range []string{`{"Code":"Success"}`, ""} {
		if kind, _ := f.ask(conn, protocol.Credentials, document); kind != protocol.Credentials|protocol.Answer || string(f.told.document) != document {
			t.Fatalf("answered with 0x%02x, and the service has %q", kind, f.told.document)
		}
	}
	if kind, text := f.ask(conn, protocol.Credentials, strings.Repeat("x", 16<<10+1)); kind != protocol.Failure || !strings.Contains(text, "invalid") {
		t.Fatalf("too large: 0x%02x %q", kind, text)
	}
}
