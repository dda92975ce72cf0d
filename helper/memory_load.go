package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// fileRef names a diff, and which one it must be.
type fileRef struct {
	Path        string `json:"path"`
	Sha256      string `json:"sha256"`
	IndexSha256 string `json:"indexSha256"`
}

type loadRequest struct {
	requestHead
	Pid      int       `json:"pid"`
	Template string    `json:"template"`
	Files    []fileRef `json:"files"` // oldest first
}

func (r loadRequest) check() error {
	return errors.Join(checkPid(r.Pid), checkPaths(r.Template), checkFiles(r.Files))
}

func checkFiles(files []fileRef) error {
	for _, f := range files {
		if err := checkPaths(f.Path); err != nil {
			return err
		}
	}
	return nil
}

type loadAnswer struct {
	DataPages uint64 `json:"dataPages"`
	ZeroPages uint64 `json:"zeroPages"`
}

// loadMemory patches a process that has mapped the template and has not run. On any error the caller must end it.
func loadMemory(r loadRequest) (answer loadAnswer, err error) {
	template, guest, err := openGuest(r.Pid, r.Template)
	if err != nil {
		return answer, err
	}
	defer template.Close()
	c, err := openFiles(r.Files, guest.size)
	if err != nil {
		return answer, err
	}
	defer c.Close()
	var group failFast
	group.run(func() error {
		readAhead(template, c.segments)
		return nil
	})
	for i, f := range r.Files {
		if f.Sha256 != "" {
			group.run(func() error { return c.files[i].checkDigest(f.Sha256) })
		}
	}
	batches := make(chan loadBatch)
	for range 2 {
		group.run(func() error {
			buf := make([]byte, loadPages*pageSize)
			var err error
			for b := range batches { // to the end, so that nobody waits for a reader
				if err == nil && !group.failed.Load() {
					err = b.load(guest, buf)
				}
			}
			return err
		})
	}
	answer.DataPages, answer.ZeroPages = sendBatches(c, batches)
	close(batches)
	return answer, group.wait()
}

// openFiles opens a chain whose files are those that are meant.
func openFiles(files []fileRef, memoryBytes uint64) (*chain, error) {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	c, err := openChain(paths, memoryBytes)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if f.IndexSha256 == "" {
			continue
		}
		if sum := sha256.Sum256(c.files[i].index); hex.EncodeToString(sum[:]) != f.IndexSha256 {
			c.Close()
			return nil, corrupt("%s is not the memory diff that is meant: the sha256 of its index is %x, not %s", f.Path, sum, f.IndexSha256)
		}
	}
	return c, nil
}

// checkDigest reads the whole file.
func (d *diff) checkDigest(want string) error {
	sum := sha256.New()
	st, err := d.file.Stat()
	if err != nil {
		return err
	}
	if _, err := io.Copy(sum, io.NewSectionReader(d.file, 0, st.Size())); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return corrupt("%s is corrupt: its sha256 is %s, not %s", d.file.Name(), got, want)
	}
	return nil
}

// loadPages are read, checked and written at once.
const loadPages = 128

var zeros [loadPages * pageSize]byte

// loadBatch is up to loadPages pages of one file, or of zeros if that is nil.
type loadBatch struct {
	file    *diff
	runs    []pageRun
	extents []pageRun // the same pages where the file has them
}

func (b *loadBatch) add(s segment) {
	b.runs = append(b.runs, pageRun{s.first, s.count})
	if n := len(b.extents); n > 0 && b.extents[n-1].first+b.extents[n-1].count == s.data {
		b.extents[n-1].count += s.count
	} else {
		b.extents = append(b.extents, pageRun{s.data, s.count})
	}
}

func (b *loadBatch) load(guest guestMemory, buf []byte) error {
	if b.file == nil {
		return guest.write(zeros[:], b.runs)
	}
	at := 0
	for _, e := range b.extents {
		part := buf[at : at+int(e.count)*pageSize]
		if err := b.file.read(part, e.first); err != nil {
			return err
		}
		if err := b.file.check(part, e.first); err != nil {
			return err
		}
		at += len(part)
	}
	return guest.write(buf, b.runs)
}

// sendBatches cuts what counts in the chain into batches, file by file, so that reads are long.
func sendBatches(c *chain, batches chan<- loadBatch) (data, zero uint64) {
	perFile := make([][]segment, len(c.files))
	var zeroes []segment
	for _, s := range c.segments {
		switch s.kind {
		case kindData:
			perFile[s.file] = append(perFile[s.file], s)
			data += s.count
		case kindZero:
			s.data = s.first // any order that makes extents long; they are not read
			zeroes = append(zeroes, s)
			zero += s.count
		}
	}
	send := func(file *diff, segments []segment) {
		b, room := loadBatch{file: file}, uint64(loadPages)
		for _, s := range segments {
			for s.count > 0 {
				head := s
				if s.count > room {
					head, s = s.cut(s.first + room)
				} else {
					s.count = 0
				}
				b.add(head)
				if room -= head.count; room == 0 {
					batches <- b
					b, room = loadBatch{file: file}, loadPages
				}
			}
		}
		if len(b.runs) > 0 {
			batches <- b
		}
	}
	for i, segments := range perFile {
		send(c.files[i], segments)
	}
	send(nil, zeroes)
	return data, zero
}

// failFast runs functions beside each other and keeps the first error.
type failFast struct {
	all    sync.WaitGroup
	once   sync.Once
	failed atomic.Bool
	err    error
}

func (g *failFast) run(f func() error) {
	g.all.Add(1)
	go func() {
		defer g.all.Done()
		if err := f(); err != nil {
			g.once.Do(func() { g.err = err })
			g.failed.Store(true)
		}
	}()
}

func (g *failFast) wait() error {
	g.all.Wait()
	return g.err
}
