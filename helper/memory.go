package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
)

// memory is the verb that serves requests until its stdin ends. docs/helper-protocol.md has the protocol.
func memory(args []string) error {
	if len(args) != 0 {
		return errUsage
	}
	return serveMemory(os.Stdin, os.Stdout)
}

const (
	maxLine         = 1 << 20
	requestsAtATime = 4
)

// memoryWorker serves requests from one stream.
type memoryWorker struct {
	frozen frozenImages

	mu  sync.Mutex
	out *json.Encoder
	err error // of the first answer that could not be written
}

// serveMemory answers each line of `in` on `out`, in the order in which answers are ready. It returns when `in` has
// ended and everything that was begun is answered. Frozen images end with it.
func serveMemory(in io.Reader, out io.Writer) error {
	w := &memoryWorker{out: json.NewEncoder(out)}
	defer w.frozen.thawAll()
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, requestsAtATime)
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		line := bytes.Clone(lines.Bytes())
		var head requestHead
		if err := json.Unmarshal(line, &head); err != nil || head.Id == nil {
			// Nobody waits for an answer that we could give, and somebody may for ever for the one that we cannot.
			return fmt.Errorf("%w: not a request: %.80q", errStream, line)
		}
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() { <-slots }()
			w.answer(*head.Id, head.Op, line)
		}()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	all.Wait()
	return w.err
}

// errStream: the stream of requests cannot be followed any more.
var errStream = errors.New("stdin")

type okAnswer struct {
	Id uint64 `json:"id"`
	Ok any    `json:"ok"`
}

type errorAnswer struct {
	Id    uint64 `json:"id"`
	Error string `json:"error"`
	Code  string `json:"code"`
}

func (w *memoryWorker) answer(id uint64, op string, line []byte) {
	result, err := w.serve(op, line)
	var answer any = okAnswer{id, result}
	if err != nil {
		answer = errorAnswer{id, fmt.Sprintf("%s: %v", op, err), codeOf(err)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.Encode(answer); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *memoryWorker) serve(op string, line []byte) (result any, err error) {
	// One process serves all microvms: a mistake in one request must not end the others.
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "torpor-helper memory: %v\n%s", p, debug.Stack())
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	switch op {
	case "save":
		return request(line, saveMemory)
	case "load":
		return request(line, loadMemory)
	case "verify":
		return request(line, verifyMemory)
	case "compact":
		return request(line, compactMemory)
	case "freeze":
		return request(line, w.frozen.freeze)
	case "thaw":
		return request(line, w.frozen.thaw)
	}
	return nil, errors.New("no such op")
}

// requestHead is part of every request.
type requestHead struct {
	Id *uint64 `json:"id"`
	Op string  `json:"op"`
}

// request decodes the fields that belong to an op, and no others.
func request[R interface{ check() error }, A any](line []byte, f func(R) (A, error)) (any, error) {
	var r R
	fields := json.NewDecoder(bytes.NewReader(line))
	fields.DisallowUnknownFields()
	if err := fields.Decode(&r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return f(r)
}

func checkPid(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("%d is not a process", pid)
	}
	return nil
}

// checkPaths: absolute, since this process's folder is nobody's business.
func checkPaths(paths ...string) error {
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("%q is not an absolute path", p)
		}
	}
	return nil
}
