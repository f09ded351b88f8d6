package storagetest_test

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/storagetest"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

const mutantVar = "STORAGETEST_MUTANT"

// mutants run a suite over a store that breaks one promise.
var mutants = map[string]func(*testing.T){}

// TestMutant runs one of them. It fails, and so runs only where TestSuitesCatch
// wants to see that.
func TestMutant(t *testing.T) {
	name, ok := os.LookupEnv(mutantVar)
	if !ok {
		t.Skip("only for TestSuitesCatch")
	}
	mutants[name](t)
}

// Each suite fails over whatever breaks one promise: a test of the tests. That
// they pass over good stores the rooms show.
func TestSuitesCatch(t *testing.T) {
	if len(mutants) < 30 {
		t.Fatalf("only %d mutants", len(mutants))
	}
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0], "-test.run=^TestMutant$", "-test.v", "-test.failfast")
			child.Env = append(os.Environ(), mutantVar+"="+name)
			out, err := child.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMutant") || strings.Contains(string(out), "panic:") {
				t.Errorf("the mutant is not caught: %v\n%s", err, out)
			}
		})
	}
}

// memoryLog is a disk with a log in memory; wrap makes the store that is tested.
// cut is the disk after a power cut.
func memoryLog[S any](m *raftlog.Memory, wrap func(*raftlog.Memory) S, cut func(*raftlog.Memory) *raftlog.Memory) storagetest.Disk[S] {
	return storagetest.Disk[S]{
		Open:  func(*testing.T) S { return wrap(m) },
		Crash: func(*testing.T, int) storagetest.Disk[S] { return memoryLog(cut(m), wrap, cut) },
	}
}

func logMutant(name string, wrap func(*raftlog.Memory) storagetest.LogStore) {
	mutants["log: "+name] = func(t *testing.T) {
		storagetest.TestLogStore(t, func(*testing.T) storagetest.Disk[storagetest.LogStore] {
			return memoryLog(raftlog.NewMemory(), wrap, (*raftlog.Memory).Crash)
		})
	}
}

func stableMutant(name string, wrap func(*raftlog.Memory) storagetest.StableStore) {
	mutants["stable: "+name] = func(t *testing.T) {
		storagetest.TestStableStore(t, func(*testing.T) storagetest.Disk[storagetest.StableStore] {
			return memoryLog(raftlog.NewMemory(), wrap, (*raftlog.Memory).Crash)
		})
	}
}

func snapshotMutant(name string, wrap func(*snapshot.Store, vfs.FS, string) raft.SnapshotStore) {
	mutants["snapshot: "+name] = func(t *testing.T) {
		disks := storagetest.Disks(func(t *testing.T, fs vfs.FS, dir string) raft.SnapshotStore {
			s, err := snapshot.New(dir, fs, 3, snapshot.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return wrap(s, fs, dir)
		})
		storagetest.TestSnapshotStore(t, 3, disks["memory"])
	}
}

func orderedMutant(name string, wrap func(good) storagetest.OrderedStore) {
	mutants["ordered: "+name] = func(t *testing.T) {
		disks := storagetest.Disks(func(t *testing.T, fs vfs.FS, dir string) storagetest.OrderedStore {
			s, err := state.Open(dir, fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			return wrap(good{s})
		})
		storagetest.TestOrderedStore(t, disks["memory"])
	}
}

// good is the state store as the suite knows it.
type good struct{ *state.Store }

func (g good) View() (storagetest.OrderedView, error) {
	v, err := g.Store.View()
	return goodView{v}, err
}

func (g good) Begin() (storagetest.OrderedTxn, error) {
	x, err := g.Store.Begin()
	return goodTxn{x}, err
}

func (g good) Replace(fill func(set func(key, value []byte) error) error) error {
	return g.Store.Replace(func(w *state.Writer) error { return fill(w.Set) })
}

type goodView struct{ *state.View }

func (v goodView) Cursor(lower, upper []byte) (storagetest.Cursor, error) {
	return v.View.Cursor(lower, upper)
}

type goodTxn struct{ *state.Txn }

func (x goodTxn) Cursor(lower, upper []byte) (storagetest.Cursor, error) {
	return x.Txn.Cursor(lower, upper)
}
