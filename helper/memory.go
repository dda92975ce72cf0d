package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

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
