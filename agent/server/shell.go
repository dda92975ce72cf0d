package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"torpor/agent/container"
	"torpor/agent/protocol"
)

const (
	// shellBuffer is how much of each output is under way; more waits in the terminal or the pipe.
	shellBuffer = 32 << 10
	// shellLinger is how long the host may take to end a connection that has told how its shell ended.
	shellLinger = 5 * time.Second
)

// Shell is one in the workload's container, or a test's idea of one; container.Shell says what each method does.
type Shell interface {
	io.Writer
	Outputs() []io.Reader
	EndInput() error
	Resize(columns, rows uint16) error
	Exited() <-chan struct{}
	ExitCode() int
	HangUp()
	Close()
}

// shell makes the connection one to a shell. Whichever of the two ends first ends the other.
func (s *Server) shell(conn *net.TCPConn, payload []byte) {
	shell, err := s.startShell(payload)
	if err != nil {
		_ = protocol.WriteFrame(conn, protocol.Failure, failure(err))
		return
	}
	defer shell.Close()
	watch, err := watchConn(conn)
	if err != nil {
		return
	}
	defer watch.cut()
	if protocol.WriteFrame(conn, protocol.Shell|protocol.Answer, nil) != nil {
		return
	}
	var written sync.WaitGroup
	var writing sync.Mutex
	for i, output := range shell.Outputs() {
		written.Add(1)
		go func() {
			defer written.Done()
			copyOutput(conn, &writing, protocol.ShellOutput+protocol.Type(i), output)
		}()
	}
	inputDone := make(chan struct{})
	go func() {
		defer close(inputDone)
		takeInput(conn, shell)
		watch.cut()
	}()
	select {
	case <-watch.gone:
		conn.Close() // frees whoever writes to it
	case <-shell.Exited():
	}
	shell.HangUp()
	written.Wait()
	select {
	case <-shell.Exited():
		code := binary.BigEndian.AppendUint32(nil, uint32(shell.ExitCode()))
		if protocol.WriteFrame(conn, protocol.ShellExit, code) == nil {
			// With input unread an end would be a reset, which may overtake what was written.
			_ = conn.CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(shellLinger))
		}
	default: // it did not even let itself be killed
		watch.cut()
	}
	shell.Close() // whoever still types hears of it
	<-inputDone
}

func (s *Server) startShell(payload []byte) (Shell, error) {
	spec, err := container.ParseShellSpec(payload)
	if err != nil {
		return nil, err
	}
	return s.OpenShell(spec)
}

// copyOutput sends frames of one kind until the output ends or nobody takes them. It reads no faster than it can write.
func copyOutput(conn *net.TCPConn, writing *sync.Mutex, kind protocol.Type, output io.Reader) {
	buf := make([]byte, shellBuffer)
	for {
		n, err := output.Read(buf)
		if err != nil {
			return
		}
		writing.Lock()
		err = protocol.WriteFrame(conn, kind, buf[:n])
		writing.Unlock()
		if err != nil {
			return // the connection is gone, and its watch tells
		}
	}
}

// takeInput passes on what the host sends until it ends, or makes no sense. A shell that reads no more is no reason to
// stop: its host must be able to end the connection.
func takeInput(conn *net.TCPConn, shell Shell) {
	for {
		kind, payload, err := protocol.ReadFrame(conn)
		if err != nil {
			return
		}
		switch {
		case kind == protocol.ShellInput:
			_, _ = shell.Write(payload)
		case kind == protocol.ShellInputEnd && len(payload) == 0:
			_ = shell.EndInput()
		case kind == protocol.ShellResize && len(payload) == 4:
			_ = shell.Resize(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
		default:
			return
		}
	}
}

// connWatch tells the end of a connection also while nobody reads what was sent before it: a shell that does not read its
// input keeps whoever reads for it waiting.
type connWatch struct {
	gone chan struct{} // closed when either side has ended it

	mu sync.Mutex
	fd int // the connection's, again; -1 when gone
}

func watchConn(conn *net.TCPConn) (*connWatch, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &connWatch{gone: make(chan struct{})}
	failed := raw.Control(func(own uintptr) { w.fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if failed != nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("watch the connection: %w", err)
	}
	go w.wait()
	return w, nil
}

func (w *connWatch) wait() {
	wait := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLRDHUP}}
	for {
		if _, err := unix.Poll(wait, -1); err != unix.EINTR {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	unix.Close(w.fd)
	w.fd = -1
	close(w.gone)
}

// cut ends the connection, also one that was closed: it lives for as long as it is watched.
func (w *connWatch) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		_ = unix.Shutdown(w.fd, unix.SHUT_RDWR)
	}
}
