package faultfs

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// change is one unsynced change of a file's data, with all that is needed to undo
// it and to do it again.
type change struct {
	off      int64
	old, new []byte // old ends where the file ended; new is empty in a resize
	from, to int64  // the file's size before and after
	safe     bool   // a later sync covered it; kept only because of an older doomed one
	doomed   bool   // a sync of it failed: no later one covers it
}

const sector = 512

func (c *change) bytes() int64 { return int64(len(c.old)+len(c.new)) + 96 }

// undo makes the file what it was before the change.
func (c *change) undo(fd int) error {
	if err := unix.Ftruncate(fd, c.from); err != nil {
		return err
	}
	return pwrite(fd, c.old, c.off)
}

// redo does the change again, or of a torn write only the part in [lo, hi).
func (c *change) redo(fd int, lo, hi int64) error {
	if len(c.new) == 0 {
		return unix.Ftruncate(fd, c.to)
	}
	lo, hi = max(lo, c.off), min(hi, c.off+int64(len(c.new)))
	if lo >= hi {
		return nil
	}
	return pwrite(fd, c.new[lo-c.off:hi-c.off], lo)
}

func pwrite(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func pread(fd int, p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// write writes as much of p as there is room for. The caller holds f.mu.
func (f *FS) write(o *object, p []byte, off int64) (int, error) {
	if err := o.writable(); err != nil {
		return 0, err
	}
	size, err := o.size()
	if err != nil {
		return 0, err
	}
	if more := off + int64(len(p)) - size; more > 0 {
		fits := f.rules.take(o.name, more, int64(len(p)))
		if fits <= 0 && len(p) > 0 {
			return 0, syscall.ENOSPC
		}
		p = p[:fits]
	}
	c := change{off: off, new: append([]byte(nil), p...), from: size, to: max(size, off+int64(len(p)))}
	if off < size {
		c.old = make([]byte, min(int64(len(p)), size-off))
		if _, err := pread(o.data, c.old, off); err != nil {
			return 0, err
		}
	}
	if err := pwrite(o.data, p, off); err != nil {
		// Part of it may be there: the undo takes that back too.
		return 0, errors.Join(err, c.undo(o.data))
	}
	f.record(o, c)
	return len(p), nil
}

// resize changes a file's size. The caller holds f.mu.
func (f *FS) resize(o *object, to int64) error {
	if err := o.writable(); err != nil {
		return err
	}
	size, err := o.size()
	if err != nil || size == to {
		return err
	}
	if to > size && f.rules.take(o.name, to-size, to-size) < to-size {
		return syscall.ENOSPC
	}
	c := change{off: min(to, size), from: size, to: to}
	if to < size {
		c.old = make([]byte, size-to)
		if _, err := pread(o.data, c.old, to); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(o.data, to); err != nil {
		return err
	}
	f.rules.giveBack(size - to)
	f.record(o, c)
	return nil
}

// record keeps a change until it is synced, or written back because too much is
// held: from the oldest on, since undos work only backwards.
func (f *FS) record(o *object, c change) {
	o.log = append(o.log, c)
	o.held += c.bytes()
	n := 0
	for ; o.held > f.options.Hold && n < len(o.log); n++ {
		o.held -= o.log[n].bytes()
	}
	o.log = o.log[n:]
}

// sync makes the file's data durable, except what an earlier sync failed to write.
func (f *FS) sync(o *object) {
	doomed := false
	for i := range o.log {
		c := &o.log[i]
		c.safe = c.safe || !c.doomed
		doomed = doomed || c.doomed
	}
	if !doomed {
		o.log, o.held = nil, 0
	}
	if f.options.Ordered {
		f.settle(len(f.entries))
	}
	f.release(o)
}

// doom is what a failed sync does: what it should have written counts as lost
// although it can still be read.
func (o *object) doom() {
	for i := range o.log {
		o.log[i].doomed = !o.log[i].safe
	}
}
