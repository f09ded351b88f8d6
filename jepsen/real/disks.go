package real

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// A disk is what one node's data directory lies on. This process serves it, so it
// reads the node's files in the backing store: through the mount it would wait for
// itself while a fault hangs.
type disk struct {
	node        int
	backing, at string

	mu   sync.Mutex
	fs   *faultfs.FS // guarded by mu; nil: closed, or FUSE cannot be used
	olds int         // guarded by mu; disks that were replaced
}

// dataName is the node's data directory on its disk. The node makes it itself, so
// that a power cut can take it.
const dataName = "data"

// errPlainDisks: nobody wanted others.
var errPlainDisks = errors.New("the nodes are to lie on the machine's own disks")

// mountDisks makes the nodes' disks. Without FUSE they are plain directories, and
// the faults of disks are left out.
func (r *run) mountDisks() error {
	if r.noDisks = faultfs.Usable(); r.options.PlainDisks {
		r.noDisks = errPlainDisks
	}
	for i := range r.options.Nodes {
		at := filepath.Join(r.options.Dir, fmt.Sprintf("node%d", i+1))
		d := &disk{node: i, backing: at, at: at}
		if r.noDisks == nil {
			d.backing = filepath.Join(r.options.Dir, "disks", fmt.Sprintf("node%d", i+1))
		}
		r.disks = append(r.disks, d)
		if err := errors.Join(os.MkdirAll(d.at, 0o700), d.mount(r.noDisks == nil)); err != nil {
			return fmt.Errorf("making the disk of node %d: %w", i, err)
		}
	}
	return nil
}

// mount shows an existing or a new backing store.
func (d *disk) mount(fuse bool) (err error) {
	if err := os.MkdirAll(d.backing, 0o700); err != nil || !fuse {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fs, err = faultfs.Mount(d.backing, d.at, faultfs.Options{})
	return err
}

// system is the file system, nil where there is none.
func (d *disk) system() *faultfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fs
}

// close unmounts. Whatever hangs fails.
func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fs == nil {
		return nil
	}
	err := d.fs.Close()
	d.fs = nil
	return err
}

// heal ends all faults of the disk.
func (d *disk) heal() {
	if fs := d.system(); fs != nil {
		fs.Clear()
	}
}

// swap puts another disk in the place of that of a node which is down: one that
// holds a copy of the data directory image, or an empty one. It returns where the
// old disk's data directory is kept: its audit log goes on telling what was done.
func (d *disk) swap(image string) (old string, err error) {
	fuse := d.system() != nil
	if err := d.close(); err != nil {
		return "", err
	}
	d.mu.Lock()
	d.olds++
	shelf := filepath.Join(filepath.Dir(d.at), "replaced", fmt.Sprintf("%s-%d", filepath.Base(d.at), d.olds))
	d.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(shelf), 0o700); err != nil {
		return "", err
	}
	if err := os.Rename(d.backing, shelf); err != nil {
		return "", err
	}
	if image != "" {
		if err := errors.Join(os.Mkdir(d.backing, 0o700), copyTree(image, filepath.Join(d.backing, dataName))); err != nil {
			return "", err
		}
	}
	return filepath.Join(shelf, dataName), d.mount(fuse)
}

// copyTree copies a directory with its modes, which a node insists on.
func copyTree(from, to string) error {
	out, err := exec.Command("cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, out)
	}
	return nil
}

// dataDir is where the node has its data directory, files where the harness reads it.
func (r *run) dataDir(node int) string { return filepath.Join(r.disks[node].at, dataName) }
func (r *run) files(node int) string   { return filepath.Join(r.disks[node].backing, dataName) }

// isMount tells whether a path is where a disk is shown.
func (r *run) isMount(path string) bool {
	return slices.ContainsFunc(r.disks, func(d *disk) bool { return path == d.at && path != d.backing })
}

// retire keeps an old data directory for the checks at the end.
func (r *run) retire(dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retired = append(r.retired, dir)
}

// allFiles are the data directories of all nodes, those of replaced ones included.
func (r *run) allFiles() (dirs []string) {
	for i := range r.disks {
		dirs = append(dirs, r.files(i))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(dirs, r.retired...)
}

// idOf is the id of the member that a node's data directory belongs to.
func (r *run) idOf(node int) (string, error) {
	raw, err := os.ReadFile(filepath.Join(r.files(node), "identity.json"))
	if err != nil {
		return "", err
	}
	var said struct {
		ID string `json:"node_id"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return "", fmt.Errorf("reading who node %d is: %w", node, err)
	}
	return said.ID, nil
}

// breakDisk notes that a disk goes wrong, until all are healed.
func (r *run) breakDisk() { r.badUntil.Store(math.MaxInt64) }

// disksBad tells whether a disk was bad at some time since t. A node whose disk is
// bad may say that it cannot write its audit log.
func (r *run) disksBad(t time.Duration) bool { return int64(t) < r.badUntil.Load() }

// noteHealed notes that the processes which had bad disks are gone.
func (r *run) noteHealed() { r.badUntil.CompareAndSwap(math.MaxInt64, int64(r.now())) }

func (r *run) healDisks() {
	for _, d := range r.disks {
		d.heal()
	}
}

func (r *run) closeDisks() error {
	var errs []error
	for _, d := range r.disks {
		errs = append(errs, d.close())
	}
	return errors.Join(errs...)
}
