// Package vfs is the file-system seam of the project: every durable byte that
// Conclave writes itself passes through an [FS], so that a test can pull the
// power plug, fill the disk or fail the third fsync.
//
// The seam is Pebble's; this package only gives it our name and adds the three
// things that every caller would otherwise get subtly wrong: replacing a file
// ([AtomicWrite]), creating a directory that is still there after a crash
// ([MkdirAllSync]) and asking for free space ([FreeSpace]).
//
// What never lives here: formats, names of files, and anything that knows what
// the bytes mean. bbolt is the one writer that bypasses the seam (it maps its
// file into memory); storage/raftlog says how that is tested instead.
//
// Start reading at [AtomicWrite].
package vfs

import (
	"fmt"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
)

type (
	// FS is a namespace of files; see Pebble's vfs.FS for the contract of each method.
	FS = pebblevfs.FS
	// File is an open file of an [FS].
	File = pebblevfs.File
	// MemFS is an [FS] in memory. One made by [NewCrashableMem] can be cloned as
	// a power cut would leave it.
	MemFS = pebblevfs.MemFS
	// CrashCloneCfg says which unsynced bytes survive in MemFS.CrashClone.
	CrashCloneCfg = pebblevfs.CrashCloneCfg
)

// Default is the operating system's file system.
var Default FS = pebblevfs.Default

// WriteCategory is what we pass where Pebble wants to attribute disk writes;
// we keep no such statistics.
const WriteCategory = pebblevfs.WriteCategoryUnspecified

// NewMem returns an empty file system in memory, for tests without crashes.
func NewMem() *MemFS { return pebblevfs.NewMem() }

// NewCrashableMem returns an empty file system in memory that tracks what was
// synced, so that CrashClone can return what a power cut would leave.
func NewCrashableMem() *MemFS { return pebblevfs.NewCrashableMem() }

// SyncDir makes the names in dir durable: files created in, renamed within and
// removed from it before the call keep that state after a crash.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the sync error is the one to act on
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}
