package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const testDisk = 1 << 30

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// layered spells out the layers above an image, as the driver does.
func layered(base string, layers ...string) string {
	spec := fmt.Sprintf(`{"driver":"raw","file":{"driver":"file","filename":%q}}`, base)
	for _, path := range layers {
		spec = fmt.Sprintf(`{"driver":"qcow2","backing":%s,"file":{"driver":"file","filename":%q}}`, spec, path)
	}
	return "json:" + spec
}

// randomLayers makes a base and layers that QEMU wrote: data, zeros and discards, in and across clusters.
func randomLayers(t *testing.T, dir string, r *rand.Rand, count int) (base string, layers []string) {
	t.Helper()
	base = filepath.Join(dir, "base")
	tool(t, "truncate", "-s", fmt.Sprint(testDisk), base)
	tool(t, "qemu-io", "-f", "raw", "-c", "write -P 7 0 8M", "-c", "write -P 8 600M 1M", base)
	for n := 0; n < count; n++ {
		path := filepath.Join(dir, fmt.Sprintf("layer-%d", n))
		tool(t, "qemu-img", "create", "-q", "-f", "qcow2", path, fmt.Sprint(testDisk))
		var args []string
		for i := 0; i < 12; i++ {
			at := []int{0, 1 << 20, 599 << 20, 600 << 20, 1 << 29}[r.Intn(5)] + r.Intn(64)*4096
			size := (1 + r.Intn(40)) * 4096
			what := []string{fmt.Sprintf("write -P %d", 1+r.Intn(255)), "write -z", "write -z -u", "discard"}[r.Intn(4)]
			args = append(args, "-c", fmt.Sprintf("%s %d %d", what, at, size))
		}
		tool(t, "qemu-io", append(args, layered(base, append(append([]string{}, layers...), path)...))...)
		layers = append(layers, path)
	}
	return base, layers
}

func merge(t *testing.T, out string, layers []string) error {
	t.Helper()
	stdout := os.Stdout
	os.Stdout, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	defer func() { os.Stdout = stdout }()
	return mergeLayers(append([]string{out, fmt.Sprint(testDisk)}, layers...))
}

func TestMergedLayersReadAsTheyDidAboveEachOther(t *testing.T) {
	for seed := int64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			dir := t.TempDir()
			base, layers := randomLayers(t, dir, rand.New(rand.NewSource(seed)), 1+int(seed)%5)
			merged := filepath.Join(dir, "merged")
			if err := merge(t, merged, layers); err != nil {
				t.Fatal(err)
			}
			tool(t, "qemu-img", "check", "-f", "qcow2", merged)
			tool(t, "qemu-img", "compare", layered(base, layers...), layered(base, merged))
			// It can be written on.
			tool(t, "qemu-io", "-c", "write -P 99 10M 1M", layered(base, merged))
			tool(t, "qemu-img", "check", "-f", "qcow2", merged)
		})
	}
}

func TestDamagedLayersAreRefused(t *testing.T) {
	dir := t.TempDir()
	_, layers := randomLayers(t, dir, rand.New(rand.NewSource(1)), 1)
	good, err := os.ReadFile(layers[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged")
	out := filepath.Join(dir, "out")
	r := rand.New(rand.NewSource(2))
	for i := 0; i < 400; i++ {
		bad := bytes.Clone(good)
		switch {
		case i == 0:
			bad = bad[:50]
		case i == 1:
			bad = nil
		case i == 2:
			copy(bad[8:], bytes.Repeat([]byte{1}, 8)) // a backing file's name
		default:
			for n := 0; n < 1+r.Intn(4); n++ {
				at := r.Intn(qcowHeader)
				if r.Intn(2) == 0 {
					at = r.Intn(len(bad))
				}
				bad[at] ^= 1 << r.Intn(8)
			}
		}
		if err := os.WriteFile(damaged, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		// Refused or merged, never a crash; and what was refused leaves nothing.
		if err := merge(t, out, []string{damaged}); err != nil {
			if _, err := os.Stat(out); err == nil {
				t.Fatalf("case %d left a file", i)
			}
			continue
		}
		if i < 3 {
			t.Fatalf("case %d was accepted", i)
		}
		os.Remove(out)
	}
}
