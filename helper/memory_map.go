package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
