package protocol

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAFailureIsJSONWhateverTheMessage(t *testing.T) {
	long := strings.Repeat("\x01", 100<<10)
	for _, message := range []string{"", `a "quoted" \ text`, "tab\tline\nbell\a\x7f", "häß 🚀", "bad \xff utf8", long} {
		var got struct{ Error, Code string }
		payload := FailureJSON("some_code", message)
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatalf("%q: %v", message, err)
		}
		if got.Code != "some_code" || len(payload) >= MaxFrame {
			t.Fatalf("%q became %d bytes with code %q", message, len(payload), got.Code)
		}
	}
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\x1f\"\\/\u2028\xc3")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(AppendJSONString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		// As encoding/json does it: each byte that is no UTF-8 becomes U+FFFD.
		if want := string([]rune(s)); got != want {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}
