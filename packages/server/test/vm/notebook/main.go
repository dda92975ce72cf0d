// The notebook as a guest's only program: see packages/server/src/host/agent/testing/notebook.ts.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

var (
	mutex sync.Mutex
	notes = map[string]string{}
)

func main() {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := fmt.Fprintln(conn, answer(lines.Text())); err != nil {
			return
		}
	}
}

func answer(line string) string {
	mutex.Lock()
	defer mutex.Unlock()
	verb, rest, _ := strings.Cut(line, " ")
	name, text, _ := strings.Cut(rest, " ")
	switch verb {
	case "remember":
		notes[name] = text
		return "ok"
	case "recall":
		text, there := notes[name]
		return found(text, there)
	case "write":
		if err := write(name, text); err != nil {
			return err.Error()
		}
		return "ok"
	case "read":
		text, err := os.ReadFile("/notes/" + name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err.Error()
		}
		return found(string(text), err == nil)
	case "print":
		fmt.Println(rest)
		return "ok"
	case "exit":
		code, _ := strconv.Atoi(name)
		os.Exit(code)
	}
	return "what is " + verb + "?"
}

func found(text string, there bool) string {
	if !there {
		return "none"
	}
	return "= " + text
}

// write makes the file durable.
func write(name, text string) error {
	file, err := os.Create("/notes/" + name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	return file.Sync()
}
