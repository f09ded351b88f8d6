package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// snapshotTime takes a snapshot of what the node, which is down, holds: with
// the code that a running node takes it with, to a file, durably.
func snapshotTime(n *testprocess.Node, secrets int, r *report) (err error) {
	dir := filepath.Join(filepath.Dir(n.DataDir), "snapshot-bench")
	store, err := state.Open(filepath.Join(n.DataDir, "state"), vfs.Default, state.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(), os.RemoveAll(dir)) }()
	machine, err := fsm.Open(store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	snapshots, err := snapshot.New(dir, vfs.Default, 1)
	if err != nil {
		return err
	}
	began := time.Now()
	bytes, err := takeSnapshot(machine, snapshots)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("snapshot of %d secrets", secrets), time.Since(began).Seconds(), "s", fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)))
	return nil
}

func takeSnapshot(machine *fsm.Machine, snapshots *snapshot.Store) (bytes int64, err error) {
	image, err := machine.Snapshot()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	sink, err := snapshots.Create(1, image.Index(), 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return 0, err
	}
	if bytes, err = image.WriteTo(sink); err != nil {
		return 0, errors.Join(err, sink.Cancel())
	}
	return bytes, sink.Close()
}
