package snapshot

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/storagetest"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// What hashicorp/raft relies on in a snapshot store holds for ours, in memory
// through power cuts and in a real directory.
func TestSnapshotStore(t *testing.T) {
	const retain = 3
	disks := storagetest.Disks(func(t *testing.T, fs vfs.FS, dir string) raft.SnapshotStore {
		return intact{openIn(t, fs, dir, retain), t}
	})
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) { storagetest.TestSnapshotStore(t, retain, disk) })
	}
}

// intact is a store in which nothing may be found damaged.
type intact struct {
	*Store
	t *testing.T
}

// List implements raft.SnapshotStore.
func (i intact) List() ([]*raft.SnapshotMeta, error) {
	metas, err := i.Store.List()
	if d := i.Damaged(); len(d) > 0 {
		i.t.Errorf("damaged: %v", d)
	}
	return metas, err
}
