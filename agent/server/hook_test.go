package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"torpor/agent/container"
	"torpor/agent/protocol"
)

func hookPayload(t *testing.T, port, name string, body any, timeoutMs int) string {
	t.Helper()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{"port": n, "name": name, "body": body, "timeoutMs": timeoutMs})
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func TestAHookIsAnOrdinaryHTTPRequest(t *testing.T) {
	type seen struct{ request, host, body, contentType, length string }
	requests := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{
			r.Method + " " + r.URL.Path + " " + r.Proto, r.Host, string(body), r.Header.Get("Content-Type"), r.Header.Get("Content-Length"),
		}
		w.WriteHeader(503)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	f := serve(t, nil)

	f.wants(protocol.Hook, hookPayload(t, port, "run", `{"microvmId":"é"}`, 20_000), `{"status":503}`)
	want := seen{
		"POST /aws/lambda-microvms/runtime/v1/run HTTP/1.1", "localhost:" + port, `{"microvmId":"é"}`, "application/json", "18",
	}
	if got := <-requests; got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	f.wants(protocol.Hook, hookPayload(t, port, "terminate", nil, 20_000), `{"status":503}`)
	if got := <-requests; got.body != "" || got.contentType != "" || got.length != "0" {
		t.Fatalf("%+v", got)
	}
}

// answers is a server that reads a request and writes what it is told to.
func answers(t *testing.T, write func(*net.TCPConn)) string {
	return local(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			write(c)
		}
	})
}

func TestOnlyTheStatusOfAnAnswerCounts(t *testing.T) {
	forever := strings.Repeat("x", 1<<16)
	for name, answer := range map[string]struct{ text, want string }{
		"plain":                   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", `{"status":200}`},
		"kept alive":              {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", `{"status":200}`},
		"chunked":                 {"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", `{"status":500}`},
		"no reason, bare LF":      {"HTTP/1.0 404\nX: y\n\n", `{"status":404}`},
		"redirect":                {"HTTP/1.1 301 Moved\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", `{"status":301}`},
		"interim":                 {"HTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 204 None\r\n\r\n", `{"status":204}`},
		"not HTTP":                {"SSH-2.0-OpenSSH\r\n", `{"failure":"failed"}`},
		"status of four digits":   {"HTTP/1.1 2000 OK\r\n\r\n", `{"failure":"failed"}`},
		"nothing":                 {"", `{"failure":"failed"}`},
		"head without end":        {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 2*maxHead), `{"failure":"failed"}`},
		"interim without end":     {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxHead), `{"failure":"failed"}`},
		"larger than is read":     {"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat(forever, 2*maxBody/len(forever)), `{"status":200}`},
		"length that is no sense": {"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", `{"status":200}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			port := answers(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, answer.text) })
			f.wants(protocol.Hook, hookPayload(t, port, "ready", nil, 20_000), answer.want)
		})
	}
}

func TestAHookThatNobodyAnswersFails(t *testing.T) {
	f := serve(t, nil)
	f.wants(protocol.Hook, hookPayload(t, freePort(t), "resume", nil, 20_000), `{"failure":"refused"}`)
	silent := local(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	f.wants(protocol.Hook, hookPayload(t, silent, "suspend", nil, 50), `{"failure":"timeout"}`)
	f.wants(protocol.Hook, hookPayload(t, silent, "suspend", nil, 0), `{"failure":"timeout"}`)
	rude := local(t, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) { _ = c.SetLinger(0) })
	f.wants(protocol.Hook, hookPayload(t, rude, "suspend", nil, 20_000), `{"failure":"failed"}`)
}

func TestAHookThatDoesNotExistIsRefused(t *testing.T) {
	f := serve(t, nil)
	for _, payload := range []string{
		`{"port":80,"name":"../admin"}`, `{"port":0,"name":"run"}`, `{"port":70000,"name":"run"}`,
		`{"port":80,"name":"run","host":"a\r\nX: y"}`, `no JSON`,
	} {
		f.refuses(protocol.Hook, payload, container.CodeInvalid)
	}
}

func FuzzHookAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	f.Add("HTTP/1.1 100 C\n\nHTTP/1.1 500 X\nTransfer-Encoding: chunked\n\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := &responseReader{r: strings.NewReader(text)}
		status, err := r.head()
		if err == nil && (status < 200 || status > 999) {
			t.Fatalf("status %d", status)
		}
		if err == nil {
			r.discardBody()
		}
	})
}
