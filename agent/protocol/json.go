package protocol

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s as a JSON string. encoding/json would do the same, but its first use costs a cold clone
// under emulation tens of milliseconds.
func AppendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// FailureJSON is the payload of a Failure. `code` is for programs, `message` for people.
func FailureJSON(code, message string) []byte {
	// Escaped, a byte takes six at most: this stays well within a frame.
	if len(message) > 16<<10 {
		message = message[:16<<10]
	}
	b := append([]byte(`{"error":`), AppendJSONString(nil, message)...)
	b = append(b, `,"code":`...)
	b = AppendJSONString(b, code)
	return append(b, '}')
}
