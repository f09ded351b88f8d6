package faultfs

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Options of a file system. The zero value is the harshest model.
type Options struct {
	// Ordered makes any sync carry all names made, removed and renamed before it,
	// as ext4's journal does.
	Ordered bool
	// Hold is how many bytes of undo one file may hold; beyond it the oldest
	// writes count as written back. Zero: 64 MiB.
	Hold int64
	// Logger takes what the FUSE library has to say. Nil: nobody.
	Logger *log.Logger
}

// FS is a mounted file system. Its methods may be called by several goroutines,
// but PowerCut and Close by one at a time.
type FS struct {
	backing, at string
	options     Options
	rules       *rules
	claimed     *os.File // tells others that somebody serves this

	mu         sync.RWMutex // guards all below, all objects and the backing store
	server     *fuse.Server
	objects    map[uint64]*object // by inode number of the backing store
	entries    []*entry           // unsynced changes of names, oldest first
	grave      int                // directory of removed things that a cut may bring back
	buried     map[uint64]uint32  // how many names of an inode lie in the grave
	burials    int                // for fresh names in the grave
	swept      time.Time          // when forgotten objects were last looked for
	generation uint64             // of the newest object
}

// ErrNoFUSE says that this machine or this user cannot mount.
var ErrNoFUSE = errors.New("FUSE cannot be used here")

// ErrBusy says that a process still uses the file system.
var ErrBusy = errors.New("a process still uses the file system")

// Usable returns nil, or ErrNoFUSE with the reason.
func Usable() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: mounting needs root", ErrNoFUSE)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: opening /dev/fuse: %w", ErrNoFUSE, err)
	}
	return unix.Close(fd)
}

// Mount shows the directory backing at the directory at; both exist. Beside
// backing it makes a directory backing+".removed" and a file backing+".lock" for as
// long as it is mounted.
// What lies in backing then counts as durable.
func Mount(backing, at string, o Options) (*FS, error) {
	if err := Usable(); err != nil {
		return nil, err
	}
	if o.Hold == 0 {
		o.Hold = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = log.New(io.Discard, "", 0)
	}
	backing, err := filepath.Abs(backing)
	if err != nil {
		return nil, fmt.Errorf("finding the backing store: %w", err)
	}
	if at, err = filepath.Abs(at); err != nil {
		return nil, fmt.Errorf("finding the mount point: %w", err)
	}
	claimed, err := claim(backing)
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", backing, err)
	}
	f := &FS{backing: backing, at: at, options: o, rules: newRules(), claimed: claimed}
	if err := f.mount(); err != nil {
		return nil, errors.Join(err, release(claimed))
	}
	return f, nil
}

func (f *FS) graveyard() string { return f.backing + ".removed" }

func (f *FS) mount() error {
	root, err := f.prepare()
	if err == nil {
		// Not under the lock: the kernel asks for attributes before this returns.
		var none time.Duration
		f.server, err = fs.Mount(f.at, root, &fs.Options{
			EntryTimeout: &none, AttrTimeout: &none, NegativeTimeout: &none, NullPermissions: true, Logger: f.options.Logger,
			MountOptions: fuse.MountOptions{AllowOther: true, Options: []string{"default_permissions"}, FsName: sourceOf(f.backing),
				Name: fsType, DirectMountStrict: true, MaxWrite: 1 << 20, DisableXAttrs: true, Logger: f.options.Logger},
		})
	}
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(fmt.Errorf("mounting %s at %s: %w", f.backing, f.at, err), f.forget())
}

// prepare starts with nothing unsynced.
func (f *FS) prepare() (*node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects, f.buried, f.grave = map[uint64]*object{}, map[uint64]uint32{}, -1
	if err := os.RemoveAll(f.graveyard()); err != nil {
		return nil, fmt.Errorf("clearing what a killed run left: %w", err)
	}
	root, err := f.openRoot()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(f.graveyard(), 0o700); err != nil {
		return nil, fmt.Errorf("making the place for removed files: %w", err)
	}
	f.grave, err = unix.Open(f.graveyard(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return root, err
}

func (f *FS) openRoot() (*node, error) {
	fd, err := unix.Open(f.backing, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	o := &object{ino: st.Ino, root: true, dir: true, path: fd, data: -1}
	f.objects[st.Ino] = o
	root := &node{f: f, o: o}
	o.nodes = []*node{root}
	return root, nil
}

// unmount fails with ErrBusy while a process uses the file system.
func (f *FS) unmount() error {
	if f.server == nil {
		return nil
	}
	err := f.server.Unmount()
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("unmounting %s: %w", f.at, ErrBusy)
	}
	// EINVAL: somebody else has unmounted it already.
	if err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", f.at, err)
	}
	f.server = nil
	return nil
}

// Close unmounts; everything written counts as durable. A process that still uses
// the file system does not stop it: it loses its files, and whatever hangs fails.
func (f *FS) Close() error {
	f.rules.close()
	err := f.unmount()
	if errors.Is(err, ErrBusy) {
		f.server = nil
		if err = unix.Unmount(f.at, unix.MNT_DETACH); err != nil {
			err = fmt.Errorf("detaching %s: %w", f.at, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err = errors.Join(err, f.forget())
	if f.claimed != nil {
		err = errors.Join(err, release(f.claimed))
		f.claimed = nil
	}
	return err
}

// forget closes every file, drops all undos and empties the grave.
func (f *FS) forget() error {
	var errs []error
	for _, o := range f.objects {
		errs = append(errs, o.close())
	}
	if f.grave >= 0 {
		errs = append(errs, unix.Close(f.grave))
	}
	f.objects, f.entries, f.buried, f.grave = map[uint64]*object{}, nil, map[uint64]uint32{}, -1
	return errors.Join(append(errs, os.RemoveAll(f.graveyard()))...)
}
