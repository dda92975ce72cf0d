package container

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
)

// ShellSpec is the payload of a SHELL.
type ShellSpec struct {
	// Command runs instead of the image's shell when there is one.
	Command []string `json:"command"`
	// Terminal asks for a terminal of its own; without one, input and both outputs are pipes.
	Terminal bool   `json:"terminal"`
	Columns  uint16 `json:"cols"`
	Rows     uint16 `json:"rows"`
	// Term is what the other end's terminal is called; the image need not know it.
	Term string `json:"term"`
}

// Codes of failures that SHELL can answer, beside those of START.
const (
	CodeNotRunning = "not_running"
	CodeNoShell    = "no_shell"
	CodeTooMany    = "too_many"
)

// shells are what is looked for, in this order, when no command is given.
var shells = []string{"/bin/bash", "/bin/sh"}

const defaultTerm = "xterm"

var termName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

// ParseShellSpec reads and checks a ShellSpec.
func ParseShellSpec(payload []byte) (*ShellSpec, error) {
	s := &ShellSpec{}
	if err := json.Unmarshal(payload, s); err != nil {
		return nil, Errorf(CodeInvalid, "shell is not the JSON that it should be: %v", err)
	}
	if len(s.Command) > 0 && s.Command[0] == "" {
		return nil, Errorf(CodeInvalid, "the command's name is empty")
	}
	for _, word := range s.Command {
		if strings.ContainsRune(word, 0) {
			return nil, Errorf(CodeInvalid, "the command has a NUL byte in %q", word)
		}
	}
	if !termName.MatchString(s.Term) {
		s.Term = defaultTerm
	}
	return s, nil
}

// argv is what to run, as the container's file system has it.
func (s *ShellSpec) argv() ([]string, error) {
	if len(s.Command) > 0 {
		return s.Command, nil
	}
	for _, path := range shells {
		if executable(path) == nil {
			return []string{path}, nil
		}
	}
	return nil, Errorf(CodeNoShell, "the image has no shell: neither %s is there to be executed; name a command that it has",
		strings.Join(shells, " nor "))
}

// terminfoDirs are where images keep what they know of terminals.
var terminfoDirs = []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"}

// term is the terminal's name if the image knows it: programs refuse to draw on a terminal that they do not know.
func (s *ShellSpec) term() string {
	for _, dir := range terminfoDirs {
		if _, err := os.Stat(dir + "/" + s.Term[:1] + "/" + s.Term); err == nil {
			return s.Term
		}
	}
	return defaultTerm
}

// shellEnvironment is the container's, and what a terminal is called.
func shellEnvironment(spec *Spec, shell *ShellSpec, home string) []string {
	var env []string
	for _, variable := range spec.environment(home) {
		if !strings.HasPrefix(variable, "TERM=") {
			env = append(env, variable)
		}
	}
	return append(env, "TERM="+shell.term())
}
