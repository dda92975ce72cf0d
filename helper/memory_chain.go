package main

// segment is a run of pages of which the same file of a chain has the last word.
type segment struct {
	first, count uint64
	kind         uint32
	file         int    // index in the chain
	data         uint64 // kindData: the first page's place in the file's data
}

func (s segment) end() uint64 { return s.first + s.count }

// cut splits in front of a page that lies inside.
func (s segment) cut(page uint64) (head, rest segment) {
	head, rest = s, s
	head.count = page - s.first
	rest.first, rest.count = page, s.count-head.count
	if s.kind == kindData {
		rest.data += head.count
	}
	return head, rest
}

// chain is what a list of diffs, oldest first, says together.
type chain struct {
	files    []*diff
	segments []segment // ascending, without overlap; kindTemplate like a page that nobody mentions
}

// openChain opens the files and checks their structure; their data is checked as it is read, by who needs to.
func openChain(paths []string, memoryBytes uint64) (*chain, error) {
	c := &chain{}
	for _, path := range paths {
		d, err := openDiff(path, memoryBytes)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.add(d)
	}
	return c, nil
}

func (c *chain) add(d *diff) {
	c.segments = overlay(c.segments, segmentsOf(d.entries, len(c.files)))
	c.files = append(c.files, d)
}

func (c *chain) Close() {
	for _, d := range c.files {
		d.Close()
	}
}

// read fills buf with pages of a kindData segment, from its page `first` on, unchecked.
func (c *chain) read(buf []byte, s segment, first uint64) error {
	return c.files[s.file].read(buf, s.data+first-s.first)
}

// livePages counts the pages of data that nothing newer overrides.
func livePages(segments []segment) (n uint64) {
	for _, s := range segments {
		if s.kind == kindData {
			n += s.count
		}
	}
	return n
}

func segmentsOf(entries []entry, file int) []segment {
	segments := make([]segment, len(entries))
	var data uint64
	for i, e := range entries {
		segments[i] = segment{first: uint64(e.first), count: uint64(e.count), kind: e.kind, file: file}
		if e.kind == kindData {
			segments[i].data = data
			data += uint64(e.count)
		}
	}
	return segments
}

// overlay puts newer segments over older ones. It may use up `older`.
func overlay(older, newer []segment) []segment {
	if len(older) == 0 {
		return newer
	}
	out := make([]segment, 0, len(older)+len(newer))
	for _, n := range newer {
		for len(older) > 0 && older[0].first < n.first {
			if older[0].end() <= n.first {
				out, older = append(out, older[0]), older[1:]
				continue
			}
			head, rest := older[0].cut(n.first)
			out, older[0] = append(out, head), rest
		}
		for len(older) > 0 && older[0].first < n.end() {
			if older[0].end() <= n.end() {
				older = older[1:]
				continue
			}
			_, older[0] = older[0].cut(n.end())
		}
		out = append(out, n)
	}
	return append(out, older...)
}

// cursor finds the segment of ascending pages.
type cursor struct{ segments []segment }

// at tells what the chain says from `page` on, until where it says the same, at most `limit`.
func (c *cursor) at(page, limit uint64) (s segment, until uint64) {
	for len(c.segments) > 0 && c.segments[0].end() <= page {
		c.segments = c.segments[1:]
	}
	if len(c.segments) == 0 || c.segments[0].first >= limit {
		return segment{kind: kindTemplate}, limit
	}
	if s = c.segments[0]; s.first > page {
		return segment{kind: kindTemplate}, s.first
	}
	return s, min(limit, s.end())
}
