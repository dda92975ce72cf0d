package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// checksums calls the verb and reads what it printed.
func checksums(t *testing.T, args ...string) []checksumLine {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	err = checksum(args)
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	var lines []checksumLine
	for _, raw := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var line checksumLine
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestChecksumOfAnyLength(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 511, 4096, 4097, 1 << 20, 1<<20 + 1, 3<<20 + 12345} {
		data := bytes.Repeat([]byte("0123456789a"), size/11+1)[:size]
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		want := hex.EncodeToString(sum[:])
		for _, flags := range [][]string{{}, {"--cached"}, {"--idle"}, {"--pace", "1000000000"}} {
			got := checksums(t, append(flags, path)...)[0]
			if got.Sha256 != want || got.Bytes != int64(size) || got.Damage != "" || got.Inode == "" || got.Changed == "" {
				t.Errorf("%d bytes, %v: %+v, not %s", size, flags, got, want)
			}
		}
	}
}

func TestChecksumSaysWhatAFileLacks(t *testing.T) {
	dir := t.TempDir()
	good, link, pipe := filepath.Join(dir, "good"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(good, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := checksums(t, filepath.Join(dir, "none"), link, pipe, dir, good)
	for i, want := range []string{"is missing", "is not a plain file", "is not a plain file", "is not a plain file", ""} {
		if got[i].Damage != want || (got[i].Sha256 == "") != (want != "") {
			t.Errorf("%s: %+v, not %q", got[i].Path, got[i], want)
		}
	}
}

func TestChecksumNeedsFilesAndAPace(t *testing.T) {
	for _, args := range [][]string{{}, {"--pace", "-1", "/f"}, {"--pace", "x", "/f"}, {"--none", "/f"}} {
		if err := checksum(args); err != errUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}
