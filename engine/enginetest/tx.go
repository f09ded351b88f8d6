package enginetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// Tx is a transaction of a [Store]. It serves one goroutine and may be
// abandoned at any time. It never fails; see [Probe] for one that does.
type Tx struct {
	store     *Store
	mount     string
	view      *moment
	guards    []func(*moment) bool // what must still hold at the commit
	staged    []func(*moment) bool // the changes; false: impossible
	committed engine.Commit

	// Token is the caller's, which what PutOwned stages goes with; "": it has none.
	Token string
}

var _ engine.Tx = (*Tx)(nil)

// Commit does what is staged: nil, [ErrConflict] or [ErrRefused].
func (t *Tx) Commit() (err error) {
	if len(t.staged) == 0 {
		t.committed = engine.Commit{Index: t.view.index, Time: t.view.time}
		return nil
	}
	t.committed, err = t.store.commit(t.guards, t.staged)
	return err
}

// Committed tells when the transaction was committed, once Commit returned nil.
func (t *Tx) Committed() engine.Commit { return t.committed }

func (t *Tx) at(p engine.Path) place { return place{t.mount, p.String()} }

func (t *Tx) guard(holds func(*moment) bool) { t.guards = append(t.guards, holds) }
func (t *Tx) stage(do func(*moment) bool)    { t.staged = append(t.staged, do) }

// Now implements engine.Tx.
func (t *Tx) Now() time.Time { return t.view.time }

// Record implements engine.Tx.
func (t *Tx) Record(p engine.Path) ([]byte, error) {
	at := t.at(p)
	r, there := t.view.record(at)
	t.guard(func(now *moment) bool { current, _ := now.record(at); return current.revision == r.revision })
	if !there {
		return nil, nil
	}
	return append([]byte{}, r.value...), nil
}

// PutRecord implements engine.Tx.
func (t *Tx) PutRecord(p engine.Path, value []byte) error {
	return t.put(p, record{value: value})
}

// PutExpiring implements engine.Tx.
func (t *Tx) PutExpiring(p engine.Path, value []byte, ttl time.Duration) error {
	return t.put(p, record{value: value, until: t.view.time.Add(ttl)})
}

// PutOwned implements engine.Tx.
func (t *Tx) PutOwned(p engine.Path, value []byte) error {
	if t.Token == "" {
		return &engine.InvalidError{Why: "the request has no token"}
	}
	return t.put(p, record{value: value, owner: t.Token})
}

func (t *Tx) put(p engine.Path, r record) error {
	at := t.at(p)
	r.value = bytes.Clone(r.value)
	life := r.until.Sub(t.view.time)
	t.stage(func(next *moment) bool {
		own := r
		own.revision = next.index
		if !own.until.IsZero() {
			own.until = next.time.Add(life)
			if life <= 0 || life > maxTTL {
				return false
			}
		}
		next.records[at] = own
		return true
	})
	return nil
}

// Hash implements engine.Tx.
func (t *Tx) Hash(value string) (string, error) {
	sum := sha256.Sum256([]byte(t.mount + "\x00" + value))
	return hex.EncodeToString(sum[:16]), nil
}

// DeleteRecord implements engine.Tx.
func (t *Tx) DeleteRecord(p engine.Path) error {
	at := t.at(p)
	t.stage(func(next *moment) bool {
		delete(next.records, at)
		return true
	})
	return nil
}

// secret looks a secret up and guards it.
func (t *Tx) secret(at place) (secret, bool) {
	s, there := t.view.secrets[at]
	t.guard(func(now *moment) bool { return now.secrets[at].revision == s.revision })
	return s, there
}

// Head implements engine.Tx.
func (t *Tx) Head(p engine.Path) (*engine.Head, error) {
	s, there := t.secret(t.at(p))
	if !there {
		return nil, nil
	}
	return &s.head, nil
}

// Version implements engine.Tx.
func (t *Tx) Version(p engine.Path, n uint64) (*engine.Version, error) {
	s, _ := t.secret(t.at(p))
	v, there := s.versions[n]
	if !there {
		return nil, nil
	}
	v.Deleted = deleted(v, t.view.time)
	v.Value = bytes.Clone(v.Value)
	if v.Deleted || v.Destroyed {
		v.Value = nil
	}
	return &v, nil
}

func deleted(v engine.Version, now time.Time) bool {
	return !v.DeletedAt.IsZero() && !v.DeletedAt.After(now)
}

// AppendVersion implements engine.Tx.
func (t *Tx) AppendVersion(p engine.Path, value []byte, ttl time.Duration) (uint64, error) {
	at, own := t.at(p), bytes.Clone(value)
	s, _ := t.secret(at)
	n := s.head.Current + 1
	t.stage(func(next *moment) bool {
		s := next.secretToChange(at)
		if n != s.head.Current+1 || ttl < 0 || ttl > maxTTL {
			return false
		}
		v := engine.Version{Created: next.time, Value: own}
		if ttl > 0 {
			v.DeletedAt = next.time.Add(ttl)
		}
		s.versions[n] = v
		s.head.Current, s.head.Oldest = n, max(s.head.Oldest, 1)
		keep := s.head.Keep
		if keep == 0 {
			keep = defaultKeep
		}
		for ; s.head.Current-s.head.Oldest+1 > keep; s.head.Oldest++ {
			delete(s.versions, s.head.Oldest)
		}
		next.secrets[at] = s
		return true
	})
	return n, nil
}

// secretToChange returns the secret, or a new one, as one that changes now.
func (m *moment) secretToChange(at place) secret {
	s, there := m.secrets[at]
	if !there {
		s = secret{head: engine.Head{Created: m.time}, versions: map[uint64]engine.Version{}}
	}
	s.revision, s.head.Updated = m.index, m.time
	return s
}

// ChangeVersions implements engine.Tx.
func (t *Tx) ChangeVersions(p engine.Path, change engine.Change, numbers []uint64) error {
	if change < engine.Delete || change > engine.Destroy {
		return fmt.Errorf("changing versions: unknown change %d", change)
	}
	at, own := t.at(p), slices.Clone(numbers)
	t.stage(func(next *moment) bool {
		if _, there := next.secrets[at]; !there || len(own) == 0 || len(own) > maxNumbers {
			return false
		}
		s := next.secretToChange(at)
		for _, n := range own {
			v, there := s.versions[n]
			if !there || (change == engine.Undelete && v.Destroyed) {
				return false
			}
			switch change {
			case engine.Delete:
				if !deleted(v, next.time) {
					v.DeletedAt = next.time
				}
			case engine.Undelete:
				v.DeletedAt = time.Time{}
			case engine.Destroy:
				v.Destroyed, v.Value = true, nil
			}
			s.versions[n] = v
		}
		next.secrets[at] = s
		return true
	})
	return nil
}

// PurgeSecret implements engine.Tx.
func (t *Tx) PurgeSecret(p engine.Path) error {
	at := t.at(p)
	t.stage(func(next *moment) bool {
		_, there := next.secrets[at]
		delete(next.secrets, at)
		return there
	})
	return nil
}

// SetLimits implements engine.Tx.
func (t *Tx) SetLimits(p engine.Path, keep uint64) error {
	at := t.at(p)
	t.stage(func(next *moment) bool {
		s := next.secretToChange(at)
		s.head.Keep = keep
		next.secrets[at] = s
		return keep <= maxKeep
	})
	return nil
}

// Children implements engine.Tx.
func (t *Tx) Children(dir engine.Path, after string, limit int) (names []string, more bool, err error) {
	names, more = t.list(maps.Keys(t.view.secrets), dir, after, limit)
	return names, more, nil
}

// Records implements engine.Tx.
func (t *Tx) Records(dir engine.Path, after string, limit int) (names []string, more bool, err error) {
	alive := func(yield func(place) bool) {
		for at := range t.view.records {
			if _, there := t.view.record(at); there && !yield(at) {
				return
			}
		}
	}
	names, more = t.list(alive, dir, after, limit)
	return names, more, nil
}

func (t *Tx) list(all iter.Seq[place], dir engine.Path, after string, limit int) (names []string, more bool) {
	prefix := ""
	if len(dir) > 0 {
		prefix = dir.String() + "/"
	}
	for at := range all {
		below, ok := strings.CutPrefix(at.path, prefix)
		if at.mount != t.mount || !ok {
			continue
		}
		name := below
		if first, _, nested := strings.Cut(below, "/"); nested {
			name = first + "/"
		}
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > limit {
		return names[:limit], true
	}
	return names, false
}

// Discard implements Transaction.
func (t *Tx) Discard() {}
