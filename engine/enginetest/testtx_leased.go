package enginetest

import (
	"errors"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// A record that expires is there until its time is over, counted from the commit,
// and gone from then on, for reads, listings and guards alike. To put it again,
// in whatever way, is a new beginning.
func (s *txSuite) expiring() {
	p, put := engine.Path{"d", "p"}, func(ttl time.Duration) {
		s.Helper()
		s.do(func(tx engine.Tx) error { return tx.PutExpiring(engine.Path{"d", "p"}, []byte("brief"), ttl) })
	}
	there := func(there bool) {
		s.Helper()
		s.look(home, func(tx engine.Tx) {
			if there {
				s.wantRecord(tx, p, "brief")
				s.wantRecords(tx, p[:1], "p")
			} else {
				s.wantNoRecord(tx, p)
				s.wantRecords(tx, p[:1])
				s.wantRecords(tx, nil)
			}
		})
	}
	put(10 * time.Second)
	s.h.Advance(10*time.Second - 1)
	there(true)
	s.h.Advance(1)
	there(false)

	put(10 * time.Second) // again after its end
	s.h.Advance(6 * time.Second)
	put(10 * time.Second) // again before it, which sets a new time
	s.h.Advance(6 * time.Second)
	there(true)
	s.h.Advance(4 * time.Second)
	there(false)

	put(time.Second)
	put(time.Minute) // a longer time after a shorter one
	s.h.Advance(30 * time.Second)
	there(true)
	put(time.Second) // and the other way round
	s.h.Advance(time.Second)
	there(false)

	put(time.Second)
	s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte("brief")) }) // for good
	s.h.Advance(time.Hour)
	there(true)
	put(time.Second)
	s.do(func(tx engine.Tx) error { return tx.DeleteRecord(p) })
	there(false)
	s.do(func(tx engine.Tx) error { return tx.PutRecord(p, []byte("brief")) })
	s.h.Advance(time.Hour) // the time of the one that was removed is over
	there(true)

	s.countsFromCommit()
	s.expiryIsGuarded()
	for _, ttl := range []time.Duration{0, -1, maxTTL + 1} {
		err := s.attempt(home, func(tx engine.Tx) error { return tx.PutExpiring(p, []byte("never"), ttl) })
		s.wantEnd("a record with the ttl "+ttl.String(), err, ErrRefused)
	}
	there(true)
}

// countsFromCommit: what was staged a while ago does not end that much earlier.
func (s *txSuite) countsFromCommit() {
	p := engine.Path{"staged"}
	tx := s.h.Begin(home)
	if err := tx.PutExpiring(p, []byte("v"), 10*time.Second); err != nil {
		s.Fatal(err)
	}
	s.h.Advance(5 * time.Second)
	s.wantEnd("a record that expires", tx.Commit(), nil)
	s.h.Advance(9 * time.Second)
	s.look(home, func(tx engine.Tx) { s.wantRecord(tx, p, "v") })
	s.h.Advance(time.Second)
	s.look(home, func(tx engine.Tx) { s.wantNoRecord(tx, p) })
}

// expiryIsGuarded: who decided on a record that has expired since has decided on
// something that is not so any more.
func (s *txSuite) expiryIsGuarded() {
	p, mark := engine.Path{"guarded"}, engine.Path{"mark"}
	s.do(func(tx engine.Tx) error { return tx.PutExpiring(p, []byte("v"), 10*time.Second) })
	tx := s.h.Begin(home)
	s.wantRecord(tx, p, "v")
	if err := tx.PutRecord(mark, nil); err != nil {
		s.Fatal(err)
	}
	s.h.Advance(10 * time.Second)
	s.wantEnd("a transaction that read a record which expired", tx.Commit(), ErrConflict)
	s.look(home, func(tx engine.Tx) { s.wantNoRecord(tx, mark) })
}

// What a token owns goes with it, and nothing else does. Who has no token owns
// nothing.
func (s *txSuite) owned() {
	p := engine.Path{"d", "p"}
	tx := s.h.Begin(home)
	var invalid *engine.InvalidError
	if err := tx.PutOwned(p, nil); !errors.As(err, &invalid) {
		s.Errorf("without a token PutOwned gives %v, want an InvalidError", err)
	}
	tx.Discard()
	h, ok := s.h.(TokenHarness)
	if !ok {
		s.Skip("the harness has no tokens")
	}
	as := func(token string, f func(engine.Tx) error) {
		s.Helper()
		tx := h.BeginAs(home, token)
		if err := f(tx); err != nil {
			tx.Discard()
			s.Fatalf("staging: %v", err)
		}
		s.wantEnd("what a token owns", tx.Commit(), nil)
	}
	own := func(token string, p ...string) {
		s.Helper()
		as(token, func(tx engine.Tx) error { return tx.PutOwned(p, []byte(token)) })
	}
	own("first", "d", "p")
	own("first", "d", "taken over")
	own("first", "d", "for good")
	own("first", "d", "removed")
	own("second", "d", "other")
	own("second", "d", "taken over")
	own("first", "d", "twice")
	own("first", "d", "twice")
	as("first", func(tx engine.Tx) error {
		return errors.Join(tx.PutRecord(engine.Path{"d", "for good"}, []byte("stays")), tx.PutRecord(engine.Path{"d", "plain"}, nil),
			tx.DeleteRecord(engine.Path{"d", "removed"}))
	})
	s.look(home, func(tx engine.Tx) {
		s.wantRecord(tx, p, "first")
		s.wantRecords(tx, p[:1], "for good", "other", "p", "plain", "taken over", "twice")
	})
	h.EndToken("first")
	s.look(home, func(tx engine.Tx) {
		s.wantNoRecord(tx, p)
		s.wantNoRecord(tx, engine.Path{"d", "twice"})
		s.wantRecord(tx, engine.Path{"d", "for good"}, "stays")
		s.wantRecord(tx, engine.Path{"d", "taken over"}, "second")
		s.wantRecords(tx, p[:1], "for good", "other", "plain", "taken over")
	})
	h.EndToken("second")
	s.look(home, func(tx engine.Tx) { s.wantRecords(tx, p[:1], "for good", "plain") })
}

// A directory of records shows what one of secrets does, and no secret.
func (s *txSuite) directory() {
	for _, p := range []engine.Path{{"a"}, {"a", "x"}, {"a", "y", "z"}, {"a-b", "c"}, {"b"}, {"é", "ü"}} {
		s.do(func(tx engine.Tx) error { return tx.PutRecord(p, nil) })
	}
	s.appendEach(engine.Path{"secret"}, "v")
	s.appendEach(engine.Path{"a", "secret"}, "v")
	s.do(func(tx engine.Tx) error { return tx.DeleteRecord(engine.Path{"b"}) })
	s.look(home, func(tx engine.Tx) {
		for _, d := range []struct {
			dir  engine.Path
			want []string
		}{
			{nil, []string{"a", "a-b/", "a/", "é/"}},
			{engine.Path{"a"}, []string{"x", "y/"}},
			{engine.Path{"a", "y"}, []string{"z"}},
			{engine.Path{"b"}, nil},
			{engine.Path{"secret"}, nil},
			{engine.Path{"none"}, nil},
		} {
			s.wantRecords(tx, d.dir, d.want...)
			s.pages(tx.Records, d.dir, d.want)
		}
	})
	s.look("other", func(tx engine.Tx) { s.wantRecords(tx, nil) })
	tx := s.h.Begin(home) // what is staged is not listed, and what is listed is not guarded
	defer tx.Discard()
	if err := tx.PutRecord(engine.Path{"staged"}, nil); err != nil {
		s.Fatal(err)
	}
	s.wantRecords(tx, nil, "a", "a-b/", "a/", "é/")
}

// A hash is the same for the same value, another for another value or mount, and
// can be a segment of a path.
func (s *txSuite) hash() {
	seen := map[string]string{}
	for _, mount := range []string{home, "other"} {
		for _, value := range []string{"", "a", "b", "A", "a\x00", "\xff", "long " + string(make([]byte, 10_000))} {
			var once string
			for range 2 {
				s.look(mount, func(tx engine.Tx) {
					got, err := tx.Hash(value)
					if err != nil {
						s.Fatal(err)
					}
					if once != "" && got != once {
						s.Errorf("%.10q has two hashes, %s and %s", value, once, got)
					}
					once = got
				})
			}
			if p, err := engine.ParsePath(once, 0); err != nil || len(p) != 1 {
				s.Errorf("the hash %q is no segment of a path: %v", once, err)
			}
			if other, twice := seen[once]; twice {
				s.Errorf("%s and %.10q of %s have one hash", other, value, mount)
			}
			seen[once] = value + " of " + mount
		}
	}
}

func (s *txSuite) wantRecords(tx engine.Tx, dir engine.Path, want ...string) {
	s.Helper()
	got, more, err := tx.Records(dir, "", 1000)
	if err != nil || more || !sameNames(got, want) {
		s.Errorf("records of %q: got %q more %v %v, want %q", dir, got, more, err, want)
	}
}
