package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Who is who the guest is from an IDENTITY on.
type Who struct {
	UnixNanos int64
	Entropy   [32]byte
	// MachineID of zeros leaves the guest's as it is.
	MachineID [16]byte
	MicrovmID string
}

const whoFixed = 8 + 32 + 16 + 1

// ParseWho reads the payload of an IDENTITY.
func ParseWho(p []byte) (Who, error) {
	var w Who
	if len(p) < whoFixed {
		return w, fmt.Errorf("identity of %d bytes: at least %d are needed", len(p), whoFixed)
	}
	nanos := binary.BigEndian.Uint64(p)
	if nanos > 1<<63-1 {
		return w, errors.New("identity: time is beyond the year 2262")
	}
	w.UnixNanos = int64(nanos)
	copy(w.Entropy[:], p[8:])
	copy(w.MachineID[:], p[40:])
	id := p[whoFixed:]
	if len(id) != int(p[whoFixed-1]) {
		return w, fmt.Errorf("identity: microvm id of %d bytes is announced and %d bytes follow", p[whoFixed-1], len(id))
	}
	if !utf8.Valid(id) {
		return w, errors.New("identity: microvm id is not UTF-8")
	}
	w.MicrovmID = string(id)
	return w, nil
}

// KeepsMachineID says that the guest's machine id stays: a resume.
func (w *Who) KeepsMachineID() bool { return w.MachineID == [16]byte{} }
