package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// hasCached tells whether a page can be read without waiting for the disk.
func hasCached(t *testing.T, f *os.File, page uint64) bool {
	t.Helper()
	var b [1]byte
	_, err := unix.Preadv2(int(f.Fd()), [][]byte{b[:]}, int64(page*pageSize), unix.RWF_NOWAIT)
	if err == unix.EOPNOTSUPP {
		t.Skip("this file system does not tell what is cached")
	}
	return err == nil
}

func TestWhatIsOverwrittenIsReadAhead(t *testing.T) {
	const pages = 64 << 10
	path := filepath.Join(t.TempDir(), "template")
	if err := os.WriteFile(path, make([]byte, pages*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var segments []segment
	for page := uint64(1000); page < pages/2; page += 1000 {
		segments = append(segments, segment{first: page, count: 3, kind: kindData}, segment{first: page + 500, count: 3, kind: kindTemplate})
	}
	for _, cached := range []bool{false, true} {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		if hasCached(t, f, 1000) || isCached(f, segments) {
			t.Skip("the page cache keeps what it is told to drop")
		}
		if cached {
			// All that counts is there: then nothing is asked for, though much of the file is not.
			for _, s := range segments {
				if _, err := f.ReadAt(make([]byte, 3*pageSize), int64(s.first*pageSize)); err != nil {
					t.Fatal(err)
				}
			}
		}
		readAhead(f, segments)
		for _, s := range segments {
			if s.kind != kindData {
				continue
			}
			for page := s.first; page < s.end(); page++ {
				eventually(t, func() bool { return hasCached(t, f, page) })
			}
		}
		if hasCached(t, f, pages-1) {
			t.Error("the end of the template is cached, which nothing asked for")
		}
	}
	// A template that says nothing of what is cached is no reason to fail.
	var none []segment
	readAhead(f, none)
	if !isCached(f, none) {
		t.Error("nothing is missing of nothing")
	}
}
