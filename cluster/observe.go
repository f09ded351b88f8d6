package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

var (
	errAbstains    = errors.New("this node does not stand for election: it gave up leadership just now, its disk is stalled, it has halted, or its log lost what it had promised")
	errMuted       = errors.New("this node does not speak as a leader: its disk is stalled, it is fenced, or it has halted")
	errTransferRPC = fmt.Errorf("target did not answer TimeoutNow within %v", transferBound)
)

// wire is the transport as the library sees it. It numbers every AppendEntries
// before it is sent and notes which node accepted which number in which term
// (L2, L3); it refuses the heartbeat fast path (L1) and pipelining (L7), bounds
// TimeoutNow (L6), and lets no AppendEntries out while muted (L5).
//
// Invariant: accepted[id] = {term, number} only if id answered success, in that
// very term, to a message that was given the number before it was sent. The
// receiver handles it on its main loop, where it also votes; so at some moment
// after the number was given, id had voted in no later term.
type wire struct {
	Transport
	clock   Clock
	address func(id string) (string, bool)
	muted   func(term uint64) bool
	abstain func() bool
	numbers atomic.Uint64
	inbox   chan raft.RPC // of Node.screen; nil: the transport's own

	mu       sync.Mutex
	accepted map[raft.ServerID]acceptance
	waiting  []*quorumWait
}

// acceptance is the newest message that one node accepted.
type acceptance struct {
	term, number uint64
	matched      uint64 // highest index known to agree with the leader's log
	at           time.Duration
}

// quorumWait waits until need of the voters accepted, in term, a message
// numbered from or later.
type quorumWait struct {
	term, from uint64
	voters     []raft.ServerID
	need       int
	done       chan struct{}
}

func newWire(n *Node) *wire {
	return &wire{
		Transport: n.cfg.Transport, clock: n.cfg.Clock, address: n.cfg.Addresses,
		muted: n.muted, abstain: n.abstains, accepted: map[raft.ServerID]acceptance{},
	}
}

// SetHeartbeatHandler ignores the library's fast path: it would run
// appendEntries beside the main loop and race it (L1).
func (w *wire) SetHeartbeatHandler(func(raft.RPC)) {}

// Consumer is where the library takes other nodes' messages from.
func (w *wire) Consumer() <-chan raft.RPC {
	if w.inbox != nil {
		return w.inbox
	}
	return w.Transport.Consumer()
}

// AppendEntriesPipeline refuses: a pipeline can wedge a follower (L7) and was
// measured to gain nothing.
func (w *wire) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (w *wire) at(id raft.ServerID, known raft.ServerAddress) raft.ServerAddress {
	if a, ok := w.address(string(id)); ok {
		return raft.ServerAddress(a)
	}
	return known
}

func (w *wire) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if w.muted(req.Term) {
		return errMuted
	}
	number := w.numbers.Add(1)
	if err := w.Transport.AppendEntries(id, w.at(id, to), req, resp); err != nil {
		return err
	}
	if resp.Success && resp.Term == req.Term {
		matched := req.PrevLogEntry
		if n := len(req.Entries); n > 0 {
			matched = req.Entries[n-1].Index
		}
		w.accept(id, req.Term, number, matched)
	}
	return nil
}

func (w *wire) accept(id raft.ServerID, term, number, matched uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accepted[id]
	switch {
	case term < a.term:
		return
	case term > a.term:
		a = acceptance{term: term}
	}
	a.number = max(a.number, number)
	a.matched = max(a.matched, matched)
	a.at = w.clock.Monotonic()
	w.accepted[id] = a

	still := w.waiting[:0]
	for _, q := range w.waiting {
		if w.holds(q) {
			close(q.done)
		} else {
			still = append(still, q)
		}
	}
	w.waiting = still
}

// holds counts this node's own vote as one of need. Call it under mu.
func (w *wire) holds(q *quorumWait) bool {
	n := 1
	for _, v := range q.voters {
		if a := w.accepted[v]; a.term == q.term && a.number >= q.from {
			n++
		}
	}
	return n >= q.need
}

// expect starts to wait for others (the voters beside this node) to accept
// something sent from now on. The caller ends the wait with forget.
func (w *wire) expect(term uint64, others []raft.ServerID, need int) *quorumWait {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := &quorumWait{term: term, from: w.numbers.Load() + 1, voters: others, need: need, done: make(chan struct{})}
	if w.holds(q) {
		close(q.done)
		return q
	}
	w.waiting = append(w.waiting, q)
	return q
}

func (w *wire) forget(q *quorumWait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, x := range w.waiting {
		if x == q {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			return
		}
	}
}

// progress tells what is known of a node in term: how far its log agrees and
// how long ago it accepted something.
func (w *wire) progress(id raft.ServerID, term uint64) (matched uint64, ago time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, known := w.accepted[id]
	if !known || a.term != term {
		return 0, 0, false
	}
	return a.matched, w.clock.Monotonic() - a.at, true
}

func (w *wire) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if w.abstain() {
		return errAbstains
	}
	return w.Transport.RequestVote(id, w.at(id, to), req, resp)
}

func (w *wire) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if w.abstain() {
		return errAbstains
	}
	return w.Transport.RequestPreVote(id, w.at(id, to), req, resp)
}

func (w *wire) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if w.muted(req.Term) {
		return errMuted
	}
	return w.Transport.InstallSnapshot(id, w.at(id, to), req, resp, data)
}

// TimeoutNow gives up after transferBound: the library refuses every write
// until this call returns, and asks for no deadline (L6). The abandoned call
// ends on the transport's own deadline; a target that still hears of it merely
// holds an election.
func (w *wire) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	type answer struct {
		resp raft.TimeoutNowResponse
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		var a answer
		a.err = w.Transport.TimeoutNow(id, w.at(id, to), req, &a.resp)
		got <- a
	}()
	bound := time.NewTimer(transferBound)
	defer bound.Stop()
	select {
	case a := <-got:
		*resp = a.resp
		return a.err
	case <-bound.C:
		return errTransferRPC
	}
}
