package vfs

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FastCommit tells whether dir lies on an ext4 file system with the fast_commit
// feature, under which bbolt has lost data at power cuts (etcd-io/bbolt#562). It
// answers false where it cannot tell: on other systems, and where /proc is not
// readable.
func FastCommit(dir string) (bool, error) { return fastCommit(dir, "/proc") }

func fastCommit(dir, proc string) (bool, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	device, err := ext4Device(dir, filepath.Join(proc, "self/mountinfo"))
	if device == "" || err != nil {
		return false, unknown(err)
	}
	options, err := os.ReadFile(filepath.Join(proc, "fs/ext4", device, "options"))
	if err != nil {
		return false, unknown(err)
	}
	for line := range strings.Lines(string(options)) {
		if strings.TrimSpace(line) == "fast_commit" {
			return true, nil
		}
	}
	return false, nil
}

// unknown makes what cannot be read into "cannot tell".
func unknown(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// ext4Device finds the device of the innermost mount above dir, if it is ext4.
// The fields are those of proc(5): …, mount point (5th), …, "-", type, source.
func ext4Device(dir, mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", err
	}
	defer f.Close()
	longest, device := -1, ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(source) < 2 {
			continue
		}
		point := fields[4]
		inside := point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
		if !inside || len(point) < longest {
			continue
		}
		longest, device = len(point), ""
		if source[0] == "ext4" {
			device = filepath.Base(source[1])
		}
	}
	return device, lines.Err()
}
