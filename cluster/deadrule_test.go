package cluster

import (
	"errors"
	"testing"
	"time"
)

// The rule by which a dead member may go, for pictures that a live network
// shows for moments only.
func TestMayGo(t *testing.T) {
	const after = time.Hour
	voter := func(id string, silent time.Duration, lag uint64) Member {
		return Member{Peer: Peer{ID: id}, Voter: true, Known: silent < after, Contact: silent, Lag: lag}
	}
	for name, c := range map[string]struct {
		gone    Member
		rest    []Member
		minimum int
		want    error
	}{
		"one of five":             {voter("x", after, 0), []Member{voter("a", 0, 0), voter("b", 0, 0), voter("c", 0, 0), voter("d", 0, 0)}, 3, nil},
		"two of five":             {voter("x", after, 0), []Member{voter("y", after, 0), voter("a", 0, 0), voter("b", 0, 0), voter("c", 0, 0)}, 3, nil},
		"two of four":             {voter("x", after, 0), []Member{voter("y", after, 0), voter("a", 0, 0), voter("b", 0, 0)}, 1, errManyDead},
		"three of five":           {voter("x", after, 0), []Member{voter("y", after, 0), voter("z", after, 0), voter("a", 0, 0), voter("b", 0, 0)}, 1, errManyDead},
		"one of three":            {voter("x", after, 0), []Member{voter("a", 0, 0), voter("b", 0, 0)}, 3, errFewLeft},
		"one of three, two do":    {voter("x", after, 0), []Member{voter("a", 0, 0), voter("b", 0, 0)}, 2, nil},
		"the rest lags":           {voter("x", after, 0), []Member{voter("a", 0, 0), voter("b", 0, 0), voter("c", 0, 999), voter("d", 0, 999)}, 3, errRestWeak},
		"the rest is quiet":       {voter("x", after, 0), []Member{voter("a", 0, 0), voter("b", 0, 0), voter("c", time.Second, 0), voter("d", time.Second, 0)}, 3, errRestWeak},
		"non-voter at minimum":    {Member{Peer: Peer{ID: "x"}}, []Member{voter("a", 0, 0), voter("b", 0, 0), voter("c", 0, 0)}, 3, nil},
		"non-voter and a dead":    {Member{Peer: Peer{ID: "x"}}, []Member{voter("y", after, 0), voter("b", 0, 0)}, 1, errManyDead},
		"non-voter, rest is weak": {Member{Peer: Peer{ID: "x"}}, []Member{voter("a", time.Second, 0), voter("b", 0, 0)}, 1, errRestWeak},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{ID: "leader", DeadAfter: after, MinQuorum: c.minimum}
			cfg.fill()
			w := newDeathWatch(&Node{cfg: cfg})
			all := append([]Member{c.gone}, c.rest...)
			w.silent[c.gone.ID] = after
			for _, m := range c.rest {
				w.silent[m.ID] = m.Contact
			}
			if err := w.mayGo(c.gone, all); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
