package state

import (
	"fmt"
	"strings"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// mapFS is the file system that Pebble gets. It mends two things at the seam.
//
// A new file's name is durable before a marker points to it. Pebble writes and
// syncs a manifest, then creates the marker file that names it, and only then syncs
// the directory, once for both names. A file system that loses the first name
// and keeps the second leaves a map that does not open. Journals keep the order;
// nobody promises it, and the sync is cheap: markers move when a map is opened and
// when its manifest has grown large.
//
// A write that fails, fails the store and does not return to Pebble, unless it was
// to a table: those Pebble writes again, under another name. On its log and on
// directories it would panic. Anything else it writes while it opens; an error
// there makes it clean up under a compaction that it has already started, which
// then panics (pebble.Open, after the replay's flush). See failstop.go.
type mapFS struct {
	vfs.FS
	store *Store
}

const (
	markerPrefix = "marker."
	tableSuffix  = ".sst"
	blobSuffix   = ".blob"
)

// Create implements vfs.FS.
func (f mapFS) Create(name string, category pebblevfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), markerPrefix) {
		if err := vfs.SyncDir(f.FS, f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Create(name, category)
	return f.watch(file, name, err)
}

// ReuseForWrite implements vfs.FS.
func (f mapFS) ReuseForWrite(old, name string, category pebblevfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, category)
	return f.watch(file, name, err)
}

// Rename implements vfs.FS.
func (f mapFS) Rename(from, to string) error {
	f.store.halt("renaming to", to, f.FS.Rename(from, to))
	return nil
}

// OpenDir implements vfs.FS.
func (f mapFS) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return watchedFile{d, name, f.store}, nil
}

func (f mapFS) watch(file vfs.File, name string, err error) (vfs.File, error) {
	if strings.HasSuffix(name, tableSuffix) || strings.HasSuffix(name, blobSuffix) {
		return file, err
	}
	f.store.halt("creating", name, err)
	return watchedFile{file, name, f.store}, nil
}

// watchedFile returns from a write, a sync or a close with success or not at all.
type watchedFile struct {
	vfs.File
	name  string
	store *Store
}

// Write implements vfs.File.
func (w watchedFile) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.store.halt("writing", w.name, err)
	return n, nil
}

// Sync implements vfs.File.
func (w watchedFile) Sync() error {
	w.store.halt("syncing", w.name, w.File.Sync())
	return nil
}

// SyncData implements vfs.File.
func (w watchedFile) SyncData() error {
	w.store.halt("syncing", w.name, w.File.SyncData())
	return nil
}

// SyncTo implements vfs.File.
func (w watchedFile) SyncTo(length int64) (full bool, err error) {
	full, err = w.File.SyncTo(length)
	w.store.halt("syncing", w.name, err)
	return full, nil
}

// Close implements vfs.File.
func (w watchedFile) Close() error {
	w.store.halt("closing", w.name, w.File.Close())
	return nil
}

// halt fails the store for good, if err is one, and keeps the goroutine.
func (s *Store) halt(doing, name string, err error) {
	if err == nil {
		return
	}
	_ = s.fail(fmt.Errorf("%s %s: %w", doing, name, err)) // noted in the store; nobody here to return it to
	select {}
}
