package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is the file system that a log lives on: a parameter, so that a test can pull
// the power plug or fail the third fsync. It is not storage/vfs because a log needs
// what that seam lacks (truncation, appending, whether an open file still has a
// name) and because this room may not look below itself. Errors wrap those of
// package io/fs and of the operating system.
type FS interface {
	// Open opens a file. A file made by ModeCreate has mode 0600 and did not exist.
	Open(name string, mode Mode) (File, error)
	// Rename replaces to, if it exists. It is durable after SyncDir.
	Rename(from, to string) error
	// Remove deletes a file. It is durable after SyncDir.
	Remove(name string) error
	// List returns the names in a directory, without the directory's.
	List(dir string) ([]string, error)
	// SyncDir makes durable what happened to the names in dir.
	SyncDir(dir string) error
}

// Mode is what a file is opened for.
type Mode int

// The modes.
const (
	ModeRead   Mode = iota // reading
	ModeAppend             // reading, and appending to what is there
	ModeCreate             // reading, and appending to a new, empty file
)

// File is an open file. Write appends. What was written is durable when Sync
// returned nil; after an error of either the file's end is unknown.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Stat() (Info, error)
}

// Info is what a log asks of a file that it holds open.
type Info struct {
	Size    int64
	Unnamed bool // deleted: it goes when the last descriptor does
	ID      any  // comparable, equal for two descriptors of one file
}

// Disk is the operating system's file system.
var Disk FS = disk{}

type disk struct{}

func (disk) Open(name string, mode Mode) (File, error) {
	flags := os.O_RDONLY
	switch mode {
	case ModeAppend:
		flags = os.O_RDWR | os.O_APPEND
	case ModeCreate:
		flags = os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }
func (disk) Remove(name string) error     { return os.Remove(name) }

func (disk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type diskFile struct{ *os.File }

func (f diskFile) Stat() (Info, error) {
	info, err := f.File.Stat()
	if err != nil {
		return Info{}, err
	}
	if !info.Mode().IsRegular() {
		return Info{}, fmt.Errorf("looking at %s: not a regular file", f.Name())
	}
	unnamed, id := identity(info)
	return Info{Size: info.Size(), Unnamed: unnamed, ID: id}, nil
}

// remove deletes a file that may not exist.
func remove(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(fsys FS, name string) (bool, error) {
	names, err := fsys.List(filepath.Dir(name))
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if n == filepath.Base(name) {
			return true, nil
		}
	}
	return false, nil
}
