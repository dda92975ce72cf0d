package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// readAhead asks for the template's pages that a chain is about to overwrite. The first write to a page of a private
// mapping reads it from the file before it copies it, although all of it is overwritten: one short read after the other
// where the page cache does not have it. Asked for before, they are long, and there are many at once.
func readAhead(template *os.File, segments []segment) {
	if isCached(template, segments) {
		return
	}
	const gap = 8 // pages: to read them costs less than another request
	var first, end uint64
	ask := func() {
		if end > first {
			_ = unix.Fadvise(int(template.Fd()), int64(first*pageSize), int64((end-first)*pageSize), unix.FADV_WILLNEED)
		}
	}
	for _, s := range segments {
		if s.kind == kindTemplate {
			continue
		}
		if s.first > end+gap || end == 0 {
			ask()
			first = s.first
		}
		end = s.end()
	}
	ask()
}

// isCached looks at some of the pages. It is wrong where few of them are missing: then there is little to ask for.
func isCached(template *os.File, segments []segment) bool {
	const samples = 64
	var b [1]byte
	for i := range min(samples, len(segments)) {
		s := segments[i*len(segments)/min(samples, len(segments))]
		_, err := unix.Preadv2(int(template.Fd()), [][]byte{b[:]}, int64(s.first*pageSize), unix.RWF_NOWAIT)
		if err == unix.EAGAIN {
			return false
		}
	}
	return true
}
