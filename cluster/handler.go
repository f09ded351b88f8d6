package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// handler answers other nodes' calls; the calls' own files hold the rest.
type handler struct{ n *Node }

var _ Handler = handler{}

// HandleStatus implements Handler.
func (h handler) HandleStatus(context.Context) (Status, error) {
	n := h.n
	if n.ctx.Err() != nil {
		return Status{}, ErrClosed
	}
	return Status{
		ID: n.cfg.ID, Term: n.raft.CurrentTerm(), Applied: n.marks.at(), Last: n.raft.LastIndex(),
		Unsealed: n.cfg.Unsealed(), Leader: n.IsLeader(), Version: n.cfg.Version,
	}, nil
}

// HandleStateHash implements Handler.
func (h handler) HandleStateHash(_ context.Context, index uint64) (HashAnswer, error) {
	return h.n.hashAt(index), nil
}

func (n *Node) hashAt(index uint64) HashAnswer {
	if at, sum := n.cfg.Machine.StateHash(); at == index {
		return HashAnswer{Known: true, Sum: sum}
	}
	sum, ok := n.cfg.Machine.HashAt(index)
	return HashAnswer{Known: ok, Sum: sum}
}

// HandleFetchEntry implements Handler. It serves committed entries only: of
// those, every replica has the same.
func (h handler) HandleFetchEntry(_ context.Context, index uint64) (RawEntry, error) {
	n := h.n
	if commit := n.raft.CommitIndex(); index > commit {
		return RawEntry{}, fmt.Errorf("entry %d, committed is %d: %w", index, commit, ErrEntryUnknown)
	}
	var l raft.Log
	if err := n.peek(index, &l); err != nil {
		return RawEntry{}, fmt.Errorf("entry %d: %w: %w", index, ErrEntryUnknown, err)
	}
	return RawEntry{Index: l.Index, Term: l.Term, Type: uint8(l.Type), Data: l.Data, Extensions: l.Extensions}, nil
}

// peek reads an entry for another node. A store that repairs or stops when it
// meets rot (storage/raftlog) must not do so for somebody else's question.
func (n *Node) peek(index uint64, l *raft.Log) error {
	if s, ok := n.cfg.Log.(interface {
		Peek(index uint64, log *raft.Log) error
	}); ok {
		return s.Peek(index, l)
	}
	return n.cfg.Log.GetLog(index, l)
}

// FetchEntry asks peers, one after the other, for the committed log entry at
// index, for a store whose copy has rotted (L11). It needs no running node. The
// caller may use the entry only at an index that it knows to be committed.
func FetchEntry(ctx context.Context, via Caller, peers []Peer, index uint64) (*raft.Log, error) {
	failed := fmt.Errorf("fetching entry %d: %w", index, ErrEntryUnknown)
	for _, p := range peers {
		e, err := via.FetchEntry(ctx, p, index)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("from %s: %w", p.ID, err))
			continue
		}
		if e.Index != index {
			failed = errors.Join(failed, fmt.Errorf("from %s: it sent entry %d", p.ID, e.Index))
			continue
		}
		return &raft.Log{Index: e.Index, Term: e.Term, Type: raft.LogType(e.Type), Data: e.Data, Extensions: e.Extensions}, nil
	}
	return nil, failed
}

// compareStates compares this replica's state with the others' for as long as
// the node runs. Each replica judges only itself, and halts only when a
// majority of all members has the same other state: a divergence in a minority
// stops that minority, wherever the leader is.
func (n *Node) compareStates() {
	if n.cfg.HashInterval < 0 {
		return
	}
	for {
		wait(n.ctx, n.cfg.HashInterval)
		if n.ctx.Err() != nil {
			return
		}
		latest, _ := n.cfg.Machine.StateHash()
		for _, index := range []uint64{latest - latest%fsm.HashInterval, latest} {
			if index > 0 {
				n.compareAt(index)
			}
		}
	}
}

func (n *Node) compareAt(index uint64) {
	ours := n.hashAt(index)
	if !ours.Known {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.RPCTimeout)
	defer cancel()
	members := n.peers()
	answers := make(chan HashAnswer, len(members))
	asked := 0
	for _, p := range members {
		begun := n.spawn(func() {
			a, err := n.cfg.Transport.StateHash(ctx, p, index)
			if err != nil {
				a = HashAnswer{}
			}
			answers <- a
		})
		if begun {
			asked++
		}
	}
	votes := map[fsm.StateHash]int{ours.Sum: 1}
	for range asked {
		if a := <-answers; a.Known {
			votes[a.Sum]++
		}
	}
	n.judge(index, ours.Sum, votes, len(members)+1)
}

// judge halts this replica when more than half of all members agree on another state.
func (n *Node) judge(index uint64, ours fsm.StateHash, votes map[fsm.StateHash]int, members int) {
	for sum, count := range votes {
		if sum == ours {
			continue
		}
		if count > members/2 {
			n.halt(&DivergedError{Index: index, Ours: ours, Theirs: sum})
			return
		}
		n.cfg.Logger.Error("another replica has another state", "index", index, "replicas", count, "of", members)
	}
}
