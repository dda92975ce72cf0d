package server

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const hookPath = "/aws/lambda-microvms/runtime/v1/"

var hookNames = map[string]bool{
	"ready": true, "validate": true, "run": true, "resume": true, "suspend": true, "terminate": true,
}

type hookRequest struct {
	Port      int     `json:"port"`
	Name      string  `json:"name"`
	Body      *string `json:"body"`
	TimeoutMs int64   `json:"timeoutMs"`
	Host      string  `json:"host"`
}

// hook calls one of the workload's hooks, over a connection of its own.
func (s *Server) hook(payload []byte) ([]byte, error) {
	var q hookRequest
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, invalid("HOOK: %v", err)
	}
	if q.Port < 1 || q.Port > 65535 {
		return nil, invalid("HOOK: port %d is not between 1 and 65535", q.Port)
	}
	if !hookNames[q.Name] {
		return nil, invalid("HOOK: there is no hook %q", q.Name)
	}
	if q.Host == "" {
		q.Host = "localhost:" + strconv.Itoa(q.Port)
	}
	if strings.ContainsAny(q.Host, "\r\n\x00 ") {
		return nil, invalid("HOOK: %q is not a host", q.Host)
	}
	status, err := s.callHook(&q, time.Now().Add(limit(q.TimeoutMs)))
	if err != nil {
		return []byte(`{"failure":"` + hookFailure(err) + `"}`), nil
	}
	return append(strconv.AppendInt([]byte(`{"status":`), int64(status), 10), '}'), nil
}

func hookFailure(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	}
	return "failed"
}

// callHook speaks HTTP/1.1 by itself: one request, of whose answer only the status counts. net/http would cost a cold
// clone under emulation more than most hooks take.
func (s *Server) callHook(q *hookRequest, deadline time.Time) (int, error) {
	conn, err := s.dialHook(q.Port, deadline)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	if _, err := conn.Write(q.http()); err != nil {
		// A server may answer and close before it has read all; then its answer counts.
		status, readErr := readStatus(conn)
		if readErr != nil {
			return 0, err
		}
		return status, nil
	}
	return readStatus(conn)
}

// dialHook reports a time-out in one way, whatever was being waited for.
func (s *Server) dialHook(port int, deadline time.Time) (*net.TCPConn, error) {
	conn, err := s.dial(port, deadline)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, os.ErrDeadlineExceeded
	}
	return conn, err
}

func (q *hookRequest) http() []byte {
	body := ""
	if q.Body != nil {
		body = *q.Body
	}
	b := append([]byte("POST "+hookPath+q.Name+" HTTP/1.1\r\nHost: "+q.Host+"\r\n"), "Connection: close\r\n"...)
	if q.Body != nil {
		b = append(b, "Content-Type: application/json\r\n"...)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
	return append(append(b, "\r\n\r\n"...), body...)
}

// readStatus reads the head of an answer, then as much of its body as lets a well-behaved server finish.
func readStatus(conn net.Conn) (int, error) {
	r := &responseReader{r: conn}
	status, err := r.head()
	if err != nil {
		return 0, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(bodyGrace))
	r.discardBody()
	return status, nil
}

var errNotHTTP = errors.New("the answer is not HTTP/1")

const (
	// maxHead bounds all heads of an answer together, interim ones included.
	maxHead   = 64 << 10
	maxBody   = 1 << 20
	bodyGrace = 500 * time.Millisecond
)

type responseReader struct {
	r       io.Reader
	buf     []byte
	heads   int
	length  int64 // of the body, -1 when the head does not say
	chunked bool
}

// head skips interim answers (1xx) and returns the final status.
func (r *responseReader) head() (int, error) {
	for {
		line, err := r.line()
		if err != nil {
			return 0, err
		}
		status, err := parseStatus(line)
		if err != nil {
			return 0, err
		}
		r.length, r.chunked = -1, false
		for {
			field, err := r.line()
			if err != nil {
				return 0, err
			}
			if field == "" {
				break
			}
			r.field(field)
		}
		if status >= 200 {
			if status == 204 || status == 304 {
				r.length = 0
			}
			return status, nil
		}
	}
}

func parseStatus(line string) (int, error) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 || err != nil || status < 100 {
		return 0, errNotHTTP
	}
	return status, nil
}

func (r *responseReader) field(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case strings.EqualFold(name, "content-length"):
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
			r.length = n
		}
	case strings.EqualFold(name, "transfer-encoding"):
		r.chunked = true
	}
}

// line returns the next line of the head without its end.
func (r *responseReader) line() (string, error) {
	from := 0
	for {
		if i := strings.IndexByte(string(r.buf[from:]), '\n'); i >= 0 {
			line := strings.TrimSuffix(string(r.buf[:from+i]), "\r")
			r.buf = r.buf[from+i+1:]
			return line, nil
		}
		from = len(r.buf)
		if r.heads >= maxHead {
			return "", errNotHTTP
		}
		chunk := make([]byte, 4096)
		n, err := r.r.Read(chunk)
		r.buf = append(r.buf, chunk[:n]...)
		r.heads += n
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// discardBody reads to the end of the body, or of our patience.
func (r *responseReader) discardBody() {
	if r.chunked {
		r.length = -1
	}
	total, tail := int64(len(r.buf)), r.buf
	chunk := make([]byte, 16<<10)
	for total < maxBody {
		if r.length >= 0 && total >= r.length {
			return
		}
		// The last chunk of a body that is chunked, where nothing follows it.
		if r.chunked && strings.HasSuffix(string(tail), "0\r\n\r\n") {
			return
		}
		n, err := r.r.Read(chunk)
		if err != nil {
			return
		}
		total += int64(n)
		tail = append(tail[max(0, len(tail)-8):len(tail):len(tail)], chunk[:n]...)
	}
}
