// torpor-helper does for the host what Node cannot: it starts a VMM without privileges in its slot, copies guest
// memory that differs from a template, and enters the namespaces that image builds run in. One verb a process: every
// verb ends by itself, becomes (exec) what it was asked to start, or (memory) serves until its stdin ends.
package main

import (
	"errors"
	"fmt"
	"os"
)

// verb gets its arguments without the program's and its own name.
type verb struct {
	usage string
	run   func(args []string) error
}

// errUsage makes main print the verb's usage.
var errUsage = errors.New("usage")

func main() {
	verbs := map[string]verb{
		"version": {"version", func([]string) error { fmt.Println(version); return nil }},
	}
	for name, v := range jailVerbs() {
		verbs[name] = v
	}
	for name, v := range vmmVerbs() {
		verbs[name] = v
	}
	if len(os.Args) < 2 || verbs[os.Args[1]].run == nil {
		fmt.Fprintln(os.Stderr, "usage: torpor-helper VERB …, with a VERB of:")
		for _, v := range verbs {
			fmt.Fprintln(os.Stderr, "  "+v.usage)
		}
		os.Exit(2)
	}
	v := verbs[os.Args[1]]
	if err := v.run(os.Args[2:]); err != nil {
		if errors.Is(err, errUsage) {
			fmt.Fprintln(os.Stderr, "usage: torpor-helper "+v.usage)
			os.Exit(2)
		}
		fmt.Fprintf(os.Stderr, "torpor-helper %s: %v\n", os.Args[1], err)
		if errors.Is(err, errStream) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
