package container

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestWhatASpecLeavesOutIsFilledIn(t *testing.T) {
	s, err := ParseSpec([]byte(`{"argv":["true"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Workdir != "/" || s.Hostname != "localhost" || s.privileged() {
		t.Fatalf("%+v", s)
	}
}

func TestASpecThatCannotBeMeantIsRefused(t *testing.T) {
	for payload, code := range map[string]string{
		``:                                   CodeInvalid,
		`[]`:                                 CodeInvalid,
		`{"argv":[]}`:                        CodeInvalid,
		`{"argv":[""]}`:                      CodeInvalid,
		`{"argv":["a\u0000b"]}`:              CodeInvalid,
		`{"argv":["a"],"env":["novalue"]}`:   CodeInvalid,
		`{"argv":["a"],"env":["=x"]}`:        CodeInvalid,
		`{"argv":["a"],"env":["A=\u0000"]}`:  CodeInvalid,
		`{"argv":["a"],"capabilities":"no"}`: CodeInvalid,
		`{"argv":["a"],"workdir":"here"}`:    CodeWorkdir,
	} {
		_, err := ParseSpec([]byte(payload))
		var coded *Error
		if !errors.As(err, &coded) || coded.Code != code {
			t.Errorf("%s: %v, want %s", payload, err, code)
		}
	}
}

func TestEveryProcessHasAPathAndAHome(t *testing.T) {
	for env, want := range map[string]string{
		"":               "PATH=" + DefaultPath + " HOME=/root",
		"PATH=/bin":      "PATH=/bin HOME=/root",
		"HOME=/x PATH=":  "HOME=/x PATH=",
		"HOMER=1 HOME=":  "HOMER=1 HOME= PATH=" + DefaultPath + " HOME=/root",
		"PATHS=1 HOME=h": "PATHS=1 HOME=h PATH=" + DefaultPath,
	} {
		s := &Spec{Env: strings.Fields(env)}
		if got := s.environment("/root"); !reflect.DeepEqual(got, strings.Fields(want)) {
			t.Errorf("%q: %q", env, got)
		}
	}
}
