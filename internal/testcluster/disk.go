package testcluster

import (
	"math/rand/v2"

	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// disk is what a node has between two lives: a file system for state and
// snapshots, and the log.
type disk struct {
	fs  *vfs.MemFS
	log *raftlog.Memory
}

func newDisk() *disk { return &disk{fs: vfs.NewCrashableMem(), log: raftlog.NewMemory()} }

// after returns the disk as the next life finds it when the process dies now.
// keep is how many of a hundred unsynced blocks survive: 100 when only the
// process dies, fewer in a power cut. The network must be dead already, so that
// nothing which this life still does is seen by anybody.
//
// The two parts cannot be copied at one instant, so the log is frozen first and
// copied last: entries always reach the log before the state, and leave it
// after a snapshot holds them, so each pair that this yields could be the one
// that a real crash leaves.
func (d *disk) after(keep int, rng *rand.Rand) *disk {
	thaw := make(chan struct{})
	d.log.SetStall(func() { <-thaw })
	next := &disk{fs: d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})}
	next.log = d.log.Crash()
	// The dead life may go on writing to the copy that nobody reads any more. To
	// fail its writes would end the library's main loop, and whoever waits for
	// that loop (a leadership transfer that is queued) would wait for ever.
	d.log.SetStall(nil)
	close(thaw)
	return next
}
