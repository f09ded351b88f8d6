package faultfs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	fsType       = "faultfs"
	sourcePrefix = "conclave-faultfs:"
)

// sourceOf is the source that /proc/self/mounts shows; the library hands it to the
// mount system call as it is.
func sourceOf(backing string) string { return sourcePrefix + backing }

// Leftovers unmounts the file systems of this package below dir, which a killed
// run may have left, and returns where they were. It touches nothing outside dir,
// but a run that still uses dir loses its files.
func Leftovers(dir string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for old mounts: %w", err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	found, err := mountsBelow(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for old mounts: %w", err)
	}
	var errs []error
	var gone []string
	for _, m := range found {
		if err := unix.Unmount(m.at, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.at, err))
			continue
		}
		gone = append(gone, m.at)
		if strings.HasPrefix(m.backing, dir+"/") {
			errs = append(errs, os.RemoveAll(m.backing+".removed"))
		}
	}
	return gone, errors.Join(errs...)
}

type mounted struct{ backing, at string }

func mountsBelow(dir string) (found []mounted, err error) {
	table, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) < 3 || field[2] != "fuse."+fsType {
			continue
		}
		backing, ours := strings.CutPrefix(unescape.Replace(field[0]), sourcePrefix)
		at := unescape.Replace(field[1])
		if ours && (at == dir || strings.HasPrefix(at, dir+"/")) {
			found = append(found, mounted{backing, at})
		}
	}
	return found, lines.Err()
}
