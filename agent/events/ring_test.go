package events

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

func TestEventsAreNumberedFromOneAndReadFromAnywhere(t *testing.T) {
	r := NewRing(1 << 20)
	for _, line := range []string{"a", "b", "c"} {
		r.AddLine(Stdout, line)
	}
	r.AddExit(3)
	all, _ := r.After(0, 10)
	if len(all) != 4 || all[0].Seq != 1 || all[0].Text != "a" || all[3].Kind != Exit || all[3].Code != 3 {
		t.Fatalf("%+v", all)
	}
	if some, _ := r.After(2, 1); len(some) != 1 || some[0].Text != "c" {
		t.Fatalf("%+v", some)
	}
	if none, changed := r.After(4, 10); none != nil || changed == nil {
		t.Fatalf("%+v", none)
	}
	// A number from the future, e.g. of a host that mixes guests up, waits for its turn.
	if none, changed := r.After(1<<63, 10); none != nil || changed == nil {
		t.Fatalf("%+v", none)
	}
}

func TestAReaderThatWaitsIsWokenByTheNextEvent(t *testing.T) {
	r := NewRing(1 << 20)
	_, changed := r.After(0, 1)
	go r.AddLine(Stderr, "x")
	<-changed
	if got, _ := r.After(0, 1); len(got) != 1 || got[0].Kind != Stderr {
		t.Fatalf("%+v", got)
	}
}

func TestLinesThatFellOutAreCounted(t *testing.T) {
	const kept = 10
	r := NewRing(kept * (100 + overhead))
	for i := 0; i < 25; i++ {
		r.AddLine(Stdout, strings.Repeat("x", 100))
	}
	got, _ := r.After(0, 100)
	if got[0].Kind != Lost || got[0].Lines != 15 || got[0].Seq != 15 || len(got) != 1+kept {
		t.Fatalf("%+v", got[0])
	}
	// A reader who had seen some of them has lost fewer.
	if got, _ = r.After(12, 100); got[0].Kind != Lost || got[0].Lines != 3 || got[1].Seq != 16 {
		t.Fatalf("%+v", got[:2])
	}
	if got, _ = r.After(15, 100); got[0].Kind != Stdout || got[0].Seq != 16 {
		t.Fatalf("%+v", got[0])
	}
}

func TestTheNewestEventIsKeptHoweverLargeItIs(t *testing.T) {
	r := NewRing(100)
	r.AddLine(Stdout, strings.Repeat("y", 1000))
	if got, _ := r.After(0, 1); len(got) != 1 || len(got[0].Text) != 1000 {
		t.Fatalf("%+v", got)
	}
}

// Whatever the pace of the reader: read plus lost is all, in order, once.
func TestNothingIsLostWithoutBeingCounted(t *testing.T) {
	const lines = 20_000
	r := NewRing(4096)
	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for i := 0; i < lines; i++ {
			r.AddLine(Stdout, "line")
		}
	}()
	after, counted := uint64(0), uint64(0)
	for counted < lines {
		batch, changed := r.After(after, 7)
		if batch == nil {
			<-changed
			continue
		}
		for _, e := range batch {
			n := uint64(1)
			if e.Kind == Lost {
				n = e.Lines
			}
			if e.Seq != after+n {
				t.Fatalf("after %d comes %+v", after, e)
			}
			after, counted = e.Seq, counted+n
		}
	}
	writer.Wait()
}

func TestAnEventIsTheProtocolsJSON(t *testing.T) {
	for want, e := range map[string]Event{
		`{"seq":1,"time":2,"kind":"stdout","text":"a\"b"}`: {Seq: 1, TimeMs: 2, Kind: Stdout, Text: `a"b`},
		`{"seq":1,"time":2,"kind":"stderr","text":""}`:     {Seq: 1, TimeMs: 2, Kind: Stderr},
		`{"seq":3,"time":2,"kind":"exit","exitCode":137}`:  {Seq: 3, TimeMs: 2, Kind: Exit, Code: 137},
		`{"seq":9,"time":2,"kind":"lost","lines":8}`:       {Seq: 9, TimeMs: 2, Kind: Lost, Lines: 8},
	} {
		got := e.AppendJSON(nil)
		if string(got) != want || !json.Valid(got) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
