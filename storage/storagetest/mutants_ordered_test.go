package storagetest_test

import (
	"bytes"

	"github.com/conclave-secrets/conclave/storage/storagetest"
)

func init() {
	orderedMutant("views move", func(g good) storagetest.OrderedStore { return viewsMove{g} })
	orderedMutant("discard commits", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return committing{x} })
	})
	orderedMutant("does not see its changes", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return blind{x} })
	})
	orderedMutant("before is now", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return noBefore{x} })
	})
	orderedMutant("deletes nothing", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return noDelete{x} })
	})
	orderedMutant("empty is absent", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return noEmpty{x} })
	})
	orderedMutant("commits one by one", func(g good) storagetest.OrderedStore {
		return txns(g, func(x goodTxn) storagetest.OrderedTxn { return &torn{goodTxn: x, store: g} })
	})
	orderedMutant("flush does nothing", func(g good) storagetest.OrderedStore { return noFlush{g} })
	orderedMutant("close loses", func(g good) storagetest.OrderedStore { return &empties{good: g} })
	orderedMutant("replace swallows errors", func(g good) storagetest.OrderedStore { return swallows{g} })
	orderedMutant("replace adds", func(g good) storagetest.OrderedStore { return adds{g} })
	orderedMutant("upper bound is included", func(g good) storagetest.OrderedStore {
		return bounds{g, func(lower, upper []byte) ([]byte, []byte) { return lower, append(bytes.Clone(upper), 0) }}
	})
	orderedMutant("lower bound is left out", func(g good) storagetest.OrderedStore {
		return bounds{g, func(lower, upper []byte) ([]byte, []byte) { return append(bytes.Clone(lower), 0), upper }}
	})
}

// viewsMove has views that look at the newest map each time.
type viewsMove struct{ good }

type moving struct {
	storagetest.OrderedView
	store good
}

func (m viewsMove) View() (storagetest.OrderedView, error) {
	v, err := m.good.View()
	return moving{v, m.good}, err
}

func (m moving) Get(key []byte) ([]byte, bool, error) {
	v, err := m.store.Store.View()
	if err != nil {
		return nil, false, err
	}
	value, there, err := v.Get(key)
	if err2 := v.Close(); err == nil {
		err = err2
	}
	return value, there, err
}

func txns(g good, alter func(goodTxn) storagetest.OrderedTxn) storagetest.OrderedStore {
	return alteredTxns{g, alter}
}

type alteredTxns struct {
	good
	alter func(goodTxn) storagetest.OrderedTxn
}

func (m alteredTxns) Begin() (storagetest.OrderedTxn, error) {
	x, err := m.Store.Begin()
	return m.alter(goodTxn{x}), err
}

type committing struct{ goodTxn }

func (m committing) Discard() error { return m.Commit() }

type blind struct{ goodTxn }

func (m blind) Get(key []byte) ([]byte, bool, error) { return m.GetBefore(key) }

type noBefore struct{ goodTxn }

func (m noBefore) GetBefore(key []byte) ([]byte, bool, error) { return m.Get(key) }

type noDelete struct{ goodTxn }

func (noDelete) Delete([]byte) error { return nil }

type noEmpty struct{ goodTxn }

func (m noEmpty) Set(key, value []byte) error {
	if len(value) == 0 {
		return m.Delete(key)
	}
	return m.goodTxn.Set(key, value)
}

// torn commits each change by itself.
type torn struct {
	goodTxn
	store good
	later []func(storagetest.OrderedTxn) error
}

func (m *torn) Set(key, value []byte) error {
	k, v := bytes.Clone(key), bytes.Clone(value)
	m.later = append(m.later, func(x storagetest.OrderedTxn) error { return x.Set(k, v) })
	return m.goodTxn.Set(key, value)
}

func (m *torn) Commit() error {
	for _, do := range m.later {
		x, err := m.store.Begin()
		if err == nil {
			err = do(x)
		}
		if err == nil {
			err = x.Commit()
		}
		if err != nil {
			return err
		}
	}
	return m.goodTxn.Commit()
}

type noFlush struct{ good }

func (noFlush) Flush() error { return nil }

// empties is a store that starts anew when it is closed.
type empties struct {
	good
	closed bool
}

func (m *empties) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	if err := m.Replace(func(func(k, v []byte) error) error { return nil }); err != nil {
		return err
	}
	return m.good.Close()
}

type swallows struct{ good }

func (m swallows) Replace(fill func(set func(key, value []byte) error) error) error {
	return m.good.Replace(func(set func(key, value []byte) error) error {
		_ = fill(set) // that is the mutation
		return nil
	})
}

// adds fills the old map instead of a new one.
type adds struct{ good }

func (m adds) Replace(fill func(set func(key, value []byte) error) error) error {
	x, err := m.Begin()
	if err != nil {
		return err
	}
	if err := fill(x.Set); err != nil {
		_ = x.Discard() // the reason is the one to return
		return err
	}
	if err := x.Commit(); err != nil {
		return err
	}
	return m.Flush()
}

// bounds has views whose cursors take other bounds.
type bounds struct {
	good
	alter func(lower, upper []byte) ([]byte, []byte)
}

type boundedView struct {
	storagetest.OrderedView
	alter func(lower, upper []byte) ([]byte, []byte)
}

func (m bounds) View() (storagetest.OrderedView, error) {
	v, err := m.good.View()
	return boundedView{v, m.alter}, err
}

func (v boundedView) Cursor(lower, upper []byte) (storagetest.Cursor, error) {
	if lower != nil && upper != nil {
		lower, upper = v.alter(lower, upper)
	}
	return v.OrderedView.Cursor(lower, upper)
}
