package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// lockWait is how long OpenBolt waits for a process that is on its way out.
const lockWait = time.Second

// OpenBolt opens the bbolt file at path, or creates it with mode 0600; the
// directory must exist. It returns an error wrapping [ErrInUse] when another
// process holds the file.
//
// A new file is made under another name, synced and renamed: bbolt initialises
// in place, and a crash in the middle leaves a file that opens never again
// (bbolt #567). An empty file is therefore damage and is refused; bbolt would
// make it a fresh database, and the node would forget its vote. The freelist is
// kept in memory as a hash map and not written with each commit, since it grows
// with the log (vault #11072); it is rebuilt when the file is opened.
func OpenBolt(path string) (Inner, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := createBolt(path); err != nil {
			return nil, fmt.Errorf("creating raft log %s: %w", path, err)
		}
	case err != nil:
		return nil, fmt.Errorf("opening raft log: %w", err)
	case info.Size() == 0:
		return nil, fmt.Errorf("opening raft log %s: the file is empty: %w", path, ErrAmnesia)
	}
	if err := inspect(path); err != nil {
		return nil, fmt.Errorf("opening raft log %s: %w", path, err)
	}
	return openBolt(path)
}

func openBolt(path string) (store Inner, err error) {
	err = guarded(func() error {
		store, err = raftboltdb.New(raftboltdb.Options{
			Path: path,
			BoltOptions: &bbolt.Options{
				Timeout:        lockWait,
				NoFreelistSync: true,
				FreelistType:   bbolt.FreelistMapType,
			},
		})
		return err
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening raft log %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("opening raft log %s: %w", path, err)
	}
	return store, nil
}

// createBolt makes an initialised file appear at path, whole and durable. The
// directory's lock keeps two processes from renaming over each other.
func createBolt(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // also releases the lock
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking the directory: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil // another process was first; the file's own lock decides now
	}
	tmp := path + vfs.TempSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fresh, err := openBolt(tmp)
	if err != nil {
		return err
	}
	if err := fresh.Close(); err != nil {
		return err
	}
	if err := syncFile(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return dir.Sync()
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close() // the sync error is the one to act on
		return err
	}
	return f.Close()
}
