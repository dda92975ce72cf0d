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

// guestMemory is where a process has mapped the template.
type guestMemory struct {
	pid         int
	start, size uint64
}

// openGuest opens a template and finds it in a process. The file is the caller's to close when there is no error.
func openGuest(pid int, path string) (*os.File, guestMemory, error) {
	template, err := os.Open(path)
	if err != nil {
		return nil, guestMemory{}, err
	}
	guest, err := findGuest(pid, template)
	if err != nil {
		template.Close()
		return nil, guestMemory{}, err
	}
	return template, guest, nil
}

// findGuest looks for the template by device and inode, since names differ in the process's jail.
func findGuest(pid int, template *os.File) (guestMemory, error) {
	g := guestMemory{pid: pid}
	st, err := template.Stat()
	if err != nil {
		return g, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return g, procError(pid, err)
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
			g.start, g.size = a, b-a
			return g, nil
		}
	}
	if err := scan.Err(); err != nil {
		return g, procError(pid, err)
	}
	return g, procError(pid, fmt.Errorf("it has not mapped all of %s", template.Name()))
}

type pageRun struct{ first, count uint64 }

// privateRuns lists the pages that the process wrote: present and not of the file, or swapped. That holds as well for a
// frozen image, which shares such pages with the process it was made of.
// Source: Linux Documentation/admin-guide/mm/pagemap.rst
func (g guestMemory) privateRuns() ([]pageRun, error) {
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", g.pid))
	if err != nil {
		return nil, procError(g.pid, err)
	}
	defer pm.Close()
	const (
		present = 1 << 63
		swapped = 1 << 62
		ofFile  = 1 << 61
	)
	var runs []pageRun
	pages := g.size / pageSize
	buf := make([]byte, min(8*64*1024, pages*8))
	next := ^uint64(0) // the page that would lengthen the last run
	for at := uint64(0); at < pages; {
		n := min(uint64(len(buf)/8), pages-at)
		if _, err := pm.ReadAt(buf[:n*8], int64((g.start/pageSize+at)*8)); err != nil {
			return nil, gone("page map of process %d: %w", g.pid, err) // it reads as empty when the memory is gone
		}
		for i := uint64(0); i < n; i++ {
			e := binary.LittleEndian.Uint64(buf[i*8:])
			if (e&present == 0 || e&ofFile != 0) && e&swapped == 0 {
				continue
			}
			if page := at + i; page == next {
				runs[len(runs)-1].count++
			} else {
				runs = append(runs, pageRun{page, 1})
				next = page
			}
			next++
		}
		at += n
	}
	return runs, nil
}

// read fills buf with the pages of the runs, one behind the other.
func (g guestMemory) read(buf []byte, runs []pageRun) error {
	return g.copy(buf, runs, unix.ProcessVMReadv)
}

// write puts buf into the pages of the runs, one behind the other.
func (g guestMemory) write(buf []byte, runs []pageRun) error {
	return g.copy(buf, runs, unix.ProcessVMWritev)
}

type processCopy func(pid int, local []unix.Iovec, remote []unix.RemoteIovec, flags uint) (int, error)

func (g guestMemory) copy(buf []byte, runs []pageRun, f processCopy) error {
	const maxVectors = 1024 // IOV_MAX
	for len(runs) > 0 {
		some := runs[:min(len(runs), maxVectors)]
		runs = runs[len(some):]
		remote := make([]unix.RemoteIovec, len(some))
		total := 0
		for i, r := range some {
			remote[i] = unix.RemoteIovec{Base: uintptr(g.start + r.first*pageSize), Len: int(r.count * pageSize)}
			total += remote[i].Len
		}
		local := []unix.Iovec{{Base: &buf[0]}}
		local[0].SetLen(total)
		n, err := f(g.pid, local, remote, 0)
		if err != nil {
			return procError(g.pid, err)
		}
		if n != total {
			return procError(g.pid, fmt.Errorf("%d of %d bytes of guest memory are there", n, total))
		}
		buf = buf[total:]
	}
	return nil
}
