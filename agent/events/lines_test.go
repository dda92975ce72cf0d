package events

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func linesOf(r io.Reader) (out []string) {
	Collect(r, func(text string) { out = append(out, text) })
	return out
}

func TestOutputIsCutAtNewlines(t *testing.T) {
	for text, want := range map[string][]string{
		"":                nil,
		"a\n":             {"a"},
		"a\n\nb":          {"a", "", "b"},
		"prompt> ":        {"prompt> "},
		"keeps\r\n":       {"keeps\r"},
		"bad \xff\xfe!\n": {"bad \uFFFD!"},
	} {
		for name, r := range map[string]io.Reader{
			"at once":      strings.NewReader(text),
			"byte by byte": iotest.OneByteReader(strings.NewReader(text)),
			"with its end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			if got := linesOf(r); !reflect.DeepEqual(got, want) {
				t.Errorf("%q %s: %q, want %q", text, name, got, want)
			}
		}
	}
}

func TestALongLineIsCutBetweenCharacters(t *testing.T) {
	text := "a" + strings.Repeat("é", 3*MaxLine)
	got := linesOf(strings.NewReader(text + "\nnext\n"))
	if strings.Join(got[:len(got)-1], "") != text || got[len(got)-1] != "next" {
		t.Fatalf("%d pieces are not the line", len(got))
	}
	for _, piece := range got {
		if len(piece) > MaxLine || !utf8.ValidString(piece) {
			t.Fatalf("a piece of %d bytes, valid: %v", len(piece), utf8.ValidString(piece))
		}
	}
}

func TestALineOfExactlyTheLongestLengthIsOneLine(t *testing.T) {
	line := strings.Repeat("x", MaxLine)
	if got := linesOf(strings.NewReader(line + "\n" + line)); !reflect.DeepEqual(got, []string{line, line}) {
		t.Fatalf("%d lines", len(got))
	}
}

func FuzzCollect(f *testing.F) {
	f.Add("one\ntwo\xff\n", 3)
	f.Add("é\xc3", 40_000)
	f.Fuzz(func(t *testing.T, text string, times int) {
		if times < 1 || times > 50_000 || len(text)*times > 1<<20 {
			return
		}
		text = strings.Repeat(text, times)
		var all strings.Builder
		for _, line := range linesOf(strings.NewReader(text)) {
			if len(line) > MaxLine || !utf8.ValidString(line) {
				t.Fatalf("line of %d bytes", len(line))
			}
			all.WriteString(line)
		}
		if utf8.ValidString(text) && all.String() != strings.ReplaceAll(text, "\n", "") {
			t.Fatal("text was lost or made up")
		}
	})
}
