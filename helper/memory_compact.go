package main

import (
	"errors"
	"os"
)

type compactRequest struct {
	requestHead
	Template string    `json:"template"`
	Files    []fileRef `json:"files"` // oldest first
	Out      string    `json:"out"`
}

func (r compactRequest) check() error {
	return errors.Join(checkPaths(r.Template, r.Out), checkFiles(r.Files))
}

// compactMemory writes one diff that says what a chain says, with everything checked that is taken over.
func compactMemory(r compactRequest) (answer savedFile, err error) {
	st, err := os.Stat(r.Template)
	if err != nil {
		return answer, err
	}
	c, err := openFiles(r.Files, uint64(st.Size()))
	if err != nil {
		return answer, err
	}
	defer c.Close()
	for i, f := range r.Files {
		if f.Sha256 == "" {
			continue
		}
		if err := c.files[i].checkDigest(f.Sha256); err != nil {
			return answer, err
		}
	}
	w, err := newDiffWriter(r.Out)
	if err != nil {
		return answer, err
	}
	if err := c.copyTo(w); err != nil {
		w.abandon()
		return answer, err
	}
	return w.finish(uint64(st.Size()))
}

func (c *chain) copyTo(w *diffWriter) error {
	block, used := blocks.Get().(*[]byte), 0
	for _, s := range c.segments {
		switch s.kind {
		case kindData:
			w.note(s.first, s.count, kindData)
		case kindZero:
			w.note(s.first, s.count, kindZero)
			continue
		default: // without older files the template needs no word
			continue
		}
		for s.count > 0 {
			n := min(s.count, uint64(blockSize-used)/pageSize)
			part := (*block)[used : used+int(n)*pageSize]
			if err := c.files[s.file].read(part, s.data); err != nil {
				return err
			}
			if err := c.files[s.file].check(part, s.data); err != nil {
				return err
			}
			s.data, s.count, used = s.data+n, s.count-n, used+len(part)
			if used == blockSize {
				if err := w.data(block, used); err != nil {
					return err
				}
				block, used = blocks.Get().(*[]byte), 0
			}
		}
	}
	return w.data(block, used)
}

type verifyRequest struct {
	requestHead
	Path   string `json:"path"`
	Sha256 string `json:"sha256"`
}

func (r verifyRequest) check() error { return checkPaths(r.Path) }

type verifyAnswer struct {
	Bytes     uint64 `json:"bytes"`
	DataPages uint64 `json:"dataPages"`
}

// verifyMemory reads a whole file and checks everything that can be checked without a process.
func verifyMemory(r verifyRequest) (answer verifyAnswer, err error) {
	d, err := openDiff(r.Path, 0)
	if err != nil {
		return answer, err
	}
	defer d.Close()
	if err := d.checkDigest(r.Sha256); err != nil {
		return answer, err
	}
	buf := make([]byte, loadPages*pageSize)
	for at := uint64(0); at < d.dataPages; at += loadPages {
		part := buf[:min(loadPages, d.dataPages-at)*pageSize]
		if err := d.read(part, at); err != nil {
			return answer, err
		}
		if err := d.check(part, at); err != nil {
			return answer, err
		}
	}
	return verifyAnswer{d.dataPages*pageSize + uint64(len(d.index)), d.dataPages}, nil
}
