package protocol

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func identityBytes(nanos uint64, announced int, id string) []byte {
	b := binary.BigEndian.AppendUint64(nil, nanos)
	b = append(b, bytes.Repeat([]byte{0xee}, 32)...)
	b = append(b, bytes.Repeat([]byte{0x1d}, 16)...)
	return append(append(b, byte(announced)), id...)
}

func TestAnIdentityIsReadFieldByField(t *testing.T) {
	who, err := ParseWho(identityBytes(1_700_000_000_123_456_789, 9, "microvm-1"))
	if err != nil {
		t.Fatal(err)
	}
	if who.UnixNanos != 1_700_000_000_123_456_789 || who.MicrovmID != "microvm-1" {
		t.Fatalf("%+v", who)
	}
	if who.Entropy != [32]byte(bytes.Repeat([]byte{0xee}, 32)) || who.MachineID != [16]byte(bytes.Repeat([]byte{0x1d}, 16)) {
		t.Fatalf("%+v", who)
	}
	if who.KeepsMachineID() {
		t.Fatal("a machine id was given")
	}
}

func TestAMachineIDOfZerosIsNone(t *testing.T) {
	who, err := ParseWho(make([]byte, whoFixed))
	if err != nil || !who.KeepsMachineID() {
		t.Fatalf("%+v, %v", who, err)
	}
}

func TestAnIdentityThatIsNotWholeIsRefused(t *testing.T) {
	for name, payload := range map[string][]byte{
		"nothing":           nil,
		"one byte missing":  make([]byte, whoFixed-1),
		"id too short":      identityBytes(1, 5, "abcd"),
		"id too long":       identityBytes(1, 3, "abcd"),
		"id is not UTF-8":   identityBytes(1, 1, "\xff"),
		"time out of range": identityBytes(1<<63, 0, ""),
	} {
		if _, err := ParseWho(payload); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseWho(f *testing.F) {
	f.Add(identityBytes(1, 2, "ab"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		who, err := ParseWho(payload)
		if err == nil && len(who.MicrovmID) != len(payload)-whoFixed {
			t.Fatalf("id %q of %d bytes", who.MicrovmID, len(payload))
		}
	})
}
