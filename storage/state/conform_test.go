package state

import (
	"testing"

	"github.com/conclave-secrets/conclave/storage/storagetest"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// What the state machine relies on holds in memory, through power cuts, and in a
// real directory.
func TestOrderedStore(t *testing.T) {
	disks := storagetest.Disks(func(t *testing.T, fs vfs.FS, dir string) storagetest.OrderedStore {
		opts := small
		opts.Fatal = func(err error) { t.Error(err) }
		s, err := Open(dir, fs, opts)
		if err != nil {
			t.Fatal(err)
		}
		return orderedStore{s}
	})
	for name, disk := range disks {
		t.Run(name, func(t *testing.T) { storagetest.TestOrderedStore(t, disk) })
	}
}

// The suite knows interfaces where the store returns its own types.

type orderedStore struct{ *Store }

func (s orderedStore) View() (storagetest.OrderedView, error) {
	v, err := s.Store.View()
	return orderedView{v}, err
}

func (s orderedStore) Begin() (storagetest.OrderedTxn, error) {
	x, err := s.Store.Begin()
	return orderedTxn{x}, err
}

func (s orderedStore) Replace(fill func(set func(key, value []byte) error) error) error {
	return s.Store.Replace(func(w *Writer) error { return fill(w.Set) })
}

type orderedView struct{ *View }

func (v orderedView) Cursor(lower, upper []byte) (storagetest.Cursor, error) {
	return v.View.Cursor(lower, upper)
}

type orderedTxn struct{ *Txn }

func (x orderedTxn) Cursor(lower, upper []byte) (storagetest.Cursor, error) {
	return x.Txn.Cursor(lower, upper)
}
