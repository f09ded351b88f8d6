package core

import (
	"errors"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

// The keyring lies in the ledger, wrapped by the root key, in the seal's
// configuration. A rotation adds a data key to it. Each unsealed node goes over to
// the new keyring with its next write, or when it meets a value that it cannot
// open; what was sealed under older keys stays as it is.

// openSealed opens a value, following a rotation that this node has not heard of.
func (t *tx) openSealed(table seal.Table, key fsm.Key, number uint64, sealed []byte) ([]byte, error) {
	value, err := t.barrier.Open(table, key, number, sealed)
	var unknown *seal.UnknownKeyError
	if !errors.As(err, &unknown) {
		return value, err
	}
	if err := t.followRotation(); err != nil {
		return nil, err
	}
	return t.barrier.Open(table, key, number, sealed)
}

// followRotation goes over to the keyring of the view, if that is newer than the
// one at work. While a node is opened there is a barrier and no directory yet.
func (t *tx) followRotation() error {
	r, err := t.view.Record(seal.ConfigKey)
	if err != nil || r == nil {
		return err
	}
	if t.cache != nil && r.Revision <= t.cache.keyring.Load() {
		return nil
	}
	cfg, err := seal.UnmarshalConfig(r.Value)
	if err != nil {
		return err
	}
	err = t.barrier.Adopt(cfg)
	if errors.Is(err, seal.ErrOlderKeyring) {
		return nil // of an older view
	}
	if err == nil && t.cache != nil {
		t.cache.keyring.Store(r.Revision)
	}
	return err
}

// KeyStatus tells which data key seals new values, as of the view, and since when.
func (t *tx) KeyStatus() (term uint32, since time.Time, err error) {
	if err := t.followRotation(); err != nil {
		return 0, since, err
	}
	r, err := t.view.Record(seal.ConfigKey)
	if err != nil || r == nil {
		return 0, since, firstError(err, errors.New("the ledger has no seal configuration"))
	}
	term, err = t.barrier.ActiveKey()
	return term, r.Written.Time(), err
}

// RotateKey stages a new data key. It seals nothing before it is committed.
func (t *tx) RotateKey() error {
	r, err := t.row(seal.ConfigKey)
	if err != nil || r == nil {
		return firstError(err, errors.New("the ledger has no seal configuration"))
	}
	cfg, err := seal.UnmarshalConfig(r.Value)
	if err != nil {
		return err
	}
	if cfg, err = t.barrier.RotateData(cfg); err != nil {
		return err
	}
	value, err := cfg.Marshal()
	if err != nil {
		return err
	}
	t.stage(fsm.Operation{Kind: fsm.OpPutRecord, Key: seal.ConfigKey, Value: value})
	return nil
}
