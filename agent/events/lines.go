package events

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest text of one event in bytes; longer lines are cut into several.
const MaxLine = 16 << 10

// Collect turns what it reads into lines until the reader ends, the last line with or without its newline.
func Collect(r io.Reader, add func(text string)) {
	// A line is cut before it fills the buffer, so there is always room to read.
	buf := make([]byte, 0, 2*MaxLine)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest := split(buf, add)
		buf = buf[:copy(buf, rest)]
		if err != nil {
			if len(buf) > 0 {
				addText(buf, add)
			}
			return
		}
	}
}

// split adds all whole lines of b and returns what is left: less than MaxLine bytes.
func split(b []byte, add func(string)) []byte {
	for {
		end := bytes.IndexByte(b, '\n')
		switch {
		case end >= 0 && end <= MaxLine:
			addText(b[:end], add)
			b = b[end+1:]
		case len(b) > MaxLine:
			cut := runeStart(b, MaxLine)
			addText(b[:cut], add)
			b = b[cut:]
		default:
			return b
		}
	}
}

// addText replaces what is not UTF-8. The replacement is longer than what it replaces, so the text may need cutting.
func addText(b []byte, add func(string)) {
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	for len(text) > MaxLine {
		cut := runeStart([]byte(text[:MaxLine+1]), MaxLine)
		add(text[:cut])
		text = text[cut:]
	}
	add(text)
}

// runeStart is the greatest index not above `at` that does not cut a character of b, which is longer than `at`.
func runeStart(b []byte, at int) int {
	for i := at; i > at-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return i
		}
	}
	return at
}
