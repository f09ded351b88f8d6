package enginetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// touch is what a read looks at, or a change changes.
type touch int

const (
	nothing touch = iota
	aRecord
	aSecret
)

// step is one call about a path, and what it touches there.
type step struct {
	name  string
	what  touch
	there bool // it needs something at the path
	call  func(engine.Tx, engine.Path) error
}

var reads = []step{
	{"Record", aRecord, false, func(tx engine.Tx, p engine.Path) error { _, err := tx.Record(p); return err }},
	{"Head", aSecret, false, func(tx engine.Tx, p engine.Path) error { _, err := tx.Head(p); return err }},
	{"Version", aSecret, false, func(tx engine.Tx, p engine.Path) error { _, err := tx.Version(p, 1); return err }},
	{"Version that is not there", aSecret, false, func(tx engine.Tx, p engine.Path) error { _, err := tx.Version(p, 99); return err }},
	{"AppendVersion", aSecret, false, func(tx engine.Tx, p engine.Path) error { return second(tx.AppendVersion(p, []byte("mine"), 0)) }},
	// What is written without having been looked at takes what it finds.
	{"PutRecord", nothing, false, func(tx engine.Tx, p engine.Path) error { return tx.PutRecord(p, []byte("mine")) }},
	{"DeleteRecord", nothing, false, func(tx engine.Tx, p engine.Path) error { return tx.DeleteRecord(p) }},
	{"PutExpiring", nothing, false, func(tx engine.Tx, p engine.Path) error { return tx.PutExpiring(p, []byte("mine"), time.Hour) }},
	{"Records", nothing, false, func(tx engine.Tx, p engine.Path) error { _, _, err := tx.Records(p[:1], "", 10); return err }},
	{"Hash", nothing, false, func(tx engine.Tx, p engine.Path) error { _, err := tx.Hash(p.String()); return err }},
	{"SetLimits", nothing, false, func(tx engine.Tx, p engine.Path) error { return tx.SetLimits(p, 5) }},
}

var changes = []step{
	{"PutRecord", aRecord, false, func(tx engine.Tx, p engine.Path) error { return tx.PutRecord(p, []byte("theirs")) }},
	{"PutRecord of the same value", aRecord, true, func(tx engine.Tx, p engine.Path) error { return tx.PutRecord(p, []byte("record")) }},
	{"PutExpiring", aRecord, false, func(tx engine.Tx, p engine.Path) error { return tx.PutExpiring(p, []byte("theirs"), time.Hour) }},
	{"DeleteRecord", aRecord, true, func(tx engine.Tx, p engine.Path) error { return tx.DeleteRecord(p) }},
	{"AppendVersion", aSecret, false, func(tx engine.Tx, p engine.Path) error { return second(tx.AppendVersion(p, []byte("theirs"), 0)) }},
	{"SetLimits", aSecret, false, func(tx engine.Tx, p engine.Path) error { return tx.SetLimits(p, 9) }},
	{"Delete", aSecret, true, func(tx engine.Tx, p engine.Path) error { return tx.ChangeVersions(p, engine.Delete, []uint64{2}) }},
	{"Undelete", aSecret, true, func(tx engine.Tx, p engine.Path) error { return tx.ChangeVersions(p, engine.Undelete, []uint64{2}) }},
	{"Destroy", aSecret, true, func(tx engine.Tx, p engine.Path) error { return tx.ChangeVersions(p, engine.Destroy, []uint64{2}) }},
	{"PurgeSecret", aSecret, true, func(tx engine.Tx, p engine.Path) error { return tx.PurgeSecret(p) }},
}

// Everything that was read is guarded: a transaction conflicts when, and only
// when, something that it looked at was changed by another before its commit,
// and after a conflict nothing of it was done.
func (s *txSuite) guards() {
	serial := 0
	for _, there := range []bool{true, false} {
		for _, read := range reads {
			for _, change := range changes {
				if change.there && !there {
					continue
				}
				serial++
				p := engine.Path{"p", fmt.Sprint(serial)}
				what := fmt.Sprintf("%s (there: %v), then %s by another", read.name, there, change.name)
				if there {
					s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte("record")) })
					s.appendEach(p, "one", "two")
				}
				var want error
				if read.what == change.what {
					want = ErrConflict
				}
				s.race(what, read, change, home, p, p, want)
				// Neighbours do not disturb: the other path's names contain this one's.
				q := engine.Path{"p", fmt.Sprint(serial), "below"}
				s.do(func(tx engine.Tx) error { return tx.PutRecord(q, []byte("record")) })
				s.appendEach(q, "one", "two")
				s.race(what+" elsewhere", read, change, home, p, q, nil)
			}
		}
	}
}

// race lets a transaction look at p, another change q and commit, and then the
// first commit, too, with a record of its own.
func (s *txSuite) race(what string, read, change step, mount string, p, q engine.Path, want error) {
	s.Helper()
	mark := append(engine.Path{"mark"}, q...)
	first := s.h.Begin(home)
	if err := errors.Join(read.call(first, p), first.PutRecord(mark, nil)); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	if err := s.attempt(mount, func(tx engine.Tx) error { return change.call(tx, q) }); err != nil {
		s.Fatalf("%s: the other commits: %v", what, err)
	}
	s.wantEnd(what, first.Commit(), want)
	s.look(home, func(tx engine.Tx) {
		if want == nil {
			s.wantRecord(tx, mark, "")
		} else {
			s.wantNoRecord(tx, mark)
		}
	})
}

// A mount sees nothing of another, and does not conflict with it.
func (s *txSuite) mounts() {
	s.appendEach(engine.Path{"a", "p"}, "one", "two")
	s.do(func(tx engine.Tx) error { return tx.PutRecord(engine.Path{"a", "p"}, []byte("record")) })
	for _, other := range []string{"other", "hom", "homea", "home/a"} {
		s.look(other, func(tx engine.Tx) {
			for _, p := range []engine.Path{{"a", "p"}, {"p"}, {"home", "a", "p"}} {
				s.wantNoRecord(tx, p)
				s.wantHead(tx, p, nil)
				s.wantVersion(tx, p, 1, nil)
			}
			s.wantChildren(tx, nil)
		})
	}
	serial := 0
	for _, read := range reads {
		for _, change := range changes {
			serial++
			p := engine.Path{"p", fmt.Sprint(serial)}
			for _, mount := range []string{home, "other"} {
				for range 2 {
					err := s.attempt(mount, func(tx engine.Tx) error {
						return errors.Join(tx.PutRecord(p, []byte(mount)), second(tx.AppendVersion(p, []byte(mount), 0)))
					})
					s.wantEnd("preparing", err, nil)
				}
			}
			s.race(fmt.Sprintf("%s, then %s on another mount", read.name, change.name), read, change, "other", p, p, nil)
			s.look(home, func(tx engine.Tx) {
				s.wantVersion(tx, p, 2, &engine.Version{Created: tx.Now(), Value: []byte(home)})
			})
		}
	}
}
