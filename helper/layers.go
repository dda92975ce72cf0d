package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// The qcow2 files that Torpor makes and QEMU writes: version 3, clusters of 64 KiB, refcounts of 16 bits, no backing
// name, no compression, no internal snapshots. Anything else in a file is damage, or the work of a hostile VMM.
// Source: QEMU docs/interop/qcow2.rst
const (
	qcowMagic       = 0x514649fb
	clusterBits     = 16
	clusterSize     = 1 << clusterBits
	tableEntries    = clusterSize / 8
	qcowHeader      = 112
	offsetMask      = 0x00fffffffffffe00
	copiedFlag      = 1 << 63
	compressedFlag  = 1 << 62
	zeroFlag        = 1
	refcountEntries = clusterSize / 2
	// The disk's size is bounded by one cluster of L1 entries: 8192 tables of 512 MiB.
	maxL1 = tableEntries
)

// layer is one sealed layer, read only. Nothing in the file is believed: every offset is compared with its length.
type layer struct {
	file *os.File
	size int64
	disk uint64
	l1   []uint64
	// The L2 table that was read last; those of one disk are asked for in order.
	l2   []uint64
	l2of int
}

func openLayer(path string) (*layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &layer{file: f, l2of: -1}
	if err := l.readHeader(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func (l *layer) readHeader() error {
	st, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.size = st.Size()
	var h [qcowHeader]byte
	if _, err := l.file.ReadAt(h[:], 0); err != nil {
		return fmt.Errorf("no qcow2 header: %w", err)
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(h[at:]) }
	const dirty, corrupt = 1, 2
	switch {
	case u32(0) != qcowMagic || u32(4) != 3:
		return errors.New("not a qcow2 file of version 3")
	case u64(8) != 0 || u32(32) != 0 || u32(60) != 0:
		return errors.New("names a backing file, is encrypted or has internal snapshots")
	case u32(20) != clusterBits:
		return fmt.Errorf("clusters of 2^%d bytes", u32(20))
	case u64(72)&^dirty != 0:
		return fmt.Errorf("incompatible features %#x", u64(72))
	case u32(36) > maxL1:
		return fmt.Errorf("%d L1 entries", u32(36))
	}
	l.disk = u64(24)
	if l.disk == 0 || l.disk > uint64(u32(36))*tableEntries*clusterSize {
		return fmt.Errorf("a disk of %d bytes in %d L1 entries", l.disk, u32(36))
	}
	l.l1, err = l.table(u64(40), int(u32(36)))
	return err
}

// table reads big-endian entries at a cluster's offset.
func (l *layer) table(at uint64, entries int) ([]uint64, error) {
	if at%clusterSize != 0 || at > uint64(l.size) || uint64(l.size)-at < uint64(entries*8) {
		return nil, fmt.Errorf("a table at %#x, beyond the file's %d bytes", at, l.size)
	}
	raw := make([]byte, entries*8)
	if _, err := l.file.ReadAt(raw, int64(at)); err != nil {
		return nil, err
	}
	out := make([]uint64, entries)
	for i := range out {
		out[i] = binary.BigEndian.Uint64(raw[i*8:])
	}
	return out, nil
}

// lookup says what the layer has of a guest cluster: nothing, zeros, or data at an offset.
func (l *layer) lookup(cluster uint64) (data uint64, zero bool, err error) {
	table, index := int(cluster/tableEntries), int(cluster%tableEntries)
	if l.l2of != table {
		l.l2, l.l2of = nil, table
		if at := l.l1[table] & offsetMask; at != 0 {
			if l.l2, err = l.table(at, tableEntries); err != nil {
				return 0, false, err
			}
		}
	}
	if l.l2 == nil {
		return 0, false, nil
	}
	entry := l.l2[index]
	switch at := entry & offsetMask; {
	case entry&compressedFlag != 0:
		return 0, false, errors.New("a compressed cluster")
	case entry&zeroFlag != 0:
		return 0, true, nil
	case at == 0:
		return 0, false, nil
	case at%clusterSize != 0 || at >= uint64(l.size):
		return 0, false, fmt.Errorf("a cluster at %#x, beyond the file's %d bytes", at, l.size)
	default:
		return at, false, nil
	}
}

// read fills p with a cluster; what lies beyond the end of the file is zero, as QEMU reads it.
func (l *layer) read(p []byte, at uint64) error {
	n, err := l.file.ReadAt(p, int64(at))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(p[n:])
	return nil
}

// mergeLayers writes one layer that reads as the given ones do above each other, oldest first. It is durable when this
// returns; when it fails nothing is left. The disk's size bounds what a layer that lies can make it write.
func mergeLayers(args []string) error {
	if len(args) < 3 {
		return errUsage
	}
	out, paths := args[0], args[2:]
	disk, err := strconv.ParseUint(args[1], 10, 63)
	if err != nil {
		return errUsage
	}
	layers := make([]*layer, len(paths))
	for i, path := range paths {
		l, err := openLayer(path)
		if err != nil {
			return err
		}
		defer l.file.Close()
		if l.disk != disk {
			return fmt.Errorf("%s: a disk of %d bytes, not %d", path, l.disk, disk)
		}
		layers[i] = l
	}
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	clusters, err := writeMerged(f, layers)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(out)
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"dataBytes": clusters * clusterSize})
}

func writeMerged(out *os.File, layers []*layer) (uint64, error) {
	w := &layerWriter{out: out, next: 1, l1: make([]uint64, len(layers[0].l1))}
	var copied uint64
	buf := make([]byte, clusterSize)
	total := (layers[0].disk + clusterSize - 1) / clusterSize
	for table := uint64(0); table*tableEntries < total; table++ {
		entries := make([]uint64, tableEntries)
		used := false
		for i := range entries {
			cluster := table*tableEntries + uint64(i)
			if cluster >= total {
				break
			}
			for n := len(layers) - 1; n >= 0; n-- {
				at, zero, err := layers[n].lookup(cluster)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", layers[n].file.Name(), err)
				}
				if zero {
					entries[i] = zeroFlag
				} else if at != 0 {
					if err := layers[n].read(buf, at); err != nil {
						return 0, err
					}
					to, err := w.cluster(buf)
					if err != nil {
						return 0, err
					}
					entries[i] = to | copiedFlag
					copied++
				} else {
					continue
				}
				used = true
				break
			}
		}
		if used {
			at, err := w.cluster(bigEndian(entries))
			if err != nil {
				return 0, err
			}
			w.l1[table] = at | copiedFlag
		}
	}
	return copied, w.finish(layers[0].disk)
}

// layerWriter appends clusters; the first is the header's, the tables that need to know how many there are come last.
type layerWriter struct {
	out  *os.File
	next uint64
	l1   []uint64
}

func (w *layerWriter) cluster(p []byte) (uint64, error) {
	at := w.next * clusterSize
	w.next++
	_, err := w.out.WriteAt(p, int64(at))
	return at, err
}

func (w *layerWriter) finish(disk uint64) error {
	l1 := make([]byte, clusterSize)
	copy(l1, bigEndian(w.l1))
	l1At, err := w.cluster(l1)
	if err != nil {
		return err
	}
	// The refcounts count their own blocks and their table, too.
	blocks, tables := uint64(1), uint64(1)
	for {
		all := w.next + blocks + tables
		needBlocks := (all + refcountEntries - 1) / refcountEntries
		needTables := (needBlocks + tableEntries - 1) / tableEntries
		if needBlocks == blocks && needTables == tables {
			break
		}
		blocks, tables = needBlocks, needTables
	}
	all := w.next + blocks + tables
	table := make([]uint64, tables*tableEntries)
	for b := uint64(0); b < blocks; b++ {
		block := make([]byte, clusterSize)
		for i := uint64(0); i < refcountEntries && b*refcountEntries+i < all; i++ {
			binary.BigEndian.PutUint16(block[i*2:], 1)
		}
		if table[b], err = w.cluster(block); err != nil {
			return err
		}
	}
	tableAt := w.next * clusterSize
	for raw := bigEndian(table); len(raw) > 0; raw = raw[clusterSize:] {
		if _, err := w.cluster(raw[:clusterSize]); err != nil {
			return err
		}
	}
	var h [qcowHeader]byte
	binary.BigEndian.PutUint32(h[0:], qcowMagic)
	binary.BigEndian.PutUint32(h[4:], 3)
	binary.BigEndian.PutUint32(h[20:], clusterBits)
	binary.BigEndian.PutUint64(h[24:], disk)
	binary.BigEndian.PutUint32(h[36:], uint32(len(w.l1)))
	binary.BigEndian.PutUint64(h[40:], l1At)
	binary.BigEndian.PutUint64(h[48:], tableAt)
	binary.BigEndian.PutUint32(h[56:], uint32(tables))
	binary.BigEndian.PutUint32(h[96:], 4)
	binary.BigEndian.PutUint32(h[100:], qcowHeader)
	_, err = w.out.WriteAt(h[:], 0)
	return err
}

func bigEndian(entries []uint64) []byte {
	raw := make([]byte, len(entries)*8)
	for i, e := range entries {
		binary.BigEndian.PutUint64(raw[i*8:], e)
	}
	return raw
}
