package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
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

// mapping finds where the process has mapped the template: by device and inode, since names differ in its jail.
func mapping(pid int, template *os.File) (start, size uint64, err error) {
	st, err := template.Stat()
	if err != nil {
		return 0, 0, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	defer maps.Close()
	want := fmt.Sprintf("%02x:%02x %d ", unix.Major(sys.Dev), unix.Minor(sys.Dev), sys.Ino)
	scan := bufio.NewScanner(maps)
	for scan.Scan() {
		f := strings.Fields(scan.Text())
		if len(f) < 5 || f[3]+" "+f[4]+" " != want {
			continue
		}
		from, to, ok := strings.Cut(f[0], "-")
		a, err1 := strconv.ParseUint(from, 16, 64)
		b, err2 := strconv.ParseUint(to, 16, 64)
		if ok && err1 == nil && err2 == nil && b-a == uint64(st.Size()) {
			return a, b - a, nil
		}
	}
	if err := scan.Err(); err != nil {
		return 0, 0, err
	}
	return 0, 0, fmt.Errorf("process %d has not mapped all of %s", pid, template.Name())
}

// privatePages calls f with each run of pages that the process wrote: present and not of the file, or swapped.
// Source: Linux Documentation/admin-guide/mm/pagemap.rst
func privatePages(pid int, start, size uint64, f func(first, count uint32) error) error {
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return err
	}
	defer pm.Close()
	const (
		present = 1 << 63
		swapped = 1 << 62
		ofFile  = 1 << 61
	)
	pages := size / pageSize
	buf := make([]byte, 8*64*1024)
	var first, count uint32
	flush := func() error {
		if count == 0 {
			return nil
		}
		n := count
		count = 0
		return f(first, n)
	}
	for at := uint64(0); at < pages; {
		n := min(uint64(len(buf)/8), pages-at)
		if _, err := pm.ReadAt(buf[:n*8], int64((start/pageSize+at)*8)); err != nil {
			return fmt.Errorf("pagemap: %w", err)
		}
		for i := uint64(0); i < n; i++ {
			e := binary.LittleEndian.Uint64(buf[i*8:])
			if (e&present != 0 && e&ofFile == 0) || e&swapped != 0 {
				if count == 0 {
					first = uint32(at + i)
				}
				count++
			} else if err := flush(); err != nil {
				return err
			}
		}
		at += n
	}
	return flush()
}

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

// saveMemory must only be given a stopped process: its answer is stale the moment a vCPU runs.
func saveMemory(args []string) error {
	fs := flag.NewFlagSet("save-memory", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	pid := fs.Int("pid", 0, "")
	templatePath := fs.String("template", "", "")
	outPath := fs.String("out", "", "")
	if err := fs.Parse(args); err != nil || *pid <= 0 || *templatePath == "" || *outPath == "" {
		return errUsage
	}
	template, err := os.Open(*templatePath)
	if err != nil {
		return err
	}
	defer template.Close()
	start, size, err := mapping(*pid, template)
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", *pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	// O_EXCL and mode: the folder is ours alone, the file must be new.
	out, err := os.OpenFile(*outPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := &diffWriter{out: out, buf: make([]byte, 0, 5<<20), sum: newAsyncHash()}
	defer w.sum.Close()
	guest := make([]byte, chunkPages*pageSize)
	origin := make([]byte, chunkPages*pageSize)
	var scanned, same uint64
	err = privatePages(*pid, start, size, func(first, count uint32) error {
		for count > 0 {
			n := min(count, chunkPages)
			g, o := guest[:n*pageSize], origin[:n*pageSize]
			at := uint64(first) * pageSize
			if _, err := mem.ReadAt(g, int64(start+at)); err != nil {
				return fmt.Errorf("guest memory at %#x: %w", at, err)
			}
			if _, err := template.ReadAt(o, int64(at)); err != nil {
				return fmt.Errorf("template at %#x: %w", at, err)
			}
			for i := uint32(0); i < n; i++ {
				p := g[i*pageSize : (i+1)*pageSize]
				scanned++
				switch {
				case bytes.Equal(p, o[i*pageSize:(i+1)*pageSize]):
					same++
				case bytes.Equal(p, zeroPage[:]):
					err = w.page(first+i, nil, kindZero)
				default:
					err = w.page(first+i, p, kindData)
				}
				if err != nil {
					return err
				}
			}
			first, count = first+n, count-n
		}
		return nil
	})
	if err == nil {
		var sum string
		if sum, err = w.finish(size); err == nil {
			if err = out.Close(); err == nil {
				return json.NewEncoder(os.Stdout).Encode(map[string]any{
					"sha256": sum, "bytes": w.bytes, "dataPages": w.data, "scannedPages": scanned, "samePages": same,
				})
			}
		}
	}
	out.Close()
	os.Remove(*outPath)
	return err
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

// loadMemory patches a process that has mapped the template and has not run. On any error the caller must end it.
func loadMemory(args []string) error {
	fs := flag.NewFlagSet("load-memory", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	pid := fs.Int("pid", 0, "")
	templatePath := fs.String("template", "", "")
	inPath := fs.String("in", "", "")
	want := fs.String("sha256", "", "")
	if err := fs.Parse(args); err != nil || *pid <= 0 || *templatePath == "" || *inPath == "" || *want == "" {
		return errUsage
	}
	template, err := os.Open(*templatePath)
	if err != nil {
		return err
	}
	defer template.Close()
	start, size, err := mapping(*pid, template)
	if err != nil {
		return err
	}
	in, err := os.Open(*inPath)
	if err != nil {
		return err
	}
	defer in.Close()
	table, err := readDiff(in, size)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", *pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	sum := newAsyncHash()
	defer sum.Close()
	zeros := make([]byte, chunkPages*pageSize)
	var read int64
	for _, e := range table {
		at, left := start+uint64(e.first)*pageSize, uint64(e.count)*pageSize
		for left > 0 {
			n := min(left, chunkPages*pageSize)
			p := zeros[:n]
			if e.kind == kindData {
				p = make([]byte, n)
				if _, err := io.ReadFull(in, p); err != nil {
					return err
				}
				read += int64(n)
				sum.Write(p)
			}
			if _, err := mem.WriteAt(p, int64(at)); err != nil {
				return fmt.Errorf("guest memory: %w", err)
			}
			at, left = at+n, left-n
		}
	}
	rest, err := io.ReadAll(in) // table and trailer: bounded by readDiff
	if err != nil {
		return err
	}
	sum.Write(rest)
	if got := sum.Hex(); got != *want {
		return fmt.Errorf("%s is corrupt: its sha256 is %s, its manifest says %s", *inPath, got, *want)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"bytes": read + int64(len(rest))})
}

// seal makes a memory file or a raw disk as sparse as it can be, durable, and prints its digest.
func seal(args []string) error {
	return digestFile(args, func(f *os.File, off, length int64) {
		// A file system that cannot punch only keeps the file larger than need be.
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	})
}

// digest prints what seal printed, if the file is still the same.
func digest(args []string) error { return digestFile(args, nil) }

// digestFile hashes the non-zero pages, each with its number: the same for the same contents, whatever the file system
// made of the holes. Runs of zero pages that take up space go to zero.
func digestFile(args []string, zero func(f *os.File, off, length int64)) error {
	if len(args) != 1 {
		return errUsage
	}
	mode := os.O_RDONLY
	if zero != nil {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(args[0], mode, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	sum := sha256.New()
	var data int64
	buf := make([]byte, chunkPages*pageSize)
	for at := int64(0); at < st.Size(); {
		from, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		} else if err != nil {
			return err
		}
		to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		at = to
		for from < to {
			n := min(int64(len(buf)), to-from)
			if _, err := f.ReadAt(buf[:n], from); err != nil {
				return err
			}
			data += digestPages(sum, buf[:n], from, func(off, length int64) {
				if zero != nil {
					zero(f, off, length)
				}
			})
			from += n
		}
	}
	if zero != nil {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"sha256": hex.EncodeToString(sum.Sum(nil)), "dataBytes": data})
}

// digestPages adds the non-zero pages of buf, which stands at offset at, and hands out the runs of zero pages.
func digestPages(sum hash.Hash, buf []byte, at int64, zero func(off, length int64)) (data int64) {
	run := int64(0)
	for off := int64(0); off < int64(len(buf)); off += pageSize {
		p := buf[off:min(off+pageSize, int64(len(buf)))]
		if bytes.Equal(p, zeroPage[:len(p)]) {
			run += int64(len(p))
			continue
		}
		if run > 0 {
			zero(at+off-run, run)
			run = 0
		}
		var no [8]byte
		binary.LittleEndian.PutUint64(no[:], uint64((at+off)/pageSize))
		sum.Write(no[:])
		sum.Write(p)
		data += int64(len(p))
	}
	if run > 0 {
		zero(at+int64(len(buf))-run, run)
	}
	return data
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
