// Package container runs the user's workload as a container of its own inside the guest: own pid, mount, IPC and UTS
// namespaces, the agent's network, the mounted disk as its root.
package container

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Spec is the payload of a START.
type Spec struct {
	Argv         []string `json:"argv"`
	Env          []string `json:"env"` // NAME=value
	User         string   `json:"user"`
	Workdir      string   `json:"workdir"`
	Capabilities string   `json:"capabilities"` // default | all
	Hostname     string   `json:"hostname"`
}

// DefaultPath is what a container without PATH gets.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Codes of failures that START can answer.
const (
	CodeInvalid     = "invalid"
	CodeExecFailed  = "exec_failed"
	CodeUserUnknown = "user_unknown"
	CodeWorkdir     = "workdir"
	CodeSetup       = "setup_failed"
)

// Error is a failure that the host can tell from others by its code.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

// Errorf makes one.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ParseSpec reads and checks a Spec, and fills in what it may leave out.
func ParseSpec(payload []byte) (*Spec, error) {
	s := &Spec{}
	if err := json.Unmarshal(payload, s); err != nil {
		return nil, Errorf(CodeInvalid, "container is not the JSON that it should be: %v", err)
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return nil, Errorf(CodeInvalid, "container has no command: argv is empty")
	}
	for _, text := range append(append([]string{s.User, s.Workdir, s.Hostname}, s.Argv...), s.Env...) {
		if strings.ContainsRune(text, 0) {
			return nil, Errorf(CodeInvalid, "container has a NUL byte in %q", text)
		}
	}
	for _, variable := range s.Env {
		if strings.IndexByte(variable, '=') < 1 {
			return nil, Errorf(CodeInvalid, "environment variable %q is not NAME=value", variable)
		}
	}
	if s.Workdir == "" {
		s.Workdir = "/"
	}
	if !strings.HasPrefix(s.Workdir, "/") {
		return nil, Errorf(CodeWorkdir, "working directory %q is not an absolute path", s.Workdir)
	}
	if s.Hostname == "" {
		s.Hostname = "localhost"
	}
	if s.Capabilities == "" {
		s.Capabilities = "default"
	}
	if s.Capabilities != "default" && s.Capabilities != "all" {
		return nil, Errorf(CodeInvalid, "capabilities %q: default and all are possible", s.Capabilities)
	}
	return s, nil
}

func (s *Spec) privileged() bool { return s.Capabilities == "all" }

// environment is the container's, with what every process may count on.
func (s *Spec) environment(home string) []string {
	env := s.Env
	if _, ok := variable(env, "PATH"); !ok {
		env = append(env, "PATH="+DefaultPath)
	}
	if value, ok := variable(env, "HOME"); !ok || value == "" {
		env = append(env, "HOME="+home)
	}
	return env
}

// variable is the last value of a name, as in a shell.
func variable(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}
