package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAFrameComesBackAsItWasWritten(t *testing.T) {
	for _, payload := range [][]byte{nil, {0}, []byte("hello"), bytes.Repeat([]byte{7}, MaxFrame-1)} {
		var wire bytes.Buffer
		if err := WriteFrame(&wire, Hook, payload); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("what follows")
		kind, got, err := ReadFrame(&wire)
		if err != nil || kind != Hook || !bytes.Equal(got, payload) {
			t.Fatalf("read %v, %d bytes, %v", kind, len(got), err)
		}
		if wire.String() != "what follows" {
			t.Fatalf("a frame of %d bytes took bytes that are not its own", len(payload))
		}
	}
}

func TestALengthThatIsNotAllowedIsRefusedBeforeAnythingIsRead(t *testing.T) {
	for _, head := range []string{"\x00\x00\x00\x00", "\x00\x04\x00\x01", "\xff\xff\xff\xff"} {
		r := strings.NewReader(head + "rest")
		if _, _, err := ReadFrame(r); err == nil {
			t.Fatalf("length %x was accepted", head)
		}
		if r.Len() != 4 {
			t.Fatalf("length %x: %d bytes are left", head, r.Len())
		}
	}
}

func TestOnlyAnEndBetweenFramesIsAnEnd(t *testing.T) {
	whole := string(AppendFrame(nil, Hello, []byte("abc")))
	for n := 0; n < len(whole); n++ {
		_, _, err := ReadFrame(strings.NewReader(whole[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Fatalf("after %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestAFrameThatDoesNotFitIsOurOwnMistake(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	AppendFrame(nil, Watch, make([]byte, MaxFrame))
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x01"))
	f.Add([]byte("\x00\x00\x00\x03\x06\x1f\x90"))
	f.Add([]byte("\x00\x04\x00\x00\x05{}"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := bytes.NewReader(wire)
		kind, payload, err := ReadFrame(r)
		if err != nil {
			return
		}
		if again := AppendFrame(nil, kind, payload); !bytes.Equal(again, wire[:len(wire)-r.Len()]) {
			t.Fatalf("%x was read and %x is written", wire, again)
		}
	})
}
