package server

import (
	"encoding/binary"
	"io"
	"net"

	"torpor/agent/protocol"
)

// watchBatch bounds what one look at the ring takes: with lines of the longest kind, about 6 MiB of escapes.
const watchBatch = 64

// watch sends events until the connection ends.
func (s *Server) watch(conn *net.TCPConn, payload []byte) {
	if len(payload) != 8 {
		_ = protocol.WriteFrame(conn, protocol.Failure, protocol.FailureJSON("invalid", "WATCH wants a number of eight bytes"))
		return
	}
	after := binary.BigEndian.Uint64(payload)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The host says nothing more: this returns when it goes away, or when we close the connection.
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}()
	var out, text []byte
	for {
		batch, changed := s.Events.After(after, watchBatch)
		if batch == nil {
			select {
			case <-changed:
				continue
			case <-ended:
				return
			}
		}
		out = out[:0]
		for i := range batch {
			text = batch[i].AppendJSON(text[:0])
			out = protocol.AppendFrame(out, protocol.Watch|protocol.Answer, text)
			after = batch[i].Seq
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
