// A workload on the guest's loopback that speaks what the endpoint carries: HTTP/1.1, cleartext HTTP/2, gRPC (all four
// kinds of calls, of bytes), WebSocket, server-sent events.
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

func main() {
	http.HandleFunc("/", describe)
	http.HandleFunc("/events", events)
	http.HandleFunc("/zeros", zeros)
	http.HandleFunc("/count", count)
	http.HandleFunc("/socket", socket)
	http.HandleFunc("/test.Echo/", call)
	server := &http.Server{}
	speakHTTP2(server)
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}

func describe(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	w.Header().Set("X-App", "1")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"protocol": r.Proto, "method": r.Method, "target": r.RequestURI, "host": r.Host, "from": host, "headers": r.Header,
	})
}

func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 5 {
		fmt.Fprintf(w, "data: %d\n\n", i)
		_ = http.NewResponseController(w).Flush()
	}
	<-r.Context().Done() // the stream stays open until the client goes
}

func zeros(w http.ResponseWriter, r *http.Request) {
	bytes, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
	for chunk := make([]byte, 64<<10); bytes > 0; bytes -= len(chunk) {
		if _, err := w.Write(chunk[:min(len(chunk), bytes)]); err != nil {
			return
		}
	}
}

func count(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n, err == nil)
}

// socket echoes the frames of a WebSocket, whatever they are; the answer to a close is a close.
func socket(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	for {
		first, payload, err := readFrame(buffered.Reader)
		if err != nil {
			return
		}
		if first&0x0f == 9 {
			first++ // a ping is answered with a pong
		}
		head := []byte{first, 127, 0, 0, 0, 0, 0, 0, 0, 0}
		switch n := len(payload); {
		case n < 126:
			head = []byte{first, byte(n)}
		case n < 1<<16:
			head = binary.BigEndian.AppendUint16([]byte{first, 126}, uint16(n))
		default:
			binary.BigEndian.PutUint64(head[2:], uint64(n))
		}
		if _, err := conn.Write(append(head, payload...)); err != nil || first&0x0f == 8 {
			return
		}
	}
}

func readFrame(r *bufio.Reader) (first byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err = io.ReadFull(r, head); err != nil {
		return
	}
	n := uint64(head[1] & 0x7f)
	if extra := map[uint64]int{126: 2, 127: 8}[n]; extra > 0 {
		length := make([]byte, 8)
		if _, err = io.ReadFull(r, length[8-extra:]); err != nil {
			return
		}
		n = binary.BigEndian.Uint64(length)
	}
	mask := make([]byte, 4)
	if _, err = io.ReadFull(r, mask); err != nil {
		return
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, err
}

// call is a gRPC service whose messages are plain text.
func call(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	controller := http.NewResponseController(w)
	_ = controller.Flush()
	send := func(text string) {
		_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...))
		_ = controller.Flush()
	}
	sum := 0
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r.Body, head); err != nil {
			break
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r.Body, message); err != nil {
			return
		}
		switch r.URL.Path {
		case "/test.Echo/Unary", "/test.Echo/Both":
			send(string(message) + "!")
		case "/test.Echo/Down":
			for i := range 10 {
				send(strconv.Itoa(i))
			}
		case "/test.Echo/Up":
			n, _ := strconv.Atoi(string(message))
			sum += n
		}
	}
	if r.URL.Path == "/test.Echo/Up" {
		send(strconv.Itoa(sum))
	}
	w.Header().Set("Grpc-Status", "0")
}
