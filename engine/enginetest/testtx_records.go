package enginetest

import (
	"errors"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// A record is what was put there last; an empty one is not an absent one.
func (s *txSuite) records() {
	p := engine.Path{"a", "b"}
	s.look(home, func(tx engine.Tx) { s.wantNoRecord(tx, p) })
	for _, value := range []string{"first", "", "\x00\xff", strings.Repeat("long ", 20_000)} {
		s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte(value)) })
		s.look(home, func(tx engine.Tx) {
			s.wantRecord(tx, p, value)
			s.wantNoRecord(tx, p[:1])
			s.wantNoRecord(tx, engine.Path{"a", "b", "c"})
			s.wantHead(tx, p, nil)
			s.wantChildren(tx, nil) // a record alone is in no directory
		})
	}
	for range 2 { // removing what is absent is no error
		s.do(func(tx engine.Tx) error { return tx.DeleteRecord(p) })
		s.look(home, func(tx engine.Tx) { s.wantNoRecord(tx, p) })
	}
	s.do(func(tx engine.Tx) error { // in one transaction the last one counts
		return errors.Join(tx.PutRecord(p, []byte("1")), tx.DeleteRecord(p), tx.PutRecord(p, []byte("2")),
			tx.PutRecord(p[:1], []byte("3")), tx.DeleteRecord(p[:1]))
	})
	s.look(home, func(tx engine.Tx) {
		s.wantRecord(tx, p, "2")
		s.wantNoRecord(tx, p[:1])
	})
}

// What is passed in may be changed once the call has returned, and what is
// returned is the caller's.
func (s *txSuite) copies() {
	p := engine.Path{"p"}
	s.do(func(tx engine.Tx) error {
		record, version := []byte("record"), []byte("version")
		err := tx.PutRecord(p, record)
		_, err2 := tx.AppendVersion(p, version, 0)
		clear(record)
		clear(version)
		return errors.Join(err, err2)
	})
	s.look(home, func(tx engine.Tx) {
		for range 2 {
			record, err := tx.Record(p)
			version, err2 := tx.Version(p, 1)
			if err := errors.Join(err, err2); err != nil || version == nil {
				s.Fatalf("reading: %v, version %v", err, version)
			}
			if string(record) != "record" || string(version.Value) != "version" {
				s.Errorf("got record %q and version %q: a slice is shared with the caller", record, version.Value)
			}
			clear(record)
			clear(version.Value)
		}
	})
}

// A transaction does not see what it staged, nobody does before the commit, and
// what is discarded was never there.
func (s *txSuite) staging() {
	p := engine.Path{"p"}
	s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte("old")) })
	tx := s.h.Begin(home)
	_, err := tx.AppendVersion(p, []byte("v"), 0)
	if err := errors.Join(err, tx.PutRecord(p, []byte("new")), tx.PutRecord(engine.Path{"q"}, nil)); err != nil {
		s.Fatal(err)
	}
	unchanged := func(tx engine.Tx) {
		s.Helper()
		s.wantRecord(tx, p, "old")
		s.wantNoRecord(tx, engine.Path{"q"})
		s.wantHead(tx, p, nil)
		s.wantVersion(tx, p, 1, nil)
		s.wantChildren(tx, nil)
	}
	unchanged(tx)
	s.look(home, unchanged)
	tx.Discard()
	s.look(home, unchanged)
}

// When one change is impossible, none is done, whatever their order.
func (s *txSuite) allOrNothing() {
	p, q := engine.Path{"p"}, engine.Path{"q"}
	for _, first := range []bool{true, false} {
		err := s.attempt(home, func(tx engine.Tx) error {
			impossible := func() error { return tx.ChangeVersions(engine.Path{"none"}, engine.Delete, []uint64{1}) }
			var errs []error
			if first {
				errs = append(errs, impossible())
			}
			_, err := tx.AppendVersion(q, []byte("v"), 0)
			errs = append(errs, err, tx.PutRecord(p, []byte("v")))
			if !first {
				errs = append(errs, impossible())
			}
			return errors.Join(errs...)
		})
		s.wantEnd("a change of a secret that does not exist", err, ErrRefused)
		s.look(home, func(tx engine.Tx) {
			s.wantNoRecord(tx, p)
			s.wantHead(tx, q, nil)
			s.wantChildren(tx, nil)
		})
	}
}

// A transaction sees one moment, its log time included, whatever is committed
// meanwhile; and no later one sees an earlier time.
func (s *txSuite) view() {
	p := engine.Path{"d", "p"}
	s.appendEach(p, "one")
	s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte("old")) })
	began := s.now()
	tx := s.h.Begin(home)
	defer tx.Discard()
	head := engine.Head{Current: 1, Oldest: 1, Created: began, Updated: began}
	unchanged := func() {
		s.Helper()
		if !tx.Now().Equal(began) {
			s.Errorf("log time moved from %v to %v within a transaction", began, tx.Now())
		}
		s.wantRecord(tx, p, "old")
		s.wantHead(tx, p, &head)
		s.wantVersion(tx, p, 1, &engine.Version{Created: began, Value: []byte("one")})
		s.wantVersion(tx, p, 2, nil)
		s.wantChildren(tx, p[:1], "p")
	}
	s.h.Advance(time.Second)
	s.appendEach(p, "two")
	// Nothing of p was looked at before this, so it is not memory that answers.
	unchanged()
	s.do(func(tx engine.Tx) error {
		return errors.Join(tx.PutRecord(p, []byte("new")), tx.PurgeSecret(p))
	})
	s.appendEach(engine.Path{"d", "q"}, "other")
	unchanged()
	if now := s.now(); !now.Equal(began.Add(time.Second)) {
		s.Errorf("log time is %v, want a second after %v", now, began)
	}
}
