package faultfs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// object is one inode of the backing store. It lives while the kernel knows it,
// a process has it open, or an undo needs it.
type object struct {
	ino        uint64
	dir        bool
	root       bool
	generation uint64    // tells it from later objects of the same number
	name       string    // where it was last seen, relative to the root
	path       int       // descriptor that survives renames and removal; -1 once closed
	data       int       // descriptor for reading and writing, -1 until first needed
	nodes      []*node   // what the kernel may know it by
	seen       time.Time // when the kernel last asked for it by name

	opens int      // open files
	pins  int      // undos of names that need it
	log   []change // unsynced changes of the data, oldest first
	held  int64    // bytes that log holds
}

func (o *object) close() error {
	var errs []error
	for _, fd := range []*int{&o.path, &o.data} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
		}
		*fd = -1
	}
	return errors.Join(errs...)
}

// proc is a path to the object itself, whatever its name is now.
func (o *object) proc() string { return fmt.Sprintf("/proc/self/fd/%d", o.path) }

func (o *object) size() (int64, error) {
	var st syscall.Stat_t
	err := syscall.Fstat(o.data, &st)
	return st.Size, err
}

// writable opens the object's data, once.
func (o *object) writable() (err error) {
	if o.data < 0 {
		o.data, err = unix.Open(o.proc(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	return err
}

// known says whether the kernel knows the object. It is asked and not told: a
// lookup under way may revive what the kernel forgets at the same time, hence also
// the grace after a lookup.
func (o *object) known() bool {
	return o.root || time.Since(o.seen) < grace || slices.ContainsFunc(o.nodes, func(n *node) bool { return !n.forgotten() })
}

// grace is longer than any lookup is under way between us and the library.
const grace = 2 * time.Second

// release closes an object that nobody needs any more. The caller holds f.mu.
func (f *FS) release(o *object) {
	if o.opens > 0 || o.pins > 0 || len(o.log) > 0 || o.known() {
		return
	}
	if f.objects[o.ino] == o {
		delete(f.objects, o.ino)
	}
	if err := o.close(); err != nil {
		f.options.Logger.Printf("closing %s: %v", o.name, err)
	}
}

// sweep releases now and then what the kernel forgot. The caller holds f.mu.
func (f *FS) sweep() {
	if time.Since(f.swept) < grace {
		return
	}
	f.swept = time.Now()
	for _, o := range f.objects {
		f.release(o)
	}
}

// object returns the object that a name in a directory stands for. The caller
// holds f.mu and releases what it does not keep.
func (f *FS) object(dir *object, name string) (*object, *syscall.Stat_t, error) {
	fd, err := unix.Openat(dir.path, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fd))
	}
	o := f.objects[st.Ino]
	if o == nil {
		f.generation++
		o = &object{ino: st.Ino, generation: f.generation, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, path: fd, data: -1}
		f.objects[st.Ino] = o
	} else if err := unix.Close(fd); err != nil {
		return nil, nil, err
	}
	o.name = join(dir, name)
	return o, &st, nil
}

func join(dir *object, name string) string {
	if dir.name == "" {
		return name
	}
	return dir.name + "/" + name
}

// errno is the system's error number in err.
func errno(err error) syscall.Errno {
	var no syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no):
		return no
	}
	return syscall.EIO
}
