// Package metadata is the guest's instance metadata service, version 2, as far as programs look for credentials in it.
//
// The slot turns connections to 169.254.169.254:80 round to this port of the guest itself: listening at that address
// would take port 80 from the workload. What comes round has the host's address; whoever dials the port directly, as a
// FORWARD does for somebody outside, is turned away.
package metadata

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxDocument is far more than credentials are.
	MaxDocument = 16 << 10
	maxHead     = 8 << 10
	maxAtOnce   = 32
	// requestLimit bounds a whole request and its answer.
	requestLimit = 5 * time.Second

	tokenPath = "/latest/api/token"
	rolePath  = "/latest/meta-data/iam/security-credentials"
	// roleName is the same whatever the role is called.
	roleName = "execution_role"

	ttlHeader   = "x-aws-ec2-metadata-token-ttl-seconds"
	tokenHeader = "x-aws-ec2-metadata-token"
	maxTTL      = 21600
)

// Service answers with the document that it was given last.
type Service struct {
	// Peer is the only address that is answered.
	Peer string

	mu       sync.Mutex
	document []byte
	key      [sha256.Size]byte
}

// Set replaces the document; an empty one means that there are no credentials. Tokens of before are void: they may be
// known to other clones.
func (s *Service) Set(document []byte) error {
	var key [sha256.Size]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.document) // not left in a snapshot for longer than it is valid
	s.document = document
	s.key = key
	return nil
}

// Serve answers until the listener fails.
func (s *Service) Serve(l *net.TCPListener) error {
	places := make(chan struct{}, maxAtOnce)
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		peer, ok := conn.RemoteAddr().(*net.TCPAddr)
		if !ok || peer.IP.String() != s.Peer {
			conn.Close()
			continue
		}
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			s.serveOne(conn)
		}()
	}
}

// serveOne answers one request: whoever wants more dials again.
func (s *Service) serveOne(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(requestLimit))
	head, ok := readHead(conn)
	if !ok {
		return
	}
	status, text := s.answer(head)
	b := append([]byte("HTTP/1.1 "), status...)
	b = append(b, "\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(text)), 10), "\r\n\r\n"...)
	_, _ = conn.Write(append(b, text...))
}

// readHead reads up to the empty line. net/http would do it, and is larger than all the rest of the agent.
func readHead(conn net.Conn) (string, bool) {
	buf := make([]byte, 0, maxHead)
	for len(buf) < maxHead {
		n, err := conn.Read(buf[len(buf):maxHead])
		buf = buf[:len(buf)+n]
		if end := bytes.Index(buf, []byte("\r\n\r\n")); end >= 0 {
			return string(buf[:end]), true
		}
		if err != nil {
			return "", false
		}
	}
	return "", false
}

const (
	ok               = "200 OK"
	badRequest       = "400 Bad Request"
	unauthorized     = "401 Unauthorized"
	forbidden        = "403 Forbidden"
	notFound         = "404 Not Found"
	methodNotAllowed = "405 Method Not Allowed"
)

func (s *Service) answer(head string) (status, text string) {
	lines := strings.Split(head, "\r\n")
	request := strings.Split(lines[0], " ")
	if len(request) != 3 || !strings.HasPrefix(request[2], "HTTP/1.") {
		return badRequest, ""
	}
	headers := map[string]string{}
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(line, ":")
		if !found {
			return badRequest, ""
		}
		headers[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	method, path := request[0], strings.TrimSuffix(request[1], "/")
	if path == tokenPath {
		return s.token(method, headers)
	}
	if method != "GET" && method != "HEAD" {
		return methodNotAllowed, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.valid(headers[tokenHeader]) {
		return unauthorized, ""
	}
	switch {
	case len(s.document) == 0:
		return notFound, ""
	case path == rolePath:
		return ok, roleName
	case path == rolePath+"/"+roleName:
		return ok, string(s.document)
	}
	return notFound, ""
}

// token makes one. A request that came over a proxy gets none: that is how credentials are stolen through a web server.
func (s *Service) token(method string, headers map[string]string) (status, text string) {
	if method != "PUT" {
		return methodNotAllowed, ""
	}
	if _, proxied := headers["x-forwarded-for"]; proxied {
		return forbidden, ""
	}
	ttl, err := strconv.Atoi(headers[ttlHeader])
	if err != nil || ttl < 1 || ttl > maxTTL {
		return badRequest, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	expires := binary.BigEndian.AppendUint64(nil, uint64(now()+int64(ttl)))
	return ok, base64.StdEncoding.EncodeToString(append(expires, s.sum(expires)...))
}

// valid says whether a token was made here and still holds. The lock is held.
func (s *Service) valid(token string) bool {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	return subtle.ConstantTimeCompare(b[8:], s.sum(b[:8])) == 1 && int64(binary.BigEndian.Uint64(b)) > now()
}

func (s *Service) sum(expires []byte) []byte {
	mac := hmac.New(sha256.New, s.key[:])
	mac.Write(expires)
	return mac.Sum(nil)
}

// now is in seconds, and goes on where the wall clock is stepped.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Sec
}
