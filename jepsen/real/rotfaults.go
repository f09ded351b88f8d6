package real

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// What is damaged here is found by the node, which mends it with the help of the
// others or refuses to serve; or it is in a place where nobody reads. In each case
// the node is replaced before anything else goes wrong, so that never more than a
// minority is damaged.
var rotFaults = []fault{
	{"rotten log", damage, 3, func(b *blow) error { return b.ruin("raft", (*blow).rot) }},
	{"rotten state", damage, 3, func(b *blow) error { return b.ruin("state", (*blow).rot) }},
	{"rotten snapshot", damage, 3, func(b *blow) error { return b.ruin("snapshots", (*blow).rot) }},
	{"truncated log", damage, 3, func(b *blow) error { return b.ruin("raft", (*blow).truncate) }},
	{"truncated state", damage, 3, func(b *blow) error { return b.ruin("state", (*blow).truncate) }},
	{"truncated snapshot", damage, 3, func(b *blow) error { return b.ruin("snapshots", (*blow).truncate) }},
	{"wiped disk", alone, 3, (*blow).wipe},
	{"old disk image", damage, 3, (*blow).setBack},
}

// ruin damages a file in a part of the data directory of a node that is down, and
// starts it. What does not refuse to serve goes on for a while and through another
// start, which reads most of what it has.
func (b *blow) ruin(part string, how func(*blow, *faultfs.FS, string) error) error {
	node := b.anyNode()
	b.nodes = []int{node}
	for range 100 { // until it has taken a snapshot, say
		if files, err := b.filesOf(node, part); err != nil || len(files) > 0 {
			break
		}
		pause(context.WithoutCancel(b.ctx), 100*time.Millisecond)
	}
	if err := b.run.node(node).Kill(); err != nil {
		return err
	}
	files, err := b.filesOf(node, part)
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("node %d has no file in %s", node, part))
	}
	file := files[b.rng.IntN(len(files))]
	if err := how(b, b.run.disks[node].system(), file); err != nil {
		return err
	}
	for range 2 {
		ended, _, err := b.startDoubtful(node, 30*time.Second, true)
		if err != nil {
			return err
		}
		if ended {
			b.prove("nodes that refused to serve", 1)
			break
		}
		b.hold()
		if err := b.run.node(node).Kill(); err != nil {
			return err
		}
	}
	return b.replace(node)
}

// filesOf are the files that hold something, in order, by their paths on the disk.
// The mark of ownership is a line of text that is read as a whole, so it is left out.
func (b *blow) filesOf(node int, part string) (names []string, err error) {
	root := b.run.disks[node].backing
	err = filepath.WalkDir(filepath.Join(root, dataName, part), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it runs
		}
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "owner" {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Size() == 0 {
			return nil
		}
		name, err := filepath.Rel(root, path)
		names = append(names, name)
		return err
	})
	slices.Sort(names)
	return names, err
}

func (b *blow) rot(disk *faultfs.FS, file string) error {
	bits := []int64{1, 1, 3, 30}[b.rng.IntN(4)]
	for range bits {
		if _, err := disk.Rot(file, b.rng.Uint64()); err != nil {
			return err
		}
	}
	b.prove("bits flipped in "+shortName(file), bits)
	return nil
}

func (b *blow) truncate(disk *faultfs.FS, file string) error {
	info, err := os.Stat(filepath.Join(b.run.disks[b.nodes[0]].backing, file))
	if err != nil {
		return err
	}
	length := b.rng.Int64N(info.Size())
	if err := disk.Truncate(file, length); err != nil {
		return err
	}
	b.prove("bytes cut off "+shortName(file), info.Size()-length)
	return nil
}

// shortName is a file's name without the data directory.
func shortName(file string) string {
	name, err := filepath.Rel(dataName, file)
	if err != nil {
		return file
	}
	return name
}

// wipe takes a node all that it has.
func (b *blow) wipe() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	if err := b.end(node); err != nil {
		return err
	}
	b.hold()
	return b.replace(node)
}

// setBack gives a node, after a while, the disk that it had before. Nothing on it
// tells so: the node has forgotten what it acknowledged and whom it voted for. As
// long as it is the only one, and everybody else is well, nothing may be lost.
func (b *blow) setBack() error {
	node := b.anyNode()
	b.nodes = []int{node}
	disk, n := b.run.disks[node], b.run.node(node)
	if err := n.Kill(); err != nil {
		return err
	}
	image := filepath.Join(b.run.options.Dir, "image")
	if err := copyTree(b.run.files(node), image); err != nil {
		return err
	}
	if err := b.revive(node); err != nil {
		return err
	}
	b.hold()
	if err := n.Kill(); err != nil {
		return err
	}
	old, err := disk.swap(image)
	if err != nil {
		return err
	}
	b.run.retire(old)
	if err := os.RemoveAll(image); err != nil {
		return err
	}
	b.prove("disks set back", 1)
	ended, _, err := b.startDoubtful(node, 30*time.Second, true)
	if err != nil || !ended {
		return err
	}
	b.prove("nodes that refused to serve", 1)
	return b.replace(node)
}
