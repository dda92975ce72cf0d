package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checksumLine is what is printed of one file: a digest and what identifies the file, or why there is none.
type checksumLine struct {
	Path    string `json:"path"`
	Sha256  string `json:"sha256,omitempty"`
	Bytes   int64  `json:"bytes"`
	Inode   string `json:"inode,omitempty"`   // decimal: JavaScript's numbers are too small for it
	Changed string `json:"changed,omitempty"` // when its contents were written last; nanoseconds since the epoch, decimal
	Damage  string `json:"damage,omitempty"`
}

// checksum prints the sha256 of files, one JSON object a line, in their order. What a file lacks is said of it; any
// other error is no word about the file and ends the verb.
func checksum(args []string) error {
	var (
		flags = flag.NewFlagSet("checksum", flag.ContinueOnError)
		// Through the page cache, which has what was just written; else from the device, leaving the page cache alone.
		cached = flags.Bool("cached", false, "")
		idle   = flags.Bool("idle", false, "")
		pace   = flags.Int64("pace", 0, "") // bytes a second at most; 0: no limit
	)
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 || *pace < 0 {
		return errUsage
	}
	if *idle {
		stepBack()
	}
	// Direct reads go to whole pages.
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, path := range flags.Args() {
		line, err := checksumFile(path, *cached, *pace, buf)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// stepBack: whoever else wants processor or disk comes first. Both belong to a thread.
func stepBack() {
	const (
		schedIdle      = 5
		ioprioProcess  = 1
		ioprioIdle     = 3 << 13
		currentProcess = 0
	)
	runtime.LockOSThread()
	_ = unix.SchedSetAttr(currentProcess, &unix.SchedAttr{Policy: schedIdle}, 0)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, currentProcess, ioprioIdle)
}

func checksumFile(path string, cached bool, pace int64, buf []byte) (checksumLine, error) {
	line := checksumLine{Path: path}
	f, err := openPlain(path, cached)
	if err != nil {
		line.Damage = damageOf(err)
		if line.Damage == "" {
			return line, err
		}
		return line, nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return line, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	line.Bytes, line.Inode = st.Size(), fmt.Sprint(sys.Ino)
	line.Changed = fmt.Sprint(st.ModTime().UnixNano())
	if !st.Mode().IsRegular() {
		line.Damage = "is not a plain file"
		return line, nil
	}
	sum := sha256.New()
	begun := time.Now()
	for at := int64(0); at < st.Size(); {
		n, err := f.ReadAt(buf, at)
		if errors.Is(err, unix.EINVAL) && !cached {
			// Its file system opens for direct reads and does not do them.
			f.Close()
			return checksumFile(path, true, pace, buf)
		}
		if n == 0 && errors.Is(err, io.EOF) {
			line.Damage = fmt.Sprintf("ends after %d bytes while it is read", at)
			return line, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			if line.Damage = damageOf(err); line.Damage == "" {
				return line, err
			}
			return line, nil
		}
		sum.Write(buf[:n])
		at += int64(n)
		if pace > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(float64(at) / float64(pace) * float64(time.Second)))))
		}
	}
	line.Sha256 = hex.EncodeToString(sum.Sum(nil))
	return line, nil
}

// openPlain follows no link and waits for nothing that is no file.
func openPlain(path string, cached bool) (*os.File, error) {
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if !cached {
		f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
		if !errors.Is(err, unix.EINVAL) {
			return f, err
		}
	}
	return os.OpenFile(path, flags, 0)
}

// damageOf: what an error says of the file itself; nothing when it is about something else.
func damageOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing"
	case errors.Is(err, unix.ELOOP):
		return "is not a plain file"
	}
	for _, errno := range []unix.Errno{unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.EILSEQ, unix.ENODATA} {
		if errors.Is(err, errno) {
			return fmt.Sprintf("cannot be read: %s", errno.Error())
		}
	}
	return ""
}
