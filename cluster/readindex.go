package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// ReadIndex returns an index that includes everything any node acknowledged
// before the call, once this node's machine has applied it: a read of the
// machine made afterwards is linearizable. It needs a quorum of voters. All
// calls that wait share one round of messages, on the leader and on followers.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := n.confirm(ctx)
	if err != nil {
		return 0, err
	}
	return index, n.WaitApplied(ctx, index)
}

// WaitApplied returns when this node's machine has applied index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	return n.marks.wait(ctx, n.halted, index)
}

// confirm gets a read index from whoever leads, trying until ctx ends: asking
// again is always safe.
func (n *Node) confirm(ctx context.Context) (uint64, error) {
	for {
		l, err := n.leadership.wait(ctx, n.halted)
		if err != nil {
			return 0, fmt.Errorf("confirming a read: %w: %w", ErrNoLeader, err)
		}
		r := n.reads.join()
		select {
		case <-r.done:
			if r.err == nil {
				return r.index, nil
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("confirming a read: %w", context.Cause(ctx))
		case <-n.halted:
			return 0, fmt.Errorf("confirming a read: %w", ErrClosed)
		}
		n.leadership.pause(ctx, l, retryPause)
	}
}

// HandleReadIndex implements Handler: it confirms this node's leadership for
// followers, who wait for the index themselves.
func (h handler) HandleReadIndex(ctx context.Context) (uint64, error) {
	n := h.n
	if n.leadership.now().office == nil {
		return 0, ErrNotLeader
	}
	r := n.reads.join()
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("confirming a read: %w", context.Cause(ctx))
	}
}

// A round confirms all reads that joined it before it began.
type round struct {
	done  chan struct{}
	index uint64
	err   error
}

// rounds collects the reads of the next round while one is under way.
type rounds struct {
	wake chan struct{} // capacity 1
	mu   sync.Mutex
	next *round
}

func newRounds() *rounds { return &rounds{wake: make(chan struct{}, 1)} }

func (s *rounds) join() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = &round{done: make(chan struct{})}
		poke(s.wake)
	}
	return s.next
}

// begin closes the next round for newcomers: who joins from now on may have
// seen something newer than this round will find.
func (s *rounds) begin() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.next
	s.next = nil
	return r
}

// readRounds is the one goroutine that runs rounds, one at a time.
func (n *Node) readRounds() {
	for {
		select {
		case <-n.reads.wake:
		case <-n.stop:
			if r := n.reads.begin(); r != nil {
				r.err = ErrClosed
				close(r.done)
			}
			return
		}
		if r := n.reads.begin(); r != nil {
			r.index, r.err = n.readRound()
			close(r.done)
		}
	}
}

func (n *Node) readRound() (uint64, error) {
	l := n.leadership.now()
	ctx, cancel := context.WithTimeout(l.ctx, n.cfg.RPCTimeout)
	defer cancel()
	switch {
	case l.office != nil:
		n.keepTime(ctx, l.office)
		return n.confirmQuorum(ctx, l.office)
	case l.peer.ID != "":
		return n.cfg.Transport.ReadIndex(ctx, n.reach(l.peer))
	}
	return 0, ErrNotLeader
}

// maxTimeLag is how old the machine's log time may be when a read is confirmed.
// What expires without a lease of its own (a version with a TTL, a token that is
// stored nowhere) is readable that much too long at most.
const maxTimeLag = time.Second

// keepTime moves log time on with an entry that does nothing else, if nothing was
// written of late: log time stands still between entries, and a reader would go on
// seeing what has expired since. A cluster that nobody reads writes nothing. That
// the entry cannot be written (a full disk) is no reason to refuse reads; then
// time stands still, and the next attempt waits for maxTimeLag.
func (n *Node) keepTime(ctx context.Context, o *office) {
	if time.Duration(o.clock.now()-n.cfg.Machine.Time()) < maxTimeLag || !o.mayTick(n.cfg.Clock.Monotonic()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.RPCTimeout/2)
	defer cancel()
	if _, err := n.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpExpireLeases}}}); err != nil {
		o.tickFailed(n.cfg.Clock.Monotonic())
		n.cfg.Logger.Debug("moving log time on failed", "error", err)
	}
}

// confirmQuorum is the read index of Raft (Ongaro's thesis, 6.4) made from the
// numbers that the wire gives out. The order of its steps is what makes it safe:
// the commit index is taken first; then only messages sent later count; they
// carry the term in which this node opened its office, never one read from the
// library just now, which may already be somebody else's.
func (n *Node) confirmQuorum(ctx context.Context, o *office) (uint64, error) {
	if n.raft.State() != raft.Leader {
		return 0, ErrNotLeader
	}
	index := n.raft.CommitIndex()
	others, need, votes := n.otherVoters()
	if !votes {
		return 0, ErrNotLeader
	}
	if need <= 1 {
		if n.wire.muted(o.term) {
			return 0, errMuted
		}
		return index, nil
	}
	ids := make([]raft.ServerID, len(others))
	for i, s := range others {
		ids[i] = s.ID
	}
	q := n.wire.expect(o.term, ids, need)
	defer n.wire.forget(q)
	for _, s := range others {
		n.probe(s, o.term, index)
	}
	select {
	case <-q.done:
		return index, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("no quorum of voters answered: %w", errors.Join(ErrNotLeader, context.Cause(ctx)))
	}
}

// otherVoters returns the voters beside this node, the size of a quorum, and
// whether this node votes itself.
func (n *Node) otherVoters() (others []raft.Server, need int, votes bool) {
	servers := n.raft.GetConfiguration().Configuration().Servers
	voters := 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == n.cfg.ID {
			votes = true
		} else {
			others = append(others, s)
		}
	}
	return others, voters/2 + 1, votes
}

// probesUnderWay bounds the probes that one voter has not answered.
const probesUnderWay = 4

// probe sends an empty AppendEntries of term to s, as the library's own heartbeat
// is made, no previous entry and no entries, but with the commit index, as far
// as s's log is known to agree with ours in this term: a follower that waits to
// read at that index learns with the round itself that it is committed, not
// when the library tells it next. The library takes a commit index without
// looking at the log; that is sound here, because what agrees up to a committed
// index agrees for ever. The probe is no lie: this node did lead in term (see
// DESIGN.md). The answer counts in the wire.
func (n *Node) probe(s raft.Server, term, committed uint64) {
	slots, _ := n.probes.LoadOrStore(s.ID, make(chan struct{}, probesUnderWay))
	select {
	case slots.(chan struct{}) <- struct{}{}:
	default:
		return // four unanswered: it is away, and the others must do
	}
	n.spawn(func() {
		defer func() { <-slots.(chan struct{}) }()
		self := n.wire.EncodePeer(raft.ServerID(n.cfg.ID), n.wire.LocalAddr())
		req := raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.ID), Addr: self},
			Term:      term,
		}
		if matched, _, ok := n.wire.progress(s.ID, term); ok {
			req.LeaderCommitIndex = min(committed, matched)
		}
		var resp raft.AppendEntriesResponse
		if err := n.wire.AppendEntries(s.ID, s.Address, &req, &resp); err != nil {
			n.cfg.Logger.Debug("probe not answered", "peer", s.ID, "error", err)
		}
	})
}
