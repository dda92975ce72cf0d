package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// blockSize is how much is written at once.
const blockSize = 4 << 20

// blocks are used again: the page faults of a new one cost as much as copying it.
var blocks = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// diffWriter makes one diff file. Pages come in blocks; sums, digest and writes happen beside the caller. Whoever makes
// one calls finish or abandon.
type diffWriter struct {
	out     *os.File
	entries []entry
	pages   uint64 // of data

	work   chan written
	closed sync.Once
	done   chan struct{}
	failed atomic.Bool
	// Owned by the goroutine until done is closed.
	err  error
	sums []byte
	sum  hash.Hash
	size int64
}

type written struct {
	block *[]byte
	n     int
}

// newDiffWriter makes a file that must not exist yet.
func newDiffWriter(path string) (*diffWriter, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w := &diffWriter{out: out, work: make(chan written, 2), done: make(chan struct{}), sum: sha256.New()}
	hashing := make(chan written, 2)
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for b := range hashing {
			w.sum.Write((*b.block)[:b.n])
			blocks.Put(b.block)
		}
	}()
	go func() {
		defer close(w.done)
		for b := range w.work {
			hashing <- w.append(b)
		}
		close(hashing)
		<-hashed
	}()
	return w, nil
}

// append writes a block. After a failure nothing more is written, but blocks are still taken.
func (w *diffWriter) append(b written) written {
	data := (*b.block)[:b.n]
	if w.err == nil {
		if _, w.err = w.out.Write(data); w.err != nil {
			w.failed.Store(true)
		}
		// The disk begins now, not at the fsync.
		_ = unix.SyncFileRange(int(w.out.Fd()), w.size, int64(b.n), unix.SYNC_FILE_RANGE_WRITE)
	}
	w.size += int64(b.n)
	for ; len(data) > 0; data = data[pageSize:] {
		w.sums = binary.LittleEndian.AppendUint32(w.sums, crc32.Checksum(data[:pageSize], castagnoli))
	}
	return b
}

// note records what the pages [first, first+count) are.
func (w *diffWriter) note(first, count uint64, kind uint32) {
	if n := len(w.entries); n > 0 && w.entries[n-1].kind == kind && uint64(w.entries[n-1].first)+uint64(w.entries[n-1].count) == first {
		w.entries[n-1].count += uint32(count)
	} else {
		w.entries = append(w.entries, entry{uint32(first), uint32(count), kind})
	}
	if kind == kindData {
		w.pages += count
	}
}

// data takes the first n bytes of a block, whole pages, and the block. An error may be one of an earlier block.
func (w *diffWriter) data(block *[]byte, n int) error {
	w.work <- written{block, n}
	if w.failed.Load() {
		_, err := w.drain()
		return err
	}
	return nil
}

func (w *diffWriter) drain() (sums []byte, err error) {
	w.closed.Do(func() { close(w.work) })
	<-w.done
	return w.sums, w.err
}

// savedFile describes a finished diff.
type savedFile struct {
	Sha256      string `json:"sha256"`
	IndexSha256 string `json:"indexSha256"`
	Bytes       int64  `json:"bytes"`
	DataPages   uint64 `json:"dataPages"`
}

// finish makes the file whole and durable, or removes it.
func (w *diffWriter) finish(memoryBytes uint64) (savedFile, error) {
	sums, err := w.drain()
	if err != nil {
		w.abandon()
		return savedFile{}, err
	}
	index := encodeIndex(sums, w.entries, memoryBytes)
	w.sum.Write(index)
	if _, err = w.out.Write(index); err == nil {
		err = w.out.Sync()
	}
	if cerr := w.out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		w.abandon()
		return savedFile{}, err
	}
	indexSum := sha256.Sum256(index)
	return savedFile{
		Sha256:      hex.EncodeToString(w.sum.Sum(nil)),
		IndexSha256: hex.EncodeToString(indexSum[:]),
		Bytes:       w.size + int64(len(index)),
		DataPages:   w.pages,
	}, nil
}

// abandon removes the file.
func (w *diffWriter) abandon() {
	w.drain()
	w.out.Close()
	os.Remove(w.out.Name())
}
