package raftlog

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/conclave-secrets/conclave/storage/storagetest"
)

// What hashicorp/raft relies on holds for the log over either inner store, and
// for the inner stores themselves: simulation may stand for the disk.
func TestLogStore(t *testing.T) {
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) {
			storagetest.TestLogStore(t, func(t *testing.T) storagetest.Disk[storagetest.LogStore] {
				return as[storagetest.LogStore](disk(t))
			})
		})
	}
}

func TestStableStore(t *testing.T) {
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) {
			storagetest.TestStableStore(t, func(t *testing.T) storagetest.Disk[storagetest.StableStore] {
				return as[storagetest.StableStore](disk(t))
			})
		})
	}
}

// disks make empty ones. A power cut is a copy of bbolt's file between two
// writes: there are no unsynced bytes then.
var disks = map[string]func(*testing.T) storagetest.Disk[Inner]{
	"memory":       func(t *testing.T) storagetest.Disk[Inner] { return inMemory(NewMemory(), harden) },
	"bolt":         func(t *testing.T) storagetest.Disk[Inner] { return inFile(t, nil, harden) },
	"plain memory": func(t *testing.T) storagetest.Disk[Inner] { return inMemory(NewMemory(), plain) },
	"plain bolt":   func(t *testing.T) storagetest.Disk[Inner] { return inFile(t, nil, plain) },
}

type wrap func(*testing.T, Inner) Inner

func plain(_ *testing.T, inner Inner) Inner { return inner }

// coverable is a Store that is told of snapshots.
type coverable struct {
	*Store
	index *atomic.Uint64
}

func (c coverable) Covered(index uint64) { c.index.Store(index) }

func harden(t *testing.T, inner Inner) Inner {
	var covered atomic.Uint64
	return coverable{mustNew(t, Options{
		Inner:        inner,
		Fail:         func(err error) { t.Error(err) },
		LastSnapshot: func() (uint64, error) { return covered.Load(), nil },
	}), &covered}
}

func inMemory(m *Memory, wrap wrap) storagetest.Disk[Inner] {
	return storagetest.Disk[Inner]{
		Open:  func(t *testing.T) Inner { return wrap(t, m) },
		Crash: func(*testing.T, int) storagetest.Disk[Inner] { return inMemory(m.Crash(), wrap) },
	}
}

func inFile(t *testing.T, content []byte, wrap wrap) storagetest.Disk[Inner] {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if content != nil {
		must(t, os.WriteFile(path, content, 0o600))
	}
	return storagetest.Disk[Inner]{
		Open: func(t *testing.T) Inner {
			inner, err := OpenBolt(path)
			must(t, err)
			return wrap(t, inner)
		},
		Crash: func(t *testing.T, _ int) storagetest.Disk[Inner] {
			content, err := os.ReadFile(path)
			must(t, err)
			return inFile(t, content, wrap)
		},
	}
}

// as shows the store on a disk as one of its kinds.
func as[S any](d storagetest.Disk[Inner]) storagetest.Disk[S] {
	return storagetest.Disk[S]{
		Open:  func(t *testing.T) S { return any(d.Open(t)).(S) },
		Crash: func(t *testing.T, unsynced int) storagetest.Disk[S] { return as[S](d.Crash(t, unsynced)) },
	}
}
