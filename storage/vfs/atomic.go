package vfs

import "fmt"

// TempSuffix ends the name of a file that is still being written. A file with
// this suffix found at start-up is the rest of a crash and may be removed.
const TempSuffix = ".tmp"

// AtomicWrite replaces the file at path by one that holds data. When it returns
// nil the new content is durable; after a crash or an error the file holds the
// old content or the new one, whole, never a mixture. data is not retained and
// not modified.
//
// The order is the point: the bytes are synced before the name moves to them,
// and the directory is synced after, or the rename may be lost although later
// writes survive. Two concurrent calls for one path are a caller's error.
func AtomicWrite(fs FS, path string, data []byte) error {
	tmp := path + TempSuffix
	if err := writeSynced(fs, tmp, data); err != nil {
		// A leftover is harmless (the next call recreates it), so the removal's
		// own failure adds nothing to the error that the caller acts on.
		_ = fs.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := fs.Rename(tmp, path); err != nil {
		_ = fs.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return SyncDir(fs, fs.PathDir(path))
}

func writeSynced(fs FS, path string, data []byte) error {
	f, err := fs.Create(path, WriteCategory)
	if err != nil {
		return err
	}
	// File.Write may modify what it is given (see pebble's vfs.File).
	own := append([]byte(nil), data...)
	if _, err := f.Write(own); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
