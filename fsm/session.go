package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/storage/state"
)

// Sessions make a retry harmless: each proposer numbers its batches, and the
// machine remembers the answers until the proposer says that it has them
// (Ongaro's dissertation, section 6.3). They lie in the store, written in the
// entry that answers; the copy in memory is only for speed and is rebuilt from
// the rows by loadSessions.

const (
	// sessionWindow is how many sequences beyond the oldest unanswered one a
	// session may use.
	sessionWindow = 16_384
	// sessionIdle is how long, in log time, an unused session is kept.
	sessionIdle = time.Hour
	// maxSessions bounds the table; the longest unused goes first.
	maxSessions = 1024
)

type sessions struct {
	byID  map[SessionID]*session
	dirty []*session // used by the entry at work
}

type session struct {
	sessionRow
	id      SessionID
	answers map[uint64]Result
	groups  []*answers // in the order of their indexes
	fresh   answers    // what the entry at work answered
	dirty   bool
	owner   *sessions
}

func (s *sessions) find(id SessionID) *session { return s.byID[id] }

// open creates a session; opening it again changes nothing.
func (s *sessions) open(t *tx, id SessionID) {
	if s.byID[id] != nil {
		return
	}
	for old := s.longestUnused(); old != nil && (len(s.byID) >= maxSessions || old.LastUsed.Add(sessionIdle) < t.now); old = s.longestUnused() {
		s.close(t, old.id)
	}
	n := &session{id: id, answers: map[uint64]Result{}, owner: s,
		sessionRow: sessionRow{Opened: t.now, LastUsed: t.now, Answered: 1}}
	s.byID[id] = n
	n.touch()
}

// longestUnused breaks ties by id: every replica must choose alike.
func (s *sessions) longestUnused() *session {
	var oldest *session
	for _, c := range s.byID {
		if oldest == nil || c.LastUsed < oldest.LastUsed ||
			(c.LastUsed == oldest.LastUsed && bytes.Compare(c.id[:], oldest.id[:]) < 0) {
			oldest = c
		}
	}
	return oldest
}

func (s *sessions) close(t *tx, id SessionID) {
	c := s.byID[id]
	if c == nil {
		return
	}
	for _, g := range c.groups {
		t.del(answersKey(id, g.index))
	}
	t.del(sessionKey(id))
	t.keep()
	delete(s.byID, id)
	s.dirty = slices.DeleteFunc(s.dirty, func(d *session) bool { return d == c })
}

// save writes the sessions that the entry used. The order is that of first use
// in the entry, the same on every replica.
func (s *sessions) save(t *tx) {
	for _, c := range s.dirty {
		c.forget(t)
		if len(c.fresh.results) > 0 {
			g := &answers{index: t.index, results: slices.Clone(c.fresh.results)}
			c.groups = append(c.groups, g)
			t.insert(answersKey(c.id, g.index), encodeAnswers(g)) // one a session and entry
		}
		t.set(sessionKey(c.id), encodeSession(&c.sessionRow))
		c.fresh.results, c.dirty = c.fresh.results[:0], false
	}
	s.dirty = s.dirty[:0]
	t.keep()
}

func (c *session) touch() {
	if !c.dirty {
		c.dirty = true
		c.owner.dirty = append(c.owner.dirty, c)
	}
}

func (c *session) answer(sequence uint64) (Result, bool) {
	r, ok := c.answers[sequence]
	return r, ok
}

// heard notes that the proposer lives and has the answers below answered.
func (c *session) heard(answered uint64, now LogTime) {
	c.touch()
	c.LastUsed = now
	c.Answered = max(c.Answered, answered)
}

func (c *session) remember(sequence uint64, r Result) {
	c.answers[sequence] = r
	c.fresh.results = append(c.fresh.results, numberedResult{sequence, r})
}

// forget drops the answers that the proposer has, whole groups from the oldest.
func (c *session) forget(t *tx) {
	n := 0
	for _, g := range c.groups {
		if g.last() >= c.Answered {
			break
		}
		for _, r := range g.results {
			delete(c.answers, r.sequence)
		}
		t.del(answersKey(c.id, g.index))
		n++
	}
	c.groups = slices.Delete(c.groups, 0, n)
}

// loadSessions rebuilds the sessions from their rows.
func loadSessions(from state.Reader) (*sessions, error) {
	s := &sessions{byID: map[SessionID]*session{}}
	err := eachRow(from, []byte{tableSession}, func(k, v []byte) error {
		row, err := decodeSession(v)
		if err = errors.Join(err, checkLength("session", k, len(SessionID{}))); err != nil {
			return err
		}
		c := &session{sessionRow: *row, id: SessionID(k), answers: map[uint64]Result{}, owner: s}
		s.byID[c.id] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, eachRow(from, []byte{tableAnswers}, func(k, v []byte) error {
		if err := checkLength("answers", k, len(SessionID{})+8); err != nil {
			return err
		}
		c := s.byID[SessionID(k[:len(SessionID{})])]
		g, err := decodeAnswers(binary.BigEndian.Uint64(k[len(SessionID{}):]), v)
		if err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("answers %w: they belong to no session", errRow)
		}
		c.groups = append(c.groups, g)
		for _, r := range g.results {
			c.answers[r.sequence] = r.result
		}
		return nil
	})
}

// eachRow calls do with each key under prefix, without the prefix, and its value.
func eachRow(from state.Reader, prefix []byte, do func(k, v []byte) error) (err error) {
	c, err := from.Cursor(prefix, state.After(prefix))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}()
	for c.Next() {
		v, err := c.Value()
		if err != nil {
			return err
		}
		// Rows keep what they are given; the cursor's memory is only lent.
		if err := do(bytes.Clone(c.Key()[len(prefix):]), bytes.Clone(v)); err != nil {
			return err
		}
	}
	return c.Err()
}
