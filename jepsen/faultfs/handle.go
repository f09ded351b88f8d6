package faultfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var (
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeFlusher   = (*node)(nil)
	_ fs.NodeReleaser  = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
)

// handle is an open file. All handles of a file share its descriptor.
type handle struct{ o *object }

// Open opens a file. The kernel has checked permissions and appends by offset.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if _, no := n.f.gate(ctx, Look, n.name()); no != 0 {
		return nil, 0, no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if err := n.open(flags); err != nil {
		return nil, 0, errno(err)
	}
	return &handle{n.o}, 0, 0
}

func (n *node) open(flags uint32) error {
	if n.o.path < 0 {
		return syscall.EIO
	}
	if err := n.o.writable(); err != nil {
		return err
	}
	if flags&unix.O_TRUNC != 0 {
		if err := n.f.resize(n.o, 0); err != nil {
			return err
		}
	}
	n.o.opens++
	return nil
}

// Release is the last close of an open file.
func (n *node) Release(_ context.Context, h fs.FileHandle) syscall.Errno {
	if _, ok := h.(*handle); !ok {
		return 0
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.o.opens--
	n.f.release(n.o)
	return 0
}

// Flush is a close; it makes nothing durable.
func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// Read reads the newest state.
func (n *node) Read(ctx context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if _, no := n.f.gate(ctx, Read, n.name()); no != 0 {
		return nil, no
	}
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	got, err := pread(n.o.data, dest, off)
	if err != nil {
		return nil, errno(err)
	}
	return fuse.ReadResultData(dest[:got]), 0
}

// Write writes; a full disk takes a part.
func (n *node) Write(ctx context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	if _, no := n.f.gate(ctx, Write, n.name()); no != 0 {
		return 0, no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	wrote, err := n.f.write(n.o, p, off)
	return uint32(wrote), errno(err)
}

// Allocate lengthens a file, or reserves room past its end.
func (n *node) Allocate(ctx context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if mode&^uint32(unix.FALLOC_FL_KEEP_SIZE) != 0 {
		return syscall.EOPNOTSUPP
	}
	if _, no := n.f.gate(ctx, Write, n.name()); no != 0 {
		return no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if err := n.o.writable(); err != nil {
		return errno(err)
	}
	now, err := n.o.size()
	if end := int64(off + size); err == nil && mode == 0 && end > now {
		err = n.f.resize(n.o, end)
	}
	if err != nil {
		return errno(err)
	}
	return errno(unix.Fallocate(n.o.data, unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(size)))
}

// Fsync is fsync and fdatasync of a file or a directory. The backing store itself
// is not synced: what survives a failure of this machine is not its business.
func (n *node) Fsync(ctx context.Context, _ fs.FileHandle, _ uint32) syscall.Errno {
	lie, no := n.f.gate(ctx, Sync, n.name())
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	switch {
	case n.o.path < 0:
		return syscall.EIO
	case no == syscall.EINTR: // the caller died waiting
	case no != 0:
		n.o.doom()
	case lie:
	case n.o.dir:
		n.f.syncDir(n.o)
	default:
		n.f.sync(n.o)
	}
	return no
}
