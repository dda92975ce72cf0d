package metadata

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const base = "http://169.254.169.254"

// start serves on loopback, and gives a client that takes the service's address for it.
func start(t *testing.T, peer string) (*Service, *http.Client, string) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{Peer: peer}
	if err := s.Set(nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	transport := &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport}, l.Addr().String()
}

func call(t *testing.T, c *http.Client, method, path string, headers ...string) (int, string) {
	t.Helper()
	q, err := http.NewRequest(method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(body)
}

func token(t *testing.T, c *http.Client) string {
	t.Helper()
	status, text := call(t, c, "PUT", tokenPath, ttlHeader, "21600")
	if status != 200 || text == "" {
		t.Fatalf("token: %d %q", status, text)
	}
	return text
}

func TestCredentialsAreFoundAsSDKsLookForThem(t *testing.T) {
	s, c, _ := start(t, "127.0.0.1")
	if err := s.Set([]byte(`{"Code":"Success"}`)); err != nil {
		t.Fatal(err)
	}
	with := token(t, c)
	for path, want := range map[string]string{
		rolePath:                          "execution_role",
		rolePath + "/":                    "execution_role",
		rolePath + "/" + "execution_role": `{"Code":"Success"}`,
	} {
		if status, text := call(t, c, "GET", path, tokenHeader, with); status != 200 || text != want {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
}

func TestWithoutATokenThereIsNothing(t *testing.T) {
	s, c, _ := start(t, "127.0.0.1")
	if err := s.Set([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	good := token(t, c)
	flipped := []byte(good)
	flipped[3] ^= 1
	for _, bad := range []string{"", "x", string(flipped), strings.Repeat("A", 56), good[:20]} {
		if status, text := call(t, c, "GET", rolePath, tokenHeader, bad); status != 401 || text != "" {
			t.Errorf("%q: %d %q", bad, status, text)
		}
	}
	if err := s.Set([]byte("another")); err != nil {
		t.Fatal(err)
	}
	if status, _ := call(t, c, "GET", rolePath, tokenHeader, good); status != 401 {
		t.Errorf("a token of the time before: %d", status)
	}
}

func TestATokenWantsATimeAndNoProxy(t *testing.T) {
	_, c, _ := start(t, "127.0.0.1")
	for _, ttl := range []string{"", "0", "21601", "-1", "1e3", "x"} {
		if status, _ := call(t, c, "PUT", tokenPath, ttlHeader, ttl); status != 400 {
			t.Errorf("ttl %q: %d", ttl, status)
		}
	}
	if status, _ := call(t, c, "PUT", tokenPath, ttlHeader, "60", "X-Forwarded-For", "192.0.2.1"); status != 403 {
		t.Errorf("over a proxy: %d", status)
	}
	if status, _ := call(t, c, "GET", tokenPath, ttlHeader, "60"); status != 405 {
		t.Errorf("GET: %d", status)
	}
}

func TestWithoutCredentialsAndElsewhereThereIsNothing(t *testing.T) {
	s, c, _ := start(t, "127.0.0.1")
	with := token(t, c)
	if status, _ := call(t, c, "GET", rolePath, tokenHeader, with); status != 404 {
		t.Errorf("no credentials: %d", status)
	}
	if err := s.Set([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	with = token(t, c)
	for _, path := range []string{"/", "/latest/meta-data", "/latest/user-data", rolePath + "/other", rolePath + "/../x"} {
		if status, _ := call(t, c, "GET", path, tokenHeader, with); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := call(t, c, "POST", rolePath, tokenHeader, with); status != 405 {
		t.Errorf("POST: %d", status)
	}
}

func TestOnlyWhatComesRoundIsAnswered(t *testing.T) {
	_, _, address := start(t, "169.254.0.1")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("PUT /latest/api/token HTTP/1.1\r\n" + ttlHeader + ": 60\r\n\r\n"))
	if b, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Fatalf("answered with %q", b)
	}
}

func TestWhatIsNoRequestEndsTheConnection(t *testing.T) {
	_, _, address := start(t, "127.0.0.1")
	for _, text := range []string{
		"\r\n\r\n",
		"GET /\r\n\r\n",
		"GET / HTTP/2\r\n\r\n",
		"GET / HTTP/1.1\r\nno colon\r\n\r\n",
		strings.Repeat("x", maxHead+1),
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text))
		answer, _ := io.ReadAll(conn)
		if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Errorf("%.20q: %q", text, answer)
		}
		conn.Close()
	}
}
