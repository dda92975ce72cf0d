package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

// A memory diff holds the pages in which a VMM's guest memory differs from what it is based on: a template, or a template
// and older diffs (its chain, in which the newest file that has a page says what is in it).
//
//	data    the pages' bytes, in the order of the table
//	sums    the CRC-32C of each page of data, u32
//	table   entries of 12 bytes, ascending, without overlap: first page u32, pages u32, kind u32
//	trailer 48 bytes: magic 8, version u32, page size u32, memory bytes u64, data pages u64, entries u64, zero u32,
//	        CRC-32C u32 of everything between the data and itself
//
// All numbers are little endian. What lies behind the data is the index. Sums are per page, so that a reader can check
// exactly the pages that it uses: most of an old file may be overridden by newer ones. A CRC finds damage; which file
// it is, is said by the sha256 of the index, which covers the sums and with them the data.
const (
	pageSize    = 4096
	entrySize   = 12
	sumSize     = 4
	trailerSize = 48
	diffVersion = 2

	kindData     = 0
	kindZero     = 1 // no bytes in data
	kindTemplate = 2 // no bytes in data: the page is the template's again, whatever older files say
)

var (
	diffMagic  = [8]byte{'T', 'O', 'R', 'P', 'D', 'I', 'F', 'F'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroPage   [pageSize]byte
)

type entry struct{ first, count, kind uint32 }

// diff is an open file whose index has been checked; its data has not.
type diff struct {
	file        *os.File
	memoryBytes uint64
	dataPages   uint64
	entries     []entry
	sums        []byte
	index       []byte
}

func (d *diff) Close() error { return d.file.Close() }

func (d *diff) corrupt(format string, args ...any) error {
	return corrupt("%s is not a whole memory diff: %s", d.file.Name(), fmt.Sprintf(format, args...))
}

// openDiff checks everything that the index says before any of it is believed. memoryBytes 0 accepts any size.
func openDiff(path string, memoryBytes uint64) (*diff, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corrupt("%s is missing", path)
	} else if err != nil {
		return nil, err
	}
	d := &diff{file: file}
	if err := d.readIndex(memoryBytes); err != nil {
		file.Close()
		return nil, err
	}
	return d, nil
}

func (d *diff) readIndex(memoryBytes uint64) error {
	st, err := d.file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() < trailerSize {
		return d.corrupt("too short")
	}
	size := uint64(st.Size())
	var t [trailerSize]byte
	if _, err := d.file.ReadAt(t[:], st.Size()-trailerSize); err != nil {
		return d.readError(err)
	}
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	d.memoryBytes, d.dataPages = u64(t[16:]), u64(t[24:])
	entries, pages := u64(t[32:]), d.memoryBytes/pageSize
	switch {
	case !bytes.Equal(t[:8], diffMagic[:]):
		return d.corrupt("wrong magic")
	case u32(t[8:]) != diffVersion || u32(t[12:]) != pageSize:
		return d.corrupt("version %d and page size %d are not ours", u32(t[8:]), u32(t[12:]))
	case d.memoryBytes%pageSize != 0 || pages > 1<<32-1 || (memoryBytes != 0 && d.memoryBytes != memoryBytes):
		return d.corrupt("made for a memory of %d bytes", d.memoryBytes)
	case d.dataPages > pages || entries > pages:
		return d.corrupt("more pages than memory")
	case size != d.dataPages*(pageSize+sumSize)+entries*entrySize+trailerSize:
		return d.corrupt("its length does not fit its contents")
	}
	d.index = make([]byte, size-d.dataPages*pageSize)
	if _, err := d.file.ReadAt(d.index, int64(d.dataPages*pageSize)); err != nil {
		return d.readError(err)
	}
	end := len(d.index) - 4
	if crc32.Checksum(d.index[:end], castagnoli) != u32(d.index[end:]) {
		return d.corrupt("the checksum of its index is wrong")
	}
	d.sums = d.index[:d.dataPages*sumSize]
	return d.readTable(d.index[len(d.sums):len(d.index)-trailerSize], pages)
}

func (d *diff) readTable(raw []byte, pages uint64) error {
	d.entries = make([]entry, len(raw)/entrySize)
	var next, data uint64
	for i := range d.entries {
		b := raw[i*entrySize:]
		e := entry{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}
		end := uint64(e.first) + uint64(e.count)
		if uint64(e.first) < next || e.count == 0 || end > pages || e.kind > kindTemplate {
			return d.corrupt("entry %d of its table makes no sense", i)
		}
		if e.kind == kindData {
			data += uint64(e.count)
		}
		d.entries[i], next = e, end
	}
	if data != d.dataPages {
		return d.corrupt("its table and its data differ")
	}
	return nil
}

// readError: a file that ends while it is read is shorter than it says.
func (d *diff) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return d.corrupt("it ends early")
	}
	return err
}

// read fills buf with consecutive pages of data, unchecked.
func (d *diff) read(buf []byte, dataPage uint64) error {
	if _, err := d.file.ReadAt(buf, int64(dataPage*pageSize)); err != nil {
		return d.readError(err)
	}
	return nil
}

// check compares consecutive pages of data with their sums.
func (d *diff) check(buf []byte, dataPage uint64) error {
	for ; len(buf) > 0; buf, dataPage = buf[pageSize:], dataPage+1 {
		if crc32.Checksum(buf[:pageSize], castagnoli) != binary.LittleEndian.Uint32(d.sums[dataPage*sumSize:]) {
			return d.corrupt("the checksum of its data page %d is wrong", dataPage)
		}
	}
	return nil
}

// encodeIndex makes what comes behind the data.
func encodeIndex(sums []byte, entries []entry, memoryBytes uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, len(sums)+len(entries)*entrySize+trailerSize)
	b = append(b, sums...)
	for _, e := range entries {
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, e.first), e.count), e.kind)
	}
	b = append(b, diffMagic[:]...)
	b = le.AppendUint32(le.AppendUint32(b, diffVersion), pageSize)
	b = le.AppendUint64(le.AppendUint64(b, memoryBytes), uint64(len(sums)/sumSize))
	b = le.AppendUint32(le.AppendUint64(b, uint64(len(entries))), 0)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}
