package cluster

import (
	"cmp"
	"context"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A killed process is noticed at once, and not only by its silence: the kernel
// closes its connections and refuses new ones. Each voter that sees this of its
// leader tells the other voters, and where its own log ends. When a quorum of
// voters has seen it, the one whose log reaches furthest stands for election
// without waiting for its timer. Everything else (a host that lost its power, a
// cut, a process that hangs) is left to the timers, and so is whatever goes
// wrong here.
//
// Why a quorum: the election goes past pre-vote, as one by leadership transfer
// does, so it deposes the leader of the term whether it is dead or not. Pre-vote
// asks whether a majority has lost its leader; so does this.
//
// Safety rests on none of it: it is one more reason for an election, whose votes
// are given by the library's rules.

// successionPatience is how long voters wait, once a quorum has seen the leader
// gone, for the rest to say so, before they compare logs without them.
const successionPatience = 15 * time.Millisecond

// A Departure is what a voter tells the others when its leader's process has ended.
type Departure struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	Voter     string // who tells
	Leader    string // who is gone
	Term      uint64 // in which it led
	LastTerm  uint64 // of the last entry in the voter's log
	LastIndex uint64 // … and its index
	Unsealed  bool   // the voter can open secrets
}

// before tells whether a's voter should lead rather than b's.
func (a Departure) before(b Departure) bool {
	return cmp.Or(
		cmp.Compare(b.LastTerm, a.LastTerm), cmp.Compare(b.LastIndex, a.LastIndex),
		cmp.Compare(rank(a.Unsealed), rank(b.Unsealed)), cmp.Compare(a.Voter, b.Voter),
	) < 0
}

func rank(unsealed bool) int {
	if unsealed {
		return 0
	}
	return 1
}

// succession is what is known of the end of one leader's process.
type succession struct {
	mu     sync.Mutex
	term   uint64               // guarded by mu; the rest is about this term
	heard  map[string]Departure // guarded by mu; by voter
	timing bool                 // guarded by mu; a decision is coming
}

// note adds what a voter said. It returns what has been said of that term, a copy,
// and whether the caller is the first to find that it is quorum or more.
func (s *succession) note(d Departure, quorum int) (heard map[string]Departure, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Term < s.term {
		return nil, false
	}
	if d.Term > s.term || s.heard == nil {
		s.term, s.heard, s.timing = d.Term, map[string]Departure{}, false
	}
	s.heard[d.Voter] = d
	first = len(s.heard) >= quorum && !s.timing
	s.timing = s.timing || first
	return maps.Clone(s.heard), first
}

func (s *succession) of(term uint64) map[string]Departure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term != term {
		return nil
	}
	return maps.Clone(s.heard)
}

// HandleDeparted implements Handler.
func (h handler) HandleDeparted(p Peer) { h.n.spawn(func() { h.n.departed(p.ID) }) }

// HandleDeparture implements Handler.
func (h handler) HandleDeparture(_ context.Context, d Departure) error {
	if h.n.ctx.Err() != nil {
		return ErrClosed
	}
	if voters := h.n.votersBeside(d.Leader); voters[d.Voter] {
		h.n.consider(d)
	}
	return nil
}

// departed tells the voters that this node has seen its leader's process end.
func (n *Node) departed(leader string) {
	term := n.raft.CurrentTerm()
	_, id := n.raft.LeaderWithID()
	voters := n.votersBeside(leader)
	if string(id) != leader || !voters[n.cfg.ID] || n.abstains() || n.raft.State() != raft.Follower {
		return
	}
	lastTerm, lastIndex := n.logEnd()
	d := Departure{Voter: n.cfg.ID, Leader: leader, Term: term, LastTerm: lastTerm, LastIndex: lastIndex, Unsealed: n.cfg.Unsealed()}
	n.cfg.Logger.Info("the leader's process has ended", "leader", leader, "term", term)
	n.consider(d)
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.HeartbeatTimeout)
	defer cancel()
	var told sync.WaitGroup
	for _, p := range n.peers() {
		if voters[p.ID] {
			told.Go(func() {
				// Who does not hear of it decides without, or leaves it to the timers.
				_ = n.cfg.Transport.Departure(ctx, p, d)
			})
		}
	}
	told.Wait()
}

// consider has this node stand for election when it is the one to do so.
func (n *Node) consider(d Departure) {
	voters := n.votersBeside(d.Leader)
	quorum := (len(voters)+1)/2 + 1 // the leader is a voter, too
	heard, first := n.succession.note(d, quorum)
	switch {
	case len(heard) < quorum:
	case len(heard) == len(voters):
		n.succeed(d.Leader, d.Term)
	case first:
		n.spawn(func() {
			wait(n.ctx, successionPatience)
			n.succeed(d.Leader, d.Term)
		})
	}
}

// succeed stands for election if nobody who has seen the leader gone should
// rather. In this term it does so once: afterwards it has another.
func (n *Node) succeed(leader string, term uint64) {
	heard := n.succession.of(term)
	own, seen := heard[n.cfg.ID]
	_, id := n.raft.LeaderWithID()
	if !seen || string(id) != leader || n.raft.CurrentTerm() != term || n.abstains() {
		return
	}
	for _, other := range heard {
		if other.before(own) {
			return
		}
	}
	n.ask(func() {
		// To itself: it is the library's only door to an election at once.
		now := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.ID)}}
		if err := n.cfg.Transport.TimeoutNow(raft.ServerID(n.cfg.ID), n.cfg.Transport.LocalAddr(), now, &raft.TimeoutNowResponse{}); err != nil {
			n.cfg.Logger.Warn("standing for election at once failed; the timer is left", "error", err)
		}
	})
}

// votersBeside are the voters, without one.
func (n *Node) votersBeside(leader string) map[string]bool {
	voters := map[string]bool{}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != leader {
			voters[string(s.ID)] = true
		}
	}
	return voters
}

// logEnd is where this node's log ends, as its votes compare it.
func (n *Node) logEnd() (term, index uint64) {
	s := n.raft.Stats()
	number := func(name string) uint64 {
		v, err := strconv.ParseUint(s[name], 10, 64)
		if err != nil {
			return 0 // it then stands behind the others
		}
		return v
	}
	term, index = number("last_log_term"), number("last_log_index")
	if i := number("last_snapshot_index"); i > index {
		return number("last_snapshot_term"), i
	}
	return term, index
}
