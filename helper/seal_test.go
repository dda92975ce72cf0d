package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// output runs a verb as main would and returns what it printed.
func output(t *testing.T, f func([]string) error, args ...string) (map[string]any, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	err = f(args)
	os.Stdout = old
	w.Close()
	printed, _ := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := json.Unmarshal(printed, &v); err != nil {
		t.Fatalf("printed %q: %v", printed, err)
	}
	return v, nil
}

func TestSealKeepsContentsAndDigestDoesNotDependOnHoles(t *testing.T) {
	dir := t.TempDir()
	template := makeTemplate(t, dir)
	before, _ := os.ReadFile(template)
	dense, err := output(t, digest, template)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := output(t, seal, template)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(template)
	if !bytes.Equal(before, after) {
		t.Error("sealing changed the contents")
	}
	if dense["sha256"] != sealed["sha256"] {
		t.Error("the digest depends on holes")
	}
	if got := sealed["dataBytes"].(float64); got != guestPages/2*pageSize {
		t.Errorf("%v data bytes, want %d", got, guestPages/2*pageSize)
	}
	var st unix.Stat_t
	if err := unix.Stat(template, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > guestPages/2*pageSize+1<<20 {
		t.Errorf("the file still takes %d bytes", st.Blocks*512)
	}
}
