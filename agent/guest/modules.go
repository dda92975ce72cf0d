package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folders of the initramfs with kernel modules, each with a `list` of file names in the order in which they load.
const (
	BootModules      = "/modules/boot"
	ContainerModules = "/modules/container"
)

// LoadModules loads what a folder lists and removes the folder: it is memory. A folder that is not there has nothing
// to load.
func LoadModules(dir string) error {
	list, err := os.ReadFile(filepath.Join(dir, "list"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return os.RemoveAll(dir)
}

func loadModule(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.FinitModule(fd, "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}
