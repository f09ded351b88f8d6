package fsm

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/conclave-secrets/conclave/storage/state"
)

// Readers of a replica whose store is closed learn that it has stopped, and may ask
// another.
func TestReadersOfAClosedStore(t *testing.T) {
	d := newDisk(t)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.machine.View(); !errors.Is(err, ErrStopped) || !errors.Is(err, state.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// So do those that hold a view when the store fails.
func TestWalksOfAFailedStore(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	store, err := state.Open("state", fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10, Fatal: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	v, err := machine.View()
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for store.Failed() == nil {
		tx, err := store.Begin()
		if err == nil {
			err = errors.Join(tx.Set([]byte{0}, make([]byte, 64<<10)), tx.Commit())
		}
		if err != nil && !errors.Is(err, state.ErrFailed) {
			t.Fatal(err)
		}
	}
	for name, walk := range map[string]func() (*Keys, error){
		"keys":     func() (*Keys, error) { return v.Keys(Leases, nil) },
		"expiring": func() (*Keys, error) { return v.Expiring(1) },
		"owned":    func() (*Keys, error) { return v.Owned(Key("a")) },
		"waiting":  func() (*Keys, error) { return v.Waiting(Key("a")) },
	} {
		if _, err := walk(); !errors.Is(err, ErrStopped) || !errors.Is(err, state.ErrFailed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
