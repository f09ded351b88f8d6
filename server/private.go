package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// The permissions of a data directory and of the file with the node's key.
const (
	privateDir  fs.FileMode = 0o700
	privateFile fs.FileMode = 0o600

	othersWrite fs.FileMode = 0o022
	others      fs.FileMode = 0o077
)

// keepPrivate makes sure that the data directory is its owner's alone. What it
// holds is sealed, but for the node's private key and the gossip key.
//
// One that others could write to is refused: they may have put another node's
// files there, and to tighten it now would make that look clean. One that others
// could only read is tightened, and the log says so: what they may have seen is
// for the operator to judge.
func keepPrivate(dir string, logger *slog.Logger) error {
	for _, each := range []struct {
		path string
		what string
		mode fs.FileMode
	}{{dir, "", privateDir}, {filepath.Join(dir, identityFile), identityFile + " of ", privateFile}} {
		info, err := os.Stat(each.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the identity of a new directory
		}
		if err != nil {
			return &DataDirError{dir, fmt.Sprintf("cannot be looked at: %v", err), "check the path and who may read there"}
		}
		mode := info.Mode().Perm()
		if mode&others == 0 {
			continue
		}
		repair := fmt.Sprintf("chmod %o %s", each.mode, each.path)
		if mode&othersWrite != 0 {
			return &DataDirError{dir, fmt.Sprintf("is not safe: %s can be written to by others than its owner (mode %04o)", each.path, mode),
				"make sure that nobody has put anything there, then close it: " + repair}
		}
		if err := os.Chmod(each.path, each.mode); err != nil {
			return &DataDirError{dir, fmt.Sprintf("is not safe: %s can be read by others than its owner (mode %04o), and that cannot be changed: %v", each.path, mode, err),
				"as its owner, close it: " + repair}
		}
		logger.Warn("others than its owner could read "+each.what+"the data directory; it is closed to them now",
			"path", each.path, "mode", fmt.Sprintf("%04o", mode), "now", fmt.Sprintf("%04o", each.mode))
	}
	return nil
}
