package faultfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// entry is one unsynced change of names: made, removed or renamed.
type entry struct {
	dirs []*object // whose names it changes
	all  bool      // a directory changed its parent: everything later depends on it
	// undo takes the change back, given that all later changes of these
	// directories were taken back.
	undo func() error
	// grave is what the change removed, "" if nothing: a name in the grave, gone
	// for good once the change is durable.
	grave string
}

// maxEntries bounds what is kept of names; older changes count as written back.
const maxEntries = 1 << 14

func (e *entry) touches(dirs []*object) bool {
	return e.all || slices.ContainsFunc(e.dirs, func(d *object) bool { return slices.Contains(dirs, d) })
}

// note keeps an entry until it is durable. The caller holds f.mu.
func (f *FS) note(e *entry) {
	for _, d := range e.dirs {
		d.pins++
	}
	f.entries = append(f.entries, e)
	if len(f.entries) > maxEntries {
		f.settle(maxEntries / 2)
	}
}

// settle makes the n oldest entries durable.
func (f *FS) settle(n int) {
	for _, e := range f.entries[:n] {
		f.settled(e)
	}
	f.entries = slices.Clone(f.entries[n:])
}

func (f *FS) settled(e *entry) {
	if e.grave != "" {
		f.purge(e.grave)
	}
	for _, d := range e.dirs {
		d.pins--
		f.release(d)
	}
}

// syncDir makes the names of a directory durable, and what they depend on: a
// rename takes the earlier changes of its other directory along.
func (f *FS) syncDir(dir *object) {
	if f.options.Ordered {
		f.settle(len(f.entries))
		return
	}
	dirs, everything := []*object{dir}, false
	var left []*entry
	for _, e := range slices.Backward(f.entries) {
		if !everything && !e.touches(dirs) {
			left = append(left, e)
			continue
		}
		dirs, everything = append(dirs, e.dirs...), everything || e.all
		f.settled(e)
	}
	slices.Reverse(left)
	f.entries = left
}

// added notes that a name was made in a directory.
func (f *FS) added(dir *object, name string) {
	f.note(&entry{dirs: []*object{dir}, undo: func() error {
		_, err := f.bury(dir, name)
		return err
	}})
}

// remove takes a name away. Its object stays in the grave until that is durable.
func (f *FS) remove(dir *object, name string, isDir bool) error {
	o, st, err := f.object(dir, name)
	if err != nil {
		return err
	}
	defer f.release(o)
	if isDir {
		if err := o.empty(); err != nil {
			return err
		}
	}
	grave, err := f.bury(dir, name)
	if err != nil {
		return err
	}
	if !isDir && st.Nlink-uint64(f.buried[st.Ino]) == 0 {
		f.rules.giveBack(st.Size)
	}
	e := &entry{dirs: []*object{dir}, grave: grave, undo: func() error { return f.exhume(grave, dir, name) }}
	if isDir {
		// It is empty, so what emptied it comes first.
		e.dirs = append(e.dirs, o)
	}
	f.note(e)
	return nil
}

// empty fails if a directory is not empty, as rmdir does.
func (o *object) empty() error {
	list, err := os.ReadDir(o.proc())
	if err == nil && len(list) > 0 {
		err = syscall.ENOTEMPTY
	}
	return err
}

// rename moves a name, over another one if there is one.
func (f *FS) rename(from *object, name string, to *object, toName string, flags uint32) error {
	moved, _, err := f.object(from, name)
	if err != nil {
		return err
	}
	defer f.release(moved)
	e := &entry{dirs: []*object{from, to}, all: moved.dir && from != to}
	over, _, err := f.object(to, toName)
	switch {
	case errors.Is(err, syscall.ENOENT):
	case err != nil:
		return err
	case flags&unix.RENAME_NOREPLACE != 0:
		f.release(over)
		return syscall.EEXIST
	case over == moved:
		return nil // POSIX: two names of one file, and nothing happens
	default:
		defer f.release(over)
		if e.grave, err = f.displace(over, to, toName); err != nil {
			return err
		}
		if over.dir {
			e.dirs = append(e.dirs, over)
		}
	}
	if err := unix.Renameat(from.path, name, to.path, toName); err != nil {
		return err
	}
	moved.name = join(to, toName)
	e.undo = func() error {
		if err := unix.Renameat(to.path, toName, from.path, name); err != nil || e.grave == "" {
			return err
		}
		return f.exhume(e.grave, to, toName)
	}
	f.note(e)
	return nil
}

// displace puts what a rename will replace into the grave: a file by one more
// link, so that readers of the directory never miss the name.
func (f *FS) displace(over, dir *object, name string) (string, error) {
	if over.dir {
		if err := over.empty(); err != nil {
			return "", err
		}
		return f.bury(dir, name)
	}
	grave := f.freshGrave()
	if err := unix.Linkat(dir.path, name, f.grave, grave, 0); err != nil {
		return "", err
	}
	f.buried[over.ino]++
	return grave, nil
}

func (f *FS) freshGrave() string {
	f.burials++
	return fmt.Sprint(f.burials)
}

func (f *FS) bury(dir *object, name string) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir.path, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", err
	}
	grave := f.freshGrave()
	if err := unix.Renameat(dir.path, name, f.grave, grave); err != nil {
		return "", err
	}
	f.buried[st.Ino]++
	return grave, nil
}

func (f *FS) exhume(grave string, dir *object, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(f.grave, grave, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	f.unburied(st.Ino)
	return unix.Renameat(f.grave, grave, dir.path, name)
}

func (f *FS) unburied(ino uint64) {
	if f.buried[ino]--; f.buried[ino] == 0 {
		delete(f.buried, ino)
	}
}

// purge removes a thing from the grave for good, and with its last name its undos.
func (f *FS) purge(grave string) {
	var st unix.Stat_t
	err := unix.Fstatat(f.grave, grave, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		f.unburied(st.Ino)
		err = os.RemoveAll(filepath.Join(f.graveyard(), grave))
	}
	if err != nil {
		f.options.Logger.Printf("removing a file for good: %v", err)
		return
	}
	if o := f.objects[st.Ino]; o != nil && (st.Nlink == 1 || o.dir) {
		o.log, o.held = nil, 0
		f.release(o)
	}
}
