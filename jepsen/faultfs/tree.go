package faultfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var (
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeMknoder   = (*node)(nil)
	_ fs.NodeSymlinker = (*node)(nil)
	_ fs.NodeLinker    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
)

// add makes a name by make, gives it to the caller, and notes it as unsynced.
func (n *node) add(ctx context.Context, name string, out *fuse.EntryOut, make func(dir int) error) (*fs.Inode, syscall.Errno) {
	if _, no := n.f.gate(ctx, Create, n.sub(name)); no != 0 {
		return nil, no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return n.addLocked(ctx, name, out, make)
}

func (n *node) addLocked(ctx context.Context, name string, out *fuse.EntryOut, make func(dir int) error) (*fs.Inode, syscall.Errno) {
	if n.o.path < 0 {
		return nil, syscall.EIO
	}
	if err := make(n.o.path); err != nil {
		return nil, errno(err)
	}
	n.f.added(n.o, name)
	var uid, gid uint32
	if c, ok := fuse.FromContext(ctx); ok {
		uid, gid = c.Uid, c.Gid
	}
	if uid != 0 || gid != 0 {
		if err := unix.Fchownat(n.o.path, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, errno(err)
		}
	}
	inode, err := n.child(ctx, name, out)
	return inode, errno(err)
}

// Create makes and opens a file.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if _, no := n.f.gate(ctx, Create, n.sub(name)); no != 0 {
		return nil, nil, 0, no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	inode, no := n.addLocked(ctx, name, out, func(dir int) error {
		fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o7777)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
	if no == syscall.EEXIST && flags&unix.O_EXCL == 0 {
		// The name appeared since the kernel looked.
		var err error
		inode, err = n.child(ctx, name, out)
		no = errno(err)
	}
	if no != 0 {
		return nil, nil, 0, no
	}
	made, ok := inode.Operations().(*node)
	if !ok {
		return nil, nil, 0, syscall.EIO
	}
	if err := made.open(flags); err != nil {
		return nil, nil, 0, errno(err)
	}
	return inode, &handle{made.o}, 0, 0
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, func(dir int) error { return unix.Mkdirat(dir, name, mode&0o7777) })
}

// Mknod makes a special file, such as a socket.
func (n *node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, func(dir int) error { return unix.Mknodat(dir, name, mode, int(dev)) })
}

// Symlink makes a symbolic link.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, func(dir int) error { return unix.Symlinkat(target, dir, name) })
}

// Link gives a file another name.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	to, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	return n.add(ctx, name, out, func(dir int) error {
		return unix.Linkat(unix.AT_FDCWD, to.o.proc(), dir, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// Unlink removes a name.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.take(ctx, name, false)
}

// Rmdir removes an empty directory.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno { return n.take(ctx, name, true) }

func (n *node) take(ctx context.Context, name string, isDir bool) syscall.Errno {
	if _, no := n.f.gate(ctx, Remove, n.sub(name)); no != 0 {
		return no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.o.path < 0 {
		return syscall.EIO
	}
	return errno(n.f.remove(n.o, name, isDir))
}

// Rename moves a name; rules see the new one.
func (n *node) Rename(ctx context.Context, name string, to fs.InodeEmbedder, toName string, flags uint32) syscall.Errno {
	dir, ok := to.(*node)
	if !ok {
		return syscall.EXDEV
	}
	if flags&^uint32(unix.RENAME_NOREPLACE) != 0 {
		return syscall.EINVAL
	}
	if _, no := n.f.gate(ctx, Rename, dir.sub(toName)); no != 0 {
		return no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.o.path < 0 {
		return syscall.EIO
	}
	return errno(n.f.rename(n.o, name, dir.o, toName, flags))
}
