package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"os"

	"golang.org/x/sys/unix"
)

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
	buf := make([]byte, 1<<20)
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
