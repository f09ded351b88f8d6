package enginetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// Versions count from 1, each with its value and the log time of its commit.
func (s *txSuite) versions() {
	p := engine.Path{"a", "p"}
	s.look(home, func(tx engine.Tx) {
		s.wantHead(tx, p, nil)
		s.wantVersion(tx, p, 1, nil)
	})
	start := s.now()
	for i := range uint64(3) {
		value := fmt.Appendf(nil, "value %d", i+1)
		tx := s.h.Begin(home)
		n, err := tx.AppendVersion(p, value, 0)
		if err != nil || n != i+1 {
			s.Fatalf("appending: got number %d %v, want %d", n, err, i+1)
		}
		s.h.Advance(time.Minute) // it is the commit that counts
		s.wantEnd("an append", tx.Commit(), nil)
		s.look(home, func(tx engine.Tx) {
			at := start.Add(time.Duration(i+1) * time.Minute)
			s.wantHead(tx, p, &engine.Head{Current: n, Oldest: 1, Created: start.Add(time.Minute), Updated: at})
			s.wantVersion(tx, p, n, &engine.Version{Created: at, Value: value})
			s.wantVersion(tx, p, 1, &engine.Version{Created: start.Add(time.Minute), Value: []byte("value 1")})
		})
	}
	s.look(home, func(tx engine.Tx) {
		for _, absent := range []uint64{0, 4, 1 << 63} {
			s.wantVersion(tx, p, absent, nil)
		}
		s.wantHead(tx, p[:1], nil)
		s.wantHead(tx, engine.Path{"a", "p", "p"}, nil)
		s.wantNoRecord(tx, p)
	})
	s.appendEach(engine.Path{"empty"}, "")
	s.look(home, func(tx engine.Tx) {
		s.wantVersion(tx, engine.Path{"empty"}, 1, &engine.Version{Created: tx.Now(), Value: []byte{}})
	})
}

// A secret keeps its newest versions: ten, or as many as its limit says, which
// may be set before the first and takes hold at the next append.
func (s *txSuite) limits() {
	p, q := engine.Path{"p"}, engine.Path{"q"}
	kept := func(p engine.Path, keep, oldest, current uint64) {
		s.Helper()
		s.look(home, func(tx engine.Tx) {
			s.wantHead(tx, p, &engine.Head{Keep: keep, Oldest: oldest, Current: current, Created: tx.Now(), Updated: tx.Now()})
			for n := range current + 2 {
				var want *engine.Version
				if n >= oldest && n <= current && n > 0 {
					want = &engine.Version{Created: tx.Now(), Value: fmt.Appendf(nil, "%d", n)}
				}
				s.wantVersion(tx, p, n, want)
			}
		})
	}
	set := func(p engine.Path, keep uint64) {
		s.Helper()
		s.do(func(tx engine.Tx) error { return tx.SetLimits(p, keep) })
	}
	s.appendEach(p, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
	kept(p, 0, 1, 10)
	s.appendEach(p, "11", "12")
	kept(p, 0, 3, 12)
	set(p, 2)
	s.appendEach(p, "13")
	kept(p, 2, 12, 13)
	set(p, 3)
	s.appendEach(p, "14")
	kept(p, 3, 12, 14)
	set(p, 0)
	kept(p, 0, 12, 14)

	set(q, 1)
	kept(q, 1, 0, 0)
	s.look(home, func(tx engine.Tx) { s.wantChildren(tx, nil, "p", "q") })
	s.appendEach(q, "1", "2")
	kept(q, 1, 2, 2)
}

// Delete hides, Undelete brings back, Destroy removes the value for good. Each
// touches only the versions it names, and the head's time.
func (s *txSuite) deletion() {
	p := engine.Path{"p"}
	s.appendEach(p, "one", "two", "three")
	created := s.now()
	change := func(c engine.Change, numbers ...uint64) time.Time {
		s.Helper()
		s.h.Advance(time.Second)
		s.do(func(tx engine.Tx) error { return tx.ChangeVersions(p, c, numbers) })
		return s.now()
	}
	check := func(versions ...engine.Version) {
		s.Helper()
		s.look(home, func(tx engine.Tx) {
			s.wantHead(tx, p, &engine.Head{Current: 3, Oldest: 1, Created: created, Updated: tx.Now()})
			for i, v := range versions {
				v.Created = created
				s.wantVersion(tx, p, uint64(i+1), &v)
			}
		})
	}
	three := engine.Version{Value: []byte("three")}
	at := change(engine.Delete, 1, 2)
	gone := engine.Version{Deleted: true, DeletedAt: at}
	check(gone, gone, three)
	change(engine.Delete, 2) // it keeps the time at which it was deleted first
	check(gone, gone, three)
	change(engine.Undelete, 2)
	check(gone, engine.Version{Value: []byte("two")}, three)
	change(engine.Undelete, 2)
	check(gone, engine.Version{Value: []byte("two")}, three)
	change(engine.Destroy, 1, 2)
	destroyed := engine.Version{Destroyed: true, Deleted: true, DeletedAt: at}
	check(destroyed, engine.Version{Destroyed: true}, three)
	at2 := change(engine.Delete, 2)
	change(engine.Destroy, 2)
	check(destroyed, engine.Version{Destroyed: true, Deleted: true, DeletedAt: at2}, three)
	change(engine.Delete, 3) // the current one stays current
	s.appendEach(p, "four")
	s.look(home, func(tx engine.Tx) { s.wantVersion(tx, p, 4, &engine.Version{Created: tx.Now(), Value: []byte("four")}) })
}

// Changes that make no sense on the state are refused at the commit, as a whole.
func (s *txSuite) impossible() {
	p := engine.Path{"p"}
	s.appendEach(p, "one", "two")
	s.do(func(tx engine.Tx) error { return tx.ChangeVersions(p, engine.Destroy, []uint64{1}) })
	many := make([]uint64, maxNumbers+1)
	for i := range many {
		many[i] = 2
	}
	change := func(p engine.Path, c engine.Change, numbers ...uint64) func(engine.Tx) error {
		return func(tx engine.Tx) error { return tx.ChangeVersions(p, c, numbers) }
	}
	for what, f := range map[string]func(engine.Tx) error{
		"delete in no secret":    change(engine.Path{"none"}, engine.Delete, 1),
		"undelete what is gone":  change(p, engine.Undelete, 2, 1),
		"delete what is absent":  change(p, engine.Delete, 2, 3),
		"destroy version 0":      change(p, engine.Destroy, 0),
		"destroy what is absent": change(p, engine.Destroy, 2, 9),
		"no numbers":             change(p, engine.Delete),
		"too many numbers":       change(p, engine.Delete, many...),
		"purge no secret":        func(tx engine.Tx) error { return tx.PurgeSecret(engine.Path{"none"}) },
		"a limit out of bounds":  func(tx engine.Tx) error { return tx.SetLimits(p, maxKeep+1) },
		"a ttl out of bounds":    func(tx engine.Tx) error { return second(tx.AppendVersion(p, nil, maxTTL+1)) },
		"a ttl below zero":       func(tx engine.Tx) error { return second(tx.AppendVersion(p, nil, -1)) },
		"an append out of order": func(tx engine.Tx) error {
			return errors.Join(second(tx.AppendVersion(p, nil, 0)), second(tx.AppendVersion(p, nil, 0)))
		},
		"delete what was purged": func(tx engine.Tx) error {
			return errors.Join(tx.PurgeSecret(p), tx.ChangeVersions(p, engine.Delete, []uint64{2}))
		},
		"delete after its append": func(tx engine.Tx) error {
			return errors.Join(second(tx.AppendVersion(p, nil, 0)), tx.ChangeVersions(p, engine.Delete, []uint64{4}))
		},
	} {
		s.wantEnd(what, s.attempt(home, f), ErrRefused)
	}
	s.look(home, func(tx engine.Tx) {
		created := tx.Now()
		s.wantHead(tx, p, &engine.Head{Current: 2, Oldest: 1, Created: created, Updated: created})
		s.wantVersion(tx, p, 2, &engine.Version{Created: created, Value: []byte("two")})
	})
	for _, unknown := range []engine.Change{0, engine.Destroy + 1} {
		tx := s.h.Begin(home)
		if err := tx.ChangeVersions(p, unknown, []uint64{1}); err == nil {
			s.Errorf("change %d is staged, though nobody knows what it is", unknown)
		}
		tx.Discard()
	}
}

func second(_ uint64, err error) error { return err }

// A purged secret is gone with all its versions, and a new one counts from 1.
func (s *txSuite) purge() {
	p := engine.Path{"d", "p"}
	s.do(func(tx engine.Tx) error { return errors.Join(tx.SetLimits(p, 7), tx.PutRecord(p, []byte("stays"))) })
	s.appendEach(p, "one", "two")
	s.appendEach(engine.Path{"d", "p", "below"}, "stays")
	s.h.Advance(time.Second)
	s.do(func(tx engine.Tx) error { return tx.PurgeSecret(p) })
	s.look(home, func(tx engine.Tx) {
		s.wantHead(tx, p, nil)
		s.wantVersion(tx, p, 1, nil)
		s.wantVersion(tx, p, 2, nil)
		s.wantChildren(tx, p[:1], "p/")
		s.wantRecord(tx, p, "stays")
		s.wantVersion(tx, engine.Path{"d", "p", "below"}, 1, &engine.Version{Created: tx.Now().Add(-time.Second), Value: []byte("stays")})
	})
	s.appendEach(p, "again")
	s.look(home, func(tx engine.Tx) {
		s.wantHead(tx, p, &engine.Head{Current: 1, Oldest: 1, Created: tx.Now(), Updated: tx.Now()})
		s.wantVersion(tx, p, 2, nil)
	})
}

// A version with a ttl is there until that long after its commit, and not at
// that instant. Undelete lifts the expiry; the other versions have none.
func (s *txSuite) expiry() {
	p := engine.Path{"p"}
	s.appendEach(p, "for ever")
	const ttl = 10 * time.Second
	tx := s.h.Begin(home)
	if _, err := tx.AppendVersion(p, []byte("brief"), ttl); err != nil {
		s.Fatal(err)
	}
	s.h.Advance(time.Hour) // longer than the ttl: the commit is what it counts from
	s.wantEnd("an append with a ttl", tx.Commit(), nil)
	created := s.now()
	ends := created.Add(ttl)
	check := func(want engine.Version) {
		s.Helper()
		want.Created = created
		s.look(home, func(tx engine.Tx) {
			s.wantVersion(tx, p, 2, &want)
			s.wantVersion(tx, p, 1, &engine.Version{Created: created.Add(-time.Hour), Value: []byte("for ever")})
		})
	}
	check(engine.Version{DeletedAt: ends, Value: []byte("brief")})
	s.h.Advance(ttl - 1)
	check(engine.Version{DeletedAt: ends, Value: []byte("brief")})
	s.h.Advance(1)
	check(engine.Version{DeletedAt: ends, Deleted: true})
	s.h.Advance(time.Second)
	s.do(func(tx engine.Tx) error { return tx.ChangeVersions(p, engine.Delete, []uint64{2}) })
	check(engine.Version{DeletedAt: ends, Deleted: true})
	s.do(func(tx engine.Tx) error { return tx.ChangeVersions(p, engine.Undelete, []uint64{2}) })
	check(engine.Version{Value: []byte("brief")})
	s.h.Advance(100 * ttl)
	check(engine.Version{Value: []byte("brief")})

	// To delete it sooner is to delete it now.
	s.do(func(tx engine.Tx) error { return second(tx.AppendVersion(p, []byte("x"), ttl)) })
	s.do(func(tx engine.Tx) error { return tx.ChangeVersions(p, engine.Delete, []uint64{3}) })
	s.look(home, func(tx engine.Tx) {
		s.wantVersion(tx, p, 3, &engine.Version{Created: tx.Now(), DeletedAt: tx.Now(), Deleted: true})
	})
}
