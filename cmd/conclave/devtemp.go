package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Temporary homes are told apart from other people's directories by this name,
// and from those in use by the lock inside.
const (
	devTempPrefix = "conclave-dev-"
	devLockFile   = "in-use"
)

// openTemporaryHome makes a home that goes away at the end. Before, it removes
// those that a killed "conclave dev" has left.
func openTemporaryHome() (*devHome, error) {
	if err := removeStaleHomes(); err != nil {
		return nil, devFailure("removing what an earlier 'conclave dev' left", err, "Remove it by hand.")
	}
	dir, err := os.MkdirTemp("", devTempPrefix) // 0700
	if err != nil {
		return nil, devFailure("making a temporary directory", err, "Set TMPDIR to a directory with room.")
	}
	lock, err := lockHome(dir, os.O_CREATE)
	if err != nil {
		return nil, devFailure("locking the temporary directory", errors.Join(err, os.RemoveAll(dir)), "")
	}
	return &devHome{dir: dir, temporary: true, lock: lock}, nil
}

// lockHome takes the lock of a home, which ends with the process however that
// ends. Children do not inherit it.
func lockHome(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, devLockFile), flags|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeStaleHomes removes the homes whose lock nobody holds. One without a lock
// is left alone: it is being made right now, or is not ours.
func removeStaleHomes() error {
	homes, err := filepath.Glob(filepath.Join(os.TempDir(), devTempPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range homes {
		lock, err := lockHome(dir, 0)
		if err != nil {
			continue // in use, without a lock, or another user's
		}
		errs = append(errs, os.RemoveAll(dir), lock.Close())
	}
	return errors.Join(errs...)
}
