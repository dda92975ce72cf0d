// Package events keeps what the workload wrote until the host has read it.
package events

import (
	"strconv"
	"sync"
	"time"

	"torpor/agent/protocol"
)

// Kind of an event.
type Kind string

const (
	Stdout Kind = "stdout"
	Stderr Kind = "stderr"
	Exit   Kind = "exit"
	Lost   Kind = "lost"
)

// Event is one line of output, the end of the workload, or the news that lines were lost.
type Event struct {
	Seq    uint64
	TimeMs int64
	Kind   Kind
	Text   string // Stdout, Stderr
	Code   int    // Exit
	Lines  uint64 // Lost
}

// AppendJSON appends the event as the protocol has it.
func (e *Event) AppendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), e.Seq, 10)
	b = strconv.AppendInt(append(b, `,"time":`...), e.TimeMs, 10)
	b = append(append(append(b, `,"kind":"`...), e.Kind...), '"')
	switch e.Kind {
	case Stdout, Stderr:
		b = protocol.AppendJSONString(append(b, `,"text":`...), e.Text)
	case Exit:
		b = strconv.AppendInt(append(b, `,"exitCode":`...), int64(e.Code), 10)
	case Lost:
		b = strconv.AppendUint(append(b, `,"lines":`...), e.Lines, 10)
	}
	return append(b, '}')
}

// overhead is what an event costs beside its text.
const overhead = 64

// Ring holds the newest events within a number of bytes. Writers never wait for readers: what nobody read in time is
// lost, and readers are told how many lines it was.
type Ring struct {
	mu      sync.Mutex
	limit   int
	size    int
	events  []Event // consecutive sequence numbers, oldest first
	next    uint64
	changed chan struct{} // closed and replaced when an event is added
}

// NewRing makes a ring for about `limit` bytes.
func NewRing(limit int) *Ring {
	return &Ring{limit: limit, next: 1, changed: make(chan struct{})}
}

// AddLine adds a line of output.
func (r *Ring) AddLine(kind Kind, text string) { r.add(Event{Kind: kind, Text: text}) }

// AddExit adds the end of the workload.
func (r *Ring) AddExit(code int) { r.add(Event{Kind: Exit, Code: code}) }

func (r *Ring) add(e Event) {
	e.TimeMs = time.Now().UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Seq = r.next
	r.next++
	r.events = append(r.events, e)
	r.size += len(e.Text) + overhead
	drop := 0
	for ; r.size > r.limit && drop < len(r.events)-1; drop++ {
		r.size -= len(r.events[drop].Text) + overhead
		r.events[drop].Text = "" // the array behind the slice must not keep it
	}
	r.events = r.events[drop:]
	close(r.changed)
	r.changed = make(chan struct{})
}

// After returns up to `max` events whose number is greater than `seq`; when there is none, a channel that is closed as
// soon as there is one. Lines that fell out come first, as one Lost event with the number of the last of them.
func (r *Ring) After(seq uint64, max int) ([]Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq+1 >= r.next || len(r.events) == 0 {
		return nil, r.changed
	}
	var out []Event
	first := r.events[0].Seq
	if seq+1 < first {
		out = append(out, Event{Seq: first - 1, TimeMs: r.events[0].TimeMs, Kind: Lost, Lines: first - 1 - seq})
		seq = first - 1
	}
	from := r.events[seq+1-first:]
	if len(from) > max {
		from = from[:max]
	}
	return append(out, from...), nil
}
