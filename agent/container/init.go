package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitName is argv[0] of the process that Start forks: the agent's own program, told to become a container.
const InitName = "torpor-container"

// Descriptors of that process beside 0, 1 and 2.
const (
	reportFD = 3 // closes on exec; what is written before is the reason of a failure
	orderFD  = 4 // the order, as JSON, to its end
)

// order is all that the container's first process needs to know.
type order struct {
	Spec      *Spec     `json:"spec"`
	Root      string    `json:"root"`
	Cgroup    string    `json:"cgroup"`
	Detach    []string  `json:"detach"` // the agent's mounts that the container has no business with
	Overlays  []Overlay `json:"overlays"`
	OpenFiles OpenFiles `json:"openFiles"`
}

// Init is the main function of the container's first process, until it becomes the workload. It returns only when it
// failed, after it has reported why.
func Init() {
	// Credentials are a thread's: this one must be the one that executes.
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	unix.CloseOnExec(orderFD)
	err := becomeWorkload()
	failure := &Error{}
	if !errors.As(err, &failure) {
		failure = Errorf(CodeSetup, "cannot set up the container: %v", err)
	}
	report := os.NewFile(reportFD, "report")
	fmt.Fprintf(report, "%s\n%s", failure.Code, failure.Message)
	report.Close()
}

func becomeWorkload() error {
	var o order
	if err := json.NewDecoder(os.NewFile(orderFD, "order")).Decode(&o); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if err := cgroup(o.Cgroup).enter(); err != nil {
		return err
	}
	trees, err := openOverlays(o.Overlays)
	if err != nil {
		return err
	}
	unix.Umask(0)
	if err := enterRoot(o.Root, o.Detach); err != nil {
		return err
	}
	if err := populate(o.Spec.privileged()); err != nil {
		return err
	}
	if err := attachOverlays(o.Overlays, trees); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(o.Spec.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	id, err := userInContainer(o.Spec.User)
	if err != nil {
		return err
	}
	// /dev/stdout leads to the pipe by its name, and then its owner counts.
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Fchown(fd, id.UID, id.GID); err != nil {
			return fmt.Errorf("chown output: %w", err)
		}
	}
	if err := enterWorkdir(o.Spec.Workdir); err != nil {
		return err
	}
	if err := limitOpenFiles(o.OpenFiles); err != nil {
		return err
	}
	if err := become(id, o.Spec.privileged()); err != nil {
		return err
	}
	return execute(o.Spec.Argv, o.Spec.environment(id.Home))
}

func userInContainer(user string) (Identity, error) {
	passwd, err := accountFile("/etc/passwd")
	if err != nil {
		return Identity{}, err
	}
	group, err := accountFile("/etc/group")
	if err != nil {
		return Identity{}, err
	}
	return ResolveUser(user, strings.NewReader(passwd), strings.NewReader(group))
}

// accountFile is empty when there is none. It is the image's: it may be anything of any size.
func accountFile(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", Errorf(CodeUserUnknown, "the container's %s is not a file", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, 4<<20))
	return string(text), err
}

func enterWorkdir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return Errorf(CodeWorkdir, "working directory %s cannot be made: %v", path, reason(err))
	}
	if err := unix.Chdir(path); err != nil {
		return Errorf(CodeWorkdir, "working directory %s cannot be entered: %v", path, err)
	}
	return nil
}

// execute becomes the program, found as a shell finds it in the container's PATH.
func execute(argv, env []string) error {
	path, _ := variable(env, "PATH")
	program, err := lookUp(argv[0], path)
	if err == nil {
		err = syscall.Exec(program, argv, env)
		if err == syscall.ENOENT {
			return Errorf(CodeExecFailed, "cannot run %q: its interpreter or loader is not in the image", program)
		}
	}
	return Errorf(CodeExecFailed, "cannot run %q: %v", argv[0], reason(err))
}

var errNotInPath = errors.New("executable file not found in $PATH")

// lookUp prefers the reason why something of that name cannot run to "not found".
func lookUp(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	err := errNotInPath
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		switch found := executable(candidate); {
		case found == nil:
			return candidate, nil
		case found == unix.EACCES:
			err = found
		}
	}
	return "", err
}

func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// reason strips the operation and path that our message already has.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
