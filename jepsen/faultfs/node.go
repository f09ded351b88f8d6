package faultfs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is what the kernel knows an object by.
type node struct {
	fs.Inode
	f *FS
	o *object
}

var (
	_ fs.NodeLookuper   = (*node)(nil)
	_ fs.NodeGetattrer  = (*node)(nil)
	_ fs.NodeSetattrer  = (*node)(nil)
	_ fs.NodeReaddirer  = (*node)(nil)
	_ fs.NodeReadlinker = (*node)(nil)
	_ fs.NodeStatfser   = (*node)(nil)
)

// name is the object's last known name.
func (n *node) name() string {
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	return n.o.name
}

// child returns the name's inode, made known to the kernel. The caller holds f.mu.
func (n *node) child(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, error) {
	n.f.sweep()
	o, st, err := n.f.object(n.o, name)
	if err != nil {
		return nil, err
	}
	n.f.attr(&out.Attr, st)
	if !o.known() {
		o.nodes = nil
	}
	o.seen = time.Now()
	for _, known := range o.nodes {
		if !known.forgotten() {
			return known.EmbeddedInode(), nil
		}
	}
	fresh := &node{f: n.f, o: o}
	o.nodes = append(o.nodes, fresh)
	// Inode numbers are used again; with a generation nodes never are.
	return n.NewInode(ctx, fresh, fs.StableAttr{Mode: st.Mode, Ino: st.Ino, Gen: o.generation}), nil
}

func (f *FS) attr(out *fuse.Attr, st *syscall.Stat_t) {
	out.FromStat(st)
	out.Nlink -= f.buried[st.Ino]
}

// forgotten says that the kernel does not know the node now; a lookup under way may
// still make it known.
func (n *node) forgotten() bool {
	//lint:ignore SA1019 OnForget races with such a lookup, asking again later does not.
	return n.Forgotten()
}

// Lookup finds a name.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if _, no := n.f.gate(ctx, Look, n.sub(name)); no != 0 {
		return nil, no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	inode, err := n.child(ctx, name, out)
	return inode, errno(err)
}

// sub is the path of a name in the directory.
func (n *node) sub(name string) string {
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	return join(n.o, name)
}

// Getattr is stat.
func (n *node) Getattr(ctx context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if _, no := n.f.gate(ctx, Look, n.name()); no != 0 {
		return no
	}
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	return n.stat(out)
}

func (n *node) stat(out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Fstat(n.o.path, &st); err != nil {
		return errno(err)
	}
	n.f.attr(&out.Attr, &st)
	return 0
}

// Setattr is truncate, chmod, chown and utimes; only the size is ever lost.
func (n *node) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, no := n.f.gate(ctx, Write, n.name()); no != 0 {
		return no
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.o.path < 0 {
		return syscall.EIO
	}
	if size, ok := in.GetSize(); ok {
		if err := n.f.resize(n.o, int64(size)); err != nil {
			return errno(err)
		}
	}
	if err := n.setModes(in); err != nil {
		return errno(err)
	}
	return n.stat(out)
}

func (n *node) setModes(in *fuse.SetAttrIn) error {
	if mode, ok := in.GetMode(); ok {
		if err := unix.Chmod(n.o.proc(), mode&0o7777); err != nil {
			return err
		}
	}
	uid, hasUID := in.GetUID()
	gid, hasGID := in.GetGID()
	if hasUID || hasGID {
		id := func(v uint32, ok bool) int {
			if !ok {
				return -1
			}
			return int(v)
		}
		if err := unix.Fchownat(n.o.path, "", id(uid, hasUID), id(gid, hasGID), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	atime, hasA := in.GetATime()
	mtime, hasM := in.GetMTime()
	if !hasA && !hasM {
		return nil
	}
	at := func(t time.Time, ok bool) unix.Timespec {
		if !ok {
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		}
		return unix.NsecToTimespec(t.UnixNano())
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, n.o.proc(), []unix.Timespec{at(atime, hasA), at(mtime, hasM)}, 0)
}

// Readdir lists a directory.
func (n *node) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	if _, no := n.f.gate(ctx, Look, n.name()); no != 0 {
		return nil, no
	}
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	if n.o.path < 0 {
		return nil, syscall.EIO
	}
	fd, err := unix.Open(n.o.proc(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errno(err)
	}
	stream, no := fs.NewLoopbackDirStreamFd(fd)
	if no != 0 {
		return nil, no
	}
	// Not the stream itself: it would answer a sync of the directory.
	return &listing{stream}, 0
}

// listing hides all of a directory stream but its entries.
type listing struct{ fs.DirStream }

// Readlink reads a symbolic link.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	if _, no := n.f.gate(ctx, Look, n.name()); no != 0 {
		return nil, no
	}
	n.f.mu.RLock()
	defer n.f.mu.RUnlock()
	target := make([]byte, unix.PathMax)
	got, err := unix.Readlinkat(n.o.path, "", target)
	if err != nil {
		return nil, errno(err)
	}
	return target[:got], 0
}

// Statfs tells of the backing store, and of a full disk if a rule says so.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	if _, no := n.f.gate(ctx, Look, n.name()); no != 0 {
		return no
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(n.f.backing, &st); err != nil {
		return errno(err)
	}
	out.FromStatfsT(&st)
	if room, full := n.f.rules.room(); full && out.Bsize > 0 {
		out.Bavail = min(out.Bavail, uint64(room)/uint64(out.Bsize))
		out.Bfree = min(out.Bfree, out.Bavail)
	}
	return 0
}
