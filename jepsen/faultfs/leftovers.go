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

// lock is the path of the file that whoever serves a backing store holds locked.
func lock(backing string) string { return backing + ".lock" }

// claim locks a backing store for as long as this process lives or until the file
// that it returns is closed. A live owner is an error wrapping ErrBusy.
func claim(backing string) (*os.File, error) {
	f, err := os.OpenFile(lock(backing), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s is served already: %w", backing, ErrBusy)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// release removes a claim.
func release(claimed *os.File) error { return errors.Join(os.Remove(claimed.Name()), claimed.Close()) }

// Leftovers unmounts the file systems of this package below dir whose process is
// gone, and returns where they were. It touches nothing outside dir, and nothing
// that a live process serves.
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
		if !m.dead() {
			continue
		}
		if err := unix.Unmount(m.at, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.at, err))
			continue
		}
		gone = append(gone, m.at)
		if strings.HasPrefix(m.backing, dir+"/") {
			errs = append(errs, os.RemoveAll(m.backing+".removed"), os.RemoveAll(lock(m.backing)))
		}
	}
	return gone, errors.Join(errs...)
}

type mounted struct{ backing, at string }

// dead says that nobody serves the file system any more. Where nobody can lock
// the backing store, because it is gone, nobody serves it either.
func (m mounted) dead() bool {
	claimed, err := claim(m.backing)
	if err == nil {
		// Nobody else can have it; whether its file stays is of no account.
		_ = release(claimed)
	}
	return err == nil || errors.Is(err, os.ErrNotExist)
}

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
