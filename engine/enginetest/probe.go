package enginetest

import (
	"bytes"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// A Probe stands between a method and its transaction: it counts the calls,
// writes down what they are about, and fails one of them.
type Probe struct {
	engine.Tx
	// FailAt is the call that fails, from 1; 0: none does. Now is no such call.
	FailAt int
	// Err is what it fails with.
	Err error

	Calls   int           // made so far, the failed one included
	Touched []engine.Path // what each call was about
	Staged  []Staged      // the calls that stage something, in order
}

// Staged is one change of a transaction. Which fields count depends on Call, the
// name of the method of engine.Tx.
type Staged struct {
	Call    string
	Path    string
	Value   []byte
	TTL     time.Duration
	Change  engine.Change
	Numbers []uint64
	Keep    uint64
}

func (p *Probe) call(path engine.Path) error {
	p.Calls++
	p.Touched = append(p.Touched, path)
	if p.Calls == p.FailAt {
		return p.Err
	}
	return nil
}

func (p *Probe) stage(path engine.Path, s Staged) error {
	if err := p.call(path); err != nil {
		return err
	}
	s.Path, s.Value, s.Numbers = path.String(), bytes.Clone(s.Value), append([]uint64(nil), s.Numbers...)
	p.Staged = append(p.Staged, s)
	return nil
}

// Record implements engine.Tx.
func (p *Probe) Record(path engine.Path) ([]byte, error) {
	if err := p.call(path); err != nil {
		return nil, err
	}
	return p.Tx.Record(path)
}

// Head implements engine.Tx.
func (p *Probe) Head(path engine.Path) (*engine.Head, error) {
	if err := p.call(path); err != nil {
		return nil, err
	}
	return p.Tx.Head(path)
}

// Version implements engine.Tx.
func (p *Probe) Version(path engine.Path, n uint64) (*engine.Version, error) {
	if err := p.call(path); err != nil {
		return nil, err
	}
	return p.Tx.Version(path, n)
}

// Children implements engine.Tx.
func (p *Probe) Children(dir engine.Path, after string, limit int) ([]string, bool, error) {
	if err := p.call(dir); err != nil {
		return nil, false, err
	}
	return p.Tx.Children(dir, after, limit)
}

// PutRecord implements engine.Tx.
func (p *Probe) PutRecord(path engine.Path, value []byte) error {
	if err := p.stage(path, Staged{Call: "PutRecord", Value: value}); err != nil {
		return err
	}
	return p.Tx.PutRecord(path, value)
}

// PutExpiring implements engine.Tx.
func (p *Probe) PutExpiring(path engine.Path, value []byte, ttl time.Duration) error {
	if err := p.stage(path, Staged{Call: "PutExpiring", Value: value, TTL: ttl}); err != nil {
		return err
	}
	return p.Tx.PutExpiring(path, value, ttl)
}

// PutOwned implements engine.Tx.
func (p *Probe) PutOwned(path engine.Path, value []byte) error {
	if err := p.stage(path, Staged{Call: "PutOwned", Value: value}); err != nil {
		return err
	}
	return p.Tx.PutOwned(path, value)
}

// Records implements engine.Tx.
func (p *Probe) Records(dir engine.Path, after string, limit int) ([]string, bool, error) {
	if err := p.call(dir); err != nil {
		return nil, false, err
	}
	return p.Tx.Records(dir, after, limit)
}

// Hash implements engine.Tx.
func (p *Probe) Hash(value string) (string, error) {
	if err := p.call(nil); err != nil {
		return "", err
	}
	return p.Tx.Hash(value)
}

// DeleteRecord implements engine.Tx.
func (p *Probe) DeleteRecord(path engine.Path) error {
	if err := p.stage(path, Staged{Call: "DeleteRecord"}); err != nil {
		return err
	}
	return p.Tx.DeleteRecord(path)
}

// AppendVersion implements engine.Tx.
func (p *Probe) AppendVersion(path engine.Path, value []byte, ttl time.Duration) (uint64, error) {
	if err := p.stage(path, Staged{Call: "AppendVersion", Value: value, TTL: ttl}); err != nil {
		return 0, err
	}
	return p.Tx.AppendVersion(path, value, ttl)
}

// ChangeVersions implements engine.Tx.
func (p *Probe) ChangeVersions(path engine.Path, change engine.Change, numbers []uint64) error {
	if err := p.stage(path, Staged{Call: "ChangeVersions", Change: change, Numbers: numbers}); err != nil {
		return err
	}
	return p.Tx.ChangeVersions(path, change, numbers)
}

// PurgeSecret implements engine.Tx.
func (p *Probe) PurgeSecret(path engine.Path) error {
	if err := p.stage(path, Staged{Call: "PurgeSecret"}); err != nil {
		return err
	}
	return p.Tx.PurgeSecret(path)
}

// SetLimits implements engine.Tx.
func (p *Probe) SetLimits(path engine.Path, keep uint64) error {
	if err := p.stage(path, Staged{Call: "SetLimits", Keep: keep}); err != nil {
		return err
	}
	return p.Tx.SetLimits(path, keep)
}
