package server

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"torpor/agent/container"
)

// pollEvery is how often the socket tables are read while the host waits for a listener.
const pollEvery = 50 * time.Millisecond

const maxWait = time.Hour

type listeningRequest struct {
	Ports     []int `json:"ports"`
	TimeoutMs int64 `json:"timeoutMs"`
}

// listening waits until something listens on one of the ports. The connection that asks is not looked at meanwhile:
// when the host hangs up, the answer goes nowhere.
func (s *Server) listening(payload []byte) ([]byte, error) {
	var q listeningRequest
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, invalid("LISTENING: %v", err)
	}
	for _, port := range q.Ports {
		if port < 1 || port > 65535 {
			return nil, invalid("LISTENING: port %d is not between 1 and 65535", port)
		}
	}
	timeout := time.NewTimer(limit(q.TimeoutMs))
	defer timeout.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	exited := s.Workload.Exited()
	for {
		open := s.listeningPorts()
		for _, port := range q.Ports {
			if open[port] {
				return append(strconv.AppendInt([]byte(`{"port":`), int64(port), 10), '}'), nil
			}
		}
		select {
		case <-exited:
			_, code := s.Workload.Status()
			return append(strconv.AppendInt([]byte(`{"exitCode":`), int64(code), 10), '}'), nil
		case <-timeout.C:
			return []byte(`{"port":null}`), nil
		case <-tick.C:
		}
	}
}

func limit(ms int64) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	if ms < 0 {
		return 0
	}
	if ms > maxWait.Milliseconds() {
		return maxWait
	}
	return d
}

func (s *Server) listeningPorts() map[int]bool {
	open := map[int]bool{}
	for _, path := range s.SocketTables {
		// Without IPv6 there is no table of it.
		if text, err := os.ReadFile(path); err == nil {
			addListeners(open, string(text))
		}
	}
	return open
}

// addListeners reads /proc/net/tcp or tcp6: `sl local_address rem_address st …`, numbers in hex, 0A is LISTEN.
// Source: Linux Documentation/networking/proc_net_tcp.rst
func addListeners(open map[int]bool, table string) {
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		_, hexPort, ok := strings.Cut(f[1], ":")
		if !ok {
			continue
		}
		if port, err := strconv.ParseUint(hexPort, 16, 16); err == nil {
			open[int(port)] = true
		}
	}
}

func invalid(format string, args ...any) error {
	return container.Errorf(container.CodeInvalid, format, args...)
}
