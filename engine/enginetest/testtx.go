package enginetest

import (
	"errors"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// A Harness is what [TestTx] tests: mounts that are empty at first, transactions
// on them, and a log time that stands still but for Advance. It need not be safe
// for concurrent use. What goes wrong beside the contract it reports to the test
// that opened it.
type Harness interface {
	// Begin opens a transaction that may write, on a view of everything
	// committed, for the mount with the given id. Any number may be open at once.
	Begin(mount string) Transaction
	// Advance moves log time forward by d, which is above zero, for views opened
	// and changes committed afterwards.
	Advance(d time.Duration)
}

// A TokenHarness can also act for tokens. Without it the suite skips what only a
// token can show, and says so.
type TokenHarness interface {
	Harness
	// BeginAs is Begin for a caller with the token of that name, which is made when
	// it is first seen and does not expire while the test runs.
	BeginAs(mount, token string) Transaction
	// EndToken revokes a token, as far as it goes: what it owns is gone when the
	// call returns. The suite does not use the name again.
	EndToken(token string)
}

// A Transaction is an engine.Tx with its end. The suite ends each one, once.
type Transaction interface {
	engine.Tx
	// Commit does what is staged. It returns nil, [ErrConflict] or [ErrRefused],
	// which may be wrapped; after an error nothing of it was done. The suite
	// stages something before it calls Commit.
	Commit() error
	// Discard ends the transaction without effect.
	Discard()
}

// TestTx checks everything that the documentation of engine.Tx promises, and
// that the transactions do what those of a [Store] do. open returns an empty
// harness; it is called many times.
func TestTx(t *testing.T, open func(*testing.T) Harness) {
	for _, part := range []struct {
		name string
		test func(*txSuite)
	}{
		{"records", (*txSuite).records},
		{"values are copied", (*txSuite).copies},
		{"staging", (*txSuite).staging},
		{"all or nothing", (*txSuite).allOrNothing},
		{"view stands still", (*txSuite).view},
		{"versions", (*txSuite).versions},
		{"limits", (*txSuite).limits},
		{"deletion", (*txSuite).deletion},
		{"impossible changes", (*txSuite).impossible},
		{"purge", (*txSuite).purge},
		{"expiry", (*txSuite).expiry},
		{"guards", (*txSuite).guards},
		{"mounts", (*txSuite).mounts},
		{"children", (*txSuite).children},
		{"records of a directory", (*txSuite).directory},
		{"records that expire", (*txSuite).expiring},
		{"records of a token", (*txSuite).owned},
		{"hash", (*txSuite).hash},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(&txSuite{t, open(t)}) })
	}
	t.Run("like the reference", func(t *testing.T) { likeReference(t, open) })
}

// txSuite is one part of TestTx with a harness of its own.
type txSuite struct {
	*testing.T
	h Harness
}

const home = "home" // the mount of the parts that need only one

// attempt runs f in a transaction and commits it.
func (s *txSuite) attempt(mount string, f func(engine.Tx) error) error {
	s.Helper()
	tx := s.h.Begin(mount)
	if err := f(tx); err != nil {
		tx.Discard()
		s.Fatalf("staging: %v", err)
	}
	return tx.Commit()
}

// do is attempt that must succeed.
func (s *txSuite) do(f func(engine.Tx) error) {
	s.Helper()
	if err := s.attempt(home, f); err != nil {
		s.Fatalf("committing: %v", err)
	}
}

// look runs f in a transaction that has no effect.
func (s *txSuite) look(mount string, f func(engine.Tx)) {
	s.Helper()
	tx := s.h.Begin(mount)
	defer tx.Discard()
	f(tx)
}

// now is the log time.
func (s *txSuite) now() (now time.Time) {
	s.look(home, func(tx engine.Tx) { now = tx.Now() })
	return now
}

// appendEach appends each value as a version of its own.
func (s *txSuite) appendEach(p engine.Path, values ...string) {
	s.Helper()
	for _, v := range values {
		s.do(func(tx engine.Tx) error {
			_, err := tx.AppendVersion(p, []byte(v), 0)
			return err
		})
	}
}

func (s *txSuite) wantRecord(tx engine.Tx, p engine.Path, want string) {
	s.Helper()
	if got, err := tx.Record(p); err != nil || got == nil || string(got) != want {
		s.Errorf("record %q: got %q (nil %v) %v, want %q", p, got, got == nil, err, want)
	}
}

func (s *txSuite) wantNoRecord(tx engine.Tx, p engine.Path) {
	s.Helper()
	if got, err := tx.Record(p); err != nil || got != nil {
		s.Errorf("record %q: got %q %v, want nil", p, got, err)
	}
}

func (s *txSuite) wantHead(tx engine.Tx, p engine.Path, want *engine.Head) {
	s.Helper()
	if got, err := tx.Head(p); err != nil || !sameHead(got, want) {
		s.Errorf("head of %q: got %+v %v, want %+v", p, got, err, want)
	}
}

func (s *txSuite) wantVersion(tx engine.Tx, p engine.Path, n uint64, want *engine.Version) {
	s.Helper()
	if got, err := tx.Version(p, n); err != nil || !sameVersion(got, want) {
		s.Errorf("version %d of %q: got %+v %v, want %+v", n, p, got, err, want)
	}
}

func (s *txSuite) wantChildren(tx engine.Tx, dir engine.Path, want ...string) {
	s.Helper()
	got, more, err := tx.Children(dir, "", 1000)
	if err != nil || more || !sameNames(got, want) {
		s.Errorf("children of %q: got %q more %v %v, want %q", dir, got, more, err, want)
	}
}

func (s *txSuite) wantEnd(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) || (want == nil && got != nil) {
		s.Errorf("%s: committing gives %v, want %v", what, got, want)
	}
}
