// Package protocol is docs/agent-protocol.md in Go: frames, the binary identity, and the few JSON texts that are
// written often enough to be written by hand.
package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Version of the protocol that this agent speaks.
const Version = 1

// MaxFrame is the largest `length` of a frame: its type and its payload.
const MaxFrame = 262144

// Type of a frame.
type Type byte

const (
	Hello       Type = 0x01
	Identity    Type = 0x02
	Start       Type = 0x03
	Listening   Type = 0x04
	Hook        Type = 0x05
	Forward     Type = 0x06
	Watch       Type = 0x07
	Quiesce     Type = 0x08
	Freeze      Type = 0x09
	Credentials Type = 0x0A
	Shell       Type = 0x0B

	// What the host sends over a connection that a SHELL has taken.
	ShellInput    Type = 0x10
	ShellInputEnd Type = 0x11
	ShellResize   Type = 0x12
	// And the agent.
	ShellOutput Type = 0x90
	ShellErrors Type = 0x91
	ShellExit   Type = 0x92

	// Answer is set in the type of every answer that is not a failure.
	Answer  Type = 0x80
	Failure Type = 0xFF
)

// ReadFrame reads one frame. It reads no byte beyond it, so that a FORWARD can take the connection over, and allocates
// only what a checked length asks for. io.EOF means that the peer ended between two frames.
func ReadFrame(r io.Reader) (Type, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length < 1 || length > MaxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes: 1 to %d are allowed", length, MaxFrame)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return 0, nil, midFrame(err)
	}
	payload := make([]byte, length-1)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, midFrame(err)
	}
	return Type(head[4]), payload, nil
}

func midFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// AppendFrame appends a whole frame. The payload must fit; what the agent sends always does.
func AppendFrame(b []byte, t Type, payload []byte) []byte {
	if len(payload) >= MaxFrame {
		panic(fmt.Sprintf("frame payload of %d bytes", len(payload)))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+1))
	b = append(b, byte(t))
	return append(b, payload...)
}

// WriteFrame writes a frame with one call, so that it leaves in one segment where it can.
func WriteFrame(w io.Writer, t Type, payload []byte) error {
	_, err := w.Write(AppendFrame(make([]byte, 0, 5+len(payload)), t, payload))
	return err
}
