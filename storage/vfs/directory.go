package vfs

import (
	"fmt"

	"github.com/cockroachdb/errors/oserror"
)

// MkdirAllSync creates dir and its missing parents with mode 0700 and makes
// each new name durable before it returns. It is a no-op on a directory that
// exists.
//
// Plain MkdirAll followed by a sync of dir is not enough: the name of dir lives
// in its parent, and a crash may take the directory with all it holds.
func MkdirAllSync(fs FS, dir string) error {
	var missing []string // deepest first
	for at := dir; ; at = fs.PathDir(at) {
		_, err := fs.Stat(at)
		if err == nil {
			break
		}
		if !oserror.IsNotExist(err) {
			return fmt.Errorf("creating directory %s: %w", dir, err)
		}
		missing = append(missing, at)
		if parent := fs.PathDir(at); parent == at {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating directory %s: %w", dir, err)
	}
	for _, made := range missing {
		if err := SyncDir(fs, fs.PathDir(made)); err != nil {
			return err
		}
	}
	return nil
}
