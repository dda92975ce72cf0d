package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
)

// A memory diff holds the pages in which a stopped VMM's guest memory differs from its template.
//
//	data    the pages' bytes, in the order of the table
//	table   entries of 12 bytes, little endian: first page u32, pages u32, kind u32 (0 data, 1 zero: no bytes in data)
//	trailer 48 bytes: magic 8, version u32, page size u32, memory bytes u64, data pages u64, entries u64, reserved u64
//
// The sha256 of the whole file stands in the snapshot's manifest. Entries ascend and do not overlap.
const (
	pageSize    = 4096
	chunkPages  = 256 // 1 MiB: large enough for the copy to be memory-bound, small enough to stay in the cache
	entrySize   = 12
	trailerSize = 48
	diffVersion = 1
	kindData    = 0
	kindZero    = 1
)

var diffMagic = [8]byte{'T', 'O', 'R', 'P', 'D', 'I', 'F', 'F'}

type entry struct{ first, count, kind uint32 }

var zeroPage [pageSize]byte

// diffWriter writes pages as they come and the table at the end, hashing in a goroutine beside the writes.
type diffWriter struct {
	out     *os.File
	buf     []byte
	sum     *asyncHash
	entries []entry
	data    uint64
	bytes   int64
}

func (w *diffWriter) page(no uint32, p []byte, kind uint32) error {
	if n := len(w.entries); n > 0 && w.entries[n-1].kind == kind && w.entries[n-1].first+w.entries[n-1].count == no {
		w.entries[n-1].count++
	} else {
		w.entries = append(w.entries, entry{no, 1, kind})
	}
	if kind == kindZero {
		return nil
	}
	w.data++
	return w.write(p)
}

func (w *diffWriter) write(p []byte) error {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= 4<<20 {
		return w.flush()
	}
	return nil
}

func (w *diffWriter) flush() error {
	full := w.buf
	w.buf = make([]byte, 0, cap(full))
	w.sum.Write(full)
	n, err := w.out.Write(full)
	w.bytes += int64(n)
	return err
}

func (w *diffWriter) finish(memoryBytes uint64) (string, error) {
	for _, e := range w.entries {
		var b [entrySize]byte
		binary.LittleEndian.PutUint32(b[0:], e.first)
		binary.LittleEndian.PutUint32(b[4:], e.count)
		binary.LittleEndian.PutUint32(b[8:], e.kind)
		if err := w.write(b[:]); err != nil {
			return "", err
		}
	}
	var t [trailerSize]byte
	copy(t[:], diffMagic[:])
	binary.LittleEndian.PutUint32(t[8:], diffVersion)
	binary.LittleEndian.PutUint32(t[12:], pageSize)
	binary.LittleEndian.PutUint64(t[16:], memoryBytes)
	binary.LittleEndian.PutUint64(t[24:], w.data)
	binary.LittleEndian.PutUint64(t[32:], uint64(len(w.entries)))
	if err := w.write(t[:]); err != nil {
		return "", err
	}
	if err := w.flush(); err != nil {
		return "", err
	}
	if err := w.out.Sync(); err != nil {
		return "", err
	}
	return w.sum.Hex(), nil
}

// readDiff checks everything that the file says before any of it is believed.
func readDiff(in *os.File, memoryBytes uint64) ([]entry, error) {
	st, err := in.Stat()
	if err != nil {
		return nil, err
	}
	corrupt := func(why string) error {
		return fmt.Errorf("%s is not a memory diff of this version: %s", in.Name(), why)
	}
	if st.Size() < trailerSize {
		return nil, corrupt("too short")
	}
	var t [trailerSize]byte
	if _, err := in.ReadAt(t[:], st.Size()-trailerSize); err != nil {
		return nil, err
	}
	data, entries := binary.LittleEndian.Uint64(t[24:]), binary.LittleEndian.Uint64(t[32:])
	switch {
	case !bytes.Equal(t[:8], diffMagic[:]):
		return nil, corrupt("wrong magic")
	case binary.LittleEndian.Uint32(t[8:]) != diffVersion || binary.LittleEndian.Uint32(t[12:]) != pageSize:
		return nil, corrupt("other version or page size")
	case binary.LittleEndian.Uint64(t[16:]) != memoryBytes:
		return nil, corrupt("made for another memory size")
	case data > memoryBytes/pageSize || entries > memoryBytes/pageSize:
		return nil, corrupt("more pages than memory")
	case uint64(st.Size()) != data*pageSize+entries*entrySize+trailerSize:
		return nil, corrupt("length does not fit its contents")
	}
	raw := make([]byte, entries*entrySize)
	if _, err := in.ReadAt(raw, int64(data*pageSize)); err != nil {
		return nil, err
	}
	table := make([]entry, entries)
	var next, sum uint64
	for i := range table {
		b := raw[i*entrySize:]
		e := entry{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}
		end := uint64(e.first) + uint64(e.count)
		if uint64(e.first) < next || e.count == 0 || end > memoryBytes/pageSize || e.kind > kindZero {
			return nil, corrupt("bad table")
		}
		if e.kind == kindData {
			sum += uint64(e.count)
		}
		table[i], next = e, end
	}
	if sum != data {
		return nil, corrupt("table and data differ")
	}
	return table, nil
}

// asyncHash hashes beside the caller. Buffers given to Write must not be changed afterwards.
type asyncHash struct {
	work chan []byte
	done chan struct{}
	sum  hash.Hash
}

func newAsyncHash() *asyncHash {
	work := make(chan []byte, 4)
	h := &asyncHash{work: work, done: make(chan struct{}), sum: sha256.New()}
	go func() {
		defer close(h.done)
		for b := range work {
			h.sum.Write(b)
		}
	}()
	return h
}

func (h *asyncHash) Write(b []byte) { h.work <- b }

// Hex ends the hashing.
func (h *asyncHash) Hex() string {
	h.Close()
	return hex.EncodeToString(h.sum.Sum(nil))
}

func (h *asyncHash) Close() {
	if h.work != nil {
		close(h.work)
		h.work = nil
	}
	<-h.done
}
