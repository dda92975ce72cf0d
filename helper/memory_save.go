package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

type saveRequest struct {
	requestHead
	Pid      int      `json:"pid"`
	Template string   `json:"template"`
	Out      string   `json:"out"`
	Parents  []string `json:"parents"` // oldest first
}

func (r saveRequest) check() error {
	return errors.Join(checkPid(r.Pid), checkPaths(r.Template, r.Out), checkPaths(r.Parents...))
}

type saveAnswer struct {
	savedFile
	ScannedPages uint64 `json:"scannedPages"` // that the process has of its own
	SamePages    uint64 `json:"samePages"`    // of those, how many are as the chain says
	LivePages    uint64 `json:"livePages"`    // of data that count, in the parents and the new file
	StoredPages  uint64 `json:"storedPages"`  // of data that take up space there
}

// saveMemory must only be given a stopped process, or a frozen image of one: its answer is stale the moment a vCPU runs.
func saveMemory(r saveRequest) (answer saveAnswer, err error) {
	template, guest, err := openGuest(r.Pid, r.Template)
	if err != nil {
		return answer, err
	}
	defer template.Close()
	parents, err := openChain(r.Parents, guest.size)
	if err != nil {
		return answer, err
	}
	defer parents.Close()
	runs, err := guest.privateRuns()
	if err != nil {
		return answer, err
	}
	w, err := newDiffWriter(r.Out)
	if err != nil {
		return answer, err
	}
	s := &saver{guest: guest, template: template, parents: parents, chain: cursor{parents.segments}, w: w}
	if err := s.save(runs); err != nil {
		w.abandon()
		return answer, err
	}
	newer := segmentsOf(w.entries, len(parents.files))
	if answer.savedFile, err = w.finish(guest.size); err != nil {
		return answer, err
	}
	answer.StoredPages = answer.DataPages
	for _, p := range parents.files {
		answer.StoredPages += p.dataPages
	}
	answer.ScannedPages, answer.SamePages = s.scanned, s.same
	answer.LivePages = livePages(overlay(parents.segments, newer))
	return answer, nil
}

// comparedPages are read and compared at once: large enough for few system calls, small enough to stay in the cache.
const comparedPages = 256

// saver compares the pages of a process with a chain and hands on those that differ, in the order of pages.
type saver struct {
	guest    guestMemory
	template io.ReaderAt
	parents  *chain
	chain    cursor
	w        *diffWriter

	base          [comparedPages * pageSize]byte
	next          uint64 // first page that nothing was said about
	scanned, same uint64
}

func (s *saver) save(runs []pageRun) error {
	block, used := blocks.Get().(*[]byte), 0
	var batch []pageRun
	for len(runs) > 0 {
		// Read into the free part of the block; what is kept moves up to what was kept before, mostly not at all.
		room := min(comparedPages, uint64((blockSize-used)/pageSize))
		batch, runs = takePages(batch[:0], runs, room)
		n := 0
		for _, r := range batch {
			n += int(r.count) * pageSize
		}
		read := (*block)[used : used+n]
		if err := s.guest.read(read, batch); err != nil {
			return err
		}
		for _, r := range batch {
			kept, err := s.keep(r, read[:r.count*pageSize], (*block)[used:])
			if err != nil {
				return err
			}
			read, used = read[r.count*pageSize:], used+kept
		}
		if used == blockSize {
			if err := s.w.data(block, used); err != nil {
				return err
			}
			block, used = blocks.Get().(*[]byte), 0
		}
	}
	s.revert(s.guest.size / pageSize)
	return s.w.data(block, used)
}

// takePages moves up to n pages from the beginning of runs to batch.
func takePages(batch, runs []pageRun, n uint64) (taken, left []pageRun) {
	for n > 0 && len(runs) > 0 {
		if r := runs[0]; r.count <= n {
			batch, runs, n = append(batch, r), runs[1:], n-r.count
			continue
		}
		batch = append(batch, pageRun{runs[0].first, n})
		runs[0].first, runs[0].count, n = runs[0].first+n, runs[0].count-n, 0
	}
	return batch, runs
}

// keep notes how a run's pages differ from the chain and moves those with data to the beginning of out, which may
// overlap pages from below. It returns how many bytes those are.
func (s *saver) keep(r pageRun, pages, out []byte) (int, error) {
	s.revert(r.first)
	s.scanned += r.count
	s.next = r.first + r.count
	kept := 0
	for page := r.first; page < s.next; {
		says, until := s.chain.at(page, s.next)
		n := (until - page) * pageSize
		k, err := s.compare(page, says, pages[:n], out[kept:])
		if err != nil {
			return 0, err
		}
		page, pages, kept = until, pages[n:], kept+k
	}
	return kept, nil
}

// compare is keep for pages of which the chain says the same.
func (s *saver) compare(page uint64, says segment, pages, out []byte) (int, error) {
	base := s.base[:len(pages)]
	var err error
	switch says.kind {
	case kindData:
		err = s.parents.read(base, says, page)
	case kindZero:
		clear(base)
	default:
		err = s.readTemplate(base, page)
	}
	if err != nil {
		return 0, err
	}
	kept := 0
	var original [pageSize]byte
	for off := 0; off < len(pages); off, page = off+pageSize, page+1 {
		p := pages[off : off+pageSize]
		if bytes.Equal(p, base[off:off+pageSize]) {
			s.same++
			continue
		}
		if says.kind != kindTemplate {
			if err := s.readTemplate(original[:], page); err != nil {
				return 0, err
			}
			if bytes.Equal(p, original[:]) {
				s.w.note(page, 1, kindTemplate)
				continue
			}
		}
		if bytes.Equal(p, zeroPage[:]) {
			s.w.note(page, 1, kindZero)
			continue
		}
		s.w.note(page, 1, kindData)
		if &out[kept] != &p[0] {
			copy(out[kept:], p)
		}
		kept += pageSize
	}
	return kept, nil
}

// revert handles the pages up to `until`, of which the process has none of its own: they are the template's (again, if
// a parent says something else: the VMM gave them back).
func (s *saver) revert(until uint64) {
	for s.next < until {
		says, end := s.chain.at(s.next, until)
		if says.kind != kindTemplate {
			s.w.note(s.next, end-s.next, kindTemplate)
		}
		s.next = end
	}
}

func (s *saver) readTemplate(buf []byte, page uint64) error {
	_, err := s.template.ReadAt(buf, int64(page*pageSize))
	if errors.Is(err, io.EOF) {
		return corrupt("the template ends early, at page %d", page)
	}
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	return nil
}
