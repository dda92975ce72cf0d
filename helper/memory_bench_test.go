package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a suspend and a resume wait for, by how much the guest wrote: in scattered runs, as guests do.
// TORPOR_BENCH_DIR is a folder on the disk that counts.
func benchGuest(b *testing.B, memoryMiB, dirtyMiB int) (*testGuest, string, string) {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("TORPOR_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	template := filepath.Join(dir, "memory")
	f, err := os.Create(template)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(page)
	for at := int64(0); at < int64(memoryMiB)<<20; at += 1 << 20 {
		if at%(3<<20) != 0 {
			f.WriteAt(page, at)
		}
	}
	f.Truncate(int64(memoryMiB) << 20)
	g := startJailedGuest(b, template)
	g.dirty(memoryMiB, dirtyMiB, 9)
	return g, template, dir
}

func (g *testGuest) dirty(memoryMiB, dirtyMiB, seed int) {
	const run = 16 // pages
	runs := dirtyMiB << 20 / pageSize / run
	step := memoryMiB << 20 / pageSize / runs
	for n := range runs {
		g.say("fill %d %d %d", n*step, run, seed)
	}
}

func BenchmarkMemory(b *testing.B) {
	for _, mib := range []int{4, 45, 208} {
		g, template, dir := benchGuest(b, 512, mib)
		w := startWorker(b)
		n := 0
		file := func() string { n++; return filepath.Join(dir, fmt.Sprint("d", n)) }
		save := func(b *testing.B, parents ...string) fields {
			out := file()
			saved := w.must("save", fields{"pid": g.pid, "template": template, "out": out, "parents": parents})
			return fields{"path": out, "sha256": saved["sha256"], "indexSha256": saved["indexSha256"]}
		}
		b.Run(fmt.Sprintf("save/%dMiB", mib), func(b *testing.B) {
			for range b.N {
				path := save(b)["path"].(string)
				b.StopTimer()
				os.Remove(path)
				b.StartTimer()
			}
		})
		first := save(b)
		g.dirty(512, max(mib/10, 1), 11)
		parent := first["path"].(string)
		b.Run(fmt.Sprintf("save-tenth-changed/%dMiB", mib), func(b *testing.B) {
			for range b.N {
				path := save(b, parent)["path"].(string)
				b.StopTimer()
				os.Remove(path)
				b.StartTimer()
			}
		})
		second := save(b, parent)
		load := func(b *testing.B, files []fields) {
			for range b.N {
				b.StopTimer()
				to := startGuest(b, template)
				b.StartTimer()
				w.must("load", fields{"pid": to.pid, "template": template, "files": files})
				b.StopTimer()
				to.kill()
				b.StartTimer()
			}
		}
		quick := []fields{{"path": first["path"], "indexSha256": first["indexSha256"]}}
		b.Run(fmt.Sprintf("load/%dMiB", mib), func(b *testing.B) { load(b, quick) })
		b.Run(fmt.Sprintf("load-sha256/%dMiB", mib), func(b *testing.B) { load(b, []fields{first}) })
		b.Run(fmt.Sprintf("load-two/%dMiB", mib), func(b *testing.B) {
			load(b, append(quick, fields{"path": second["path"], "indexSha256": second["indexSha256"]}))
		})
		b.Run(fmt.Sprintf("load-cold/%dMiB", mib), func(b *testing.B) {
			g.kill() // what is mapped stays in the page cache
			for range b.N {
				b.StopTimer()
				to := startGuest(b, template)
				for _, path := range []string{template, first["path"].(string)} {
					evict(b, path)
				}
				b.StartTimer()
				w.must("load", fields{"pid": to.pid, "template": template, "files": quick})
				b.StopTimer()
				to.kill()
				b.StartTimer()
			}
		})
	}
}

// evict takes a file out of the page cache.
func evict(b *testing.B, path string) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	// What has not been written yet stays.
	if err := unix.Fsync(int(f.Fd())); err != nil {
		b.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkFreeze(b *testing.B) {
	for _, mib := range []int{16, 128, 1024} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			b.StopTimer()
			g, template, _ := benchGuest(b, 1536, mib)
			w := startWorker(b)
			var pause float64
			for range b.N {
				b.StartTimer()
				ok := w.must("freeze", fields{"pid": g.pid, "template": template})
				b.StopTimer()
				pause += ok["pauseUs"].(float64)
				w.must("thaw", fields{"frozenPid": ok["frozenPid"]})
				g.dirty(1536, mib, 3)
			}
			b.ReportMetric(pause/float64(b.N)/1000, "ms-pause/op")
			g.kill()
		})
	}
}
