package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// Member is one node of the cluster as this node sees it.
type Member struct {
	Peer
	Voter  bool
	Leader bool
	// Known tells that Lag and Contact are: only on the leader, and once the
	// member has accepted something in this term.
	Known   bool
	Lag     uint64        // entries that the member's log is behind the leader's commit
	Contact time.Duration // since the member last accepted something
}

// roster remembers the newest membership that was committed here and its index.
// The library does not tell it, and changes need it as their precondition.
type roster struct {
	logger  *slog.Logger
	removed func() // called outside mu when a member is gone

	mu      sync.Mutex
	index   uint64
	members map[raft.ServerID]raft.ServerSuffrage
}

// note takes a committed membership, and logs what is new in it: so every
// member's log tells who came and went, whoever decided it.
func (r *roster) note(c raft.Configuration, index uint64) {
	if r.take(c, index) {
		r.removed()
	}
}

// take tells whether a member is gone.
func (r *roster) take(c raft.Configuration, index uint64) (gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index <= r.index {
		return false
	}
	next := map[raft.ServerID]raft.ServerSuffrage{}
	for _, s := range c.Servers {
		next[s.ID] = s.Suffrage
		if was, there := r.members[s.ID]; r.members != nil && (!there || was != s.Suffrage) {
			r.logger.Info("membership", "index", index, "member", s.ID, "now", strings.ToLower(s.Suffrage.String()))
		}
	}
	for id := range r.members {
		if _, there := next[id]; !there {
			r.logger.Info("membership", "index", index, "member", id, "now", "removed")
			gone = true
		}
	}
	r.index, r.members = index, next
	return gone
}

func (r *roster) at() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index
}

// has tells whether id is in the newest committed membership.
func (r *roster) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there := r.members[raft.ServerID(id)]
	return there
}

// Members lists the members. The newest change in it may not be committed yet.
func (n *Node) Members() []Member {
	_, leaderID := n.raft.LeaderWithID()
	office := n.leadership.now().office
	commit := n.raft.CommitIndex()
	var all []Member
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		m := Member{
			Peer:  Peer{string(s.ID), string(n.wire.at(s.ID, s.Address))},
			Voter: s.Suffrage == raft.Voter, Leader: s.ID == leaderID,
		}
		if office != nil {
			if m.ID == n.cfg.ID {
				m.Known = true
			} else if matched, ago, ok := n.wire.progress(s.ID, office.term); ok {
				m.Known, m.Contact = true, ago
				m.Lag = commit - min(matched, commit)
			}
		}
		all = append(all, m)
	}
	return all
}

// peers are the other members.
func (n *Node) peers() []Peer {
	var others []Peer
	for _, m := range n.Members() {
		if m.ID != n.cfg.ID {
			others = append(others, m.Peer)
		}
	}
	return others
}

func (n *Node) member(id string) (Member, bool) {
	for _, m := range n.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// live tells that a member answers the leader.
func (n *Node) live(m Member) bool {
	return m.ID == n.cfg.ID || m.Known && m.Contact <= n.cfg.HeartbeatTimeout
}

// AddNonvoter takes p in without a vote, or changes a member's address. The
// leader makes it a voter when it has caught up and is stable (L13). On return
// a quorum holds the change. Only the leader can do it: ErrNotLeader.
func (n *Node) AddNonvoter(ctx context.Context, p Peer) error {
	return n.change(ctx, "adding "+p.ID, n.roster.at(), func(prev uint64) raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(p.ID), raft.ServerAddress(p.Address), prev, n.cfg.RPCTimeout)
	})
}

// Promote makes a non-voter a voter now, when it is live and within
// Config.PromoteLag; otherwise ErrUnsafe.
func (n *Node) Promote(ctx context.Context, id string) error {
	prev := n.roster.at()
	m, ok := n.member(id)
	switch {
	case !n.IsLeader():
		return fmt.Errorf("promoting %s: %w", id, ErrNotLeader)
	case !ok:
		return fmt.Errorf("promoting %s: %w", id, ErrUnknownMember)
	case m.Voter:
		return nil
	case !n.live(m) || m.Lag > n.cfg.PromoteLag:
		return fmt.Errorf("promoting %s, which lags or does not answer: %w", id, ErrUnsafe)
	}
	return n.change(ctx, "promoting "+id, prev, func(prev uint64) raft.IndexFuture {
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(m.Address), prev, n.cfg.RPCTimeout)
	})
}

// Remove takes a member out. It refuses with ErrUnsafe when the live voters that
// remain are no quorum of the remaining voters, and for the leader itself,
// which must StepDown first.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.removeAt(ctx, id, n.roster.at())
}

// removeAt is Remove for a caller who decided on the membership of index prev.
func (n *Node) removeAt(ctx context.Context, id string, prev uint64) error {
	if err := n.spare(id); err != nil {
		return fmt.Errorf("removing %s: %w", id, err)
	}
	return n.change(ctx, "removing "+id, prev, func(prev uint64) raft.IndexFuture {
		return n.raft.RemoveServer(raft.ServerID(id), prev, n.cfg.RPCTimeout)
	})
}

// Demote takes a member's vote, under the conditions of Remove. A duty promotes
// it again when it is stable, unless Config.NoPromotion.
func (n *Node) Demote(ctx context.Context, id string) error {
	prev := n.roster.at()
	if err := n.spare(id); err != nil {
		return fmt.Errorf("demoting %s: %w", id, err)
	}
	return n.change(ctx, "demoting "+id, prev, func(prev uint64) raft.IndexFuture {
		return n.raft.DemoteVoter(raft.ServerID(id), prev, n.cfg.RPCTimeout)
	})
}

// spare checks that this leader can do without the vote of id: that a quorum of
// the voters that remain is live.
func (n *Node) spare(id string) error {
	gone, ok := n.member(id)
	switch {
	case !n.IsLeader():
		return ErrNotLeader
	case !ok:
		return ErrUnknownMember
	case id == n.cfg.ID:
		return fmt.Errorf("it leads: %w", ErrUnsafe)
	case !gone.Voter:
		return nil
	}
	voters, live := 0, 0
	for _, m := range n.Members() {
		if !m.Voter || m.ID == id {
			continue
		}
		voters++
		if n.live(m) {
			live++
		}
	}
	if live < voters/2+1 {
		return fmt.Errorf("%d of %d remaining voters answer: %w", live, voters, ErrUnsafe)
	}
	return nil
}

// change makes one change of membership on top of the committed one of index
// prev, which the caller took before it looked at the members. It does not
// retry: the caller decided on a picture that may be over.
func (n *Node) change(ctx context.Context, what string, prev uint64, do func(prev uint64) raft.IndexFuture) error {
	if n.leadership.now().office == nil {
		return fmt.Errorf("%s: %w", what, ErrNotLeader)
	}
	done := make(chan error, 1)
	n.ask(func() { done <- do(prev).Error() })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", what, fsm.ErrUnknown, context.Cause(ctx))
	case <-n.stop:
		return fmt.Errorf("%s: %w: %w", what, fsm.ErrUnknown, ErrClosed)
	}
	switch {
	case err == nil:
		return nil
	case codeOf(err) == ReplyNotLeader:
		return fmt.Errorf("%s: %w: %w", what, ErrNotLeader, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%s: %w: %w", what, fsm.ErrUnknown, err)
	case n.moved(ctx, prev):
		return fmt.Errorf("%s: %w", what, ErrMembershipMoved)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// moved tells whether the membership is another than that of index prev. The
// library refuses a change by its newest configuration and has no error of its
// own for that; the roster learns of it only when the entry is applied.
func (n *Node) moved(ctx context.Context, prev uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, enqueueBound)
	defer cancel()
	// An error changes nothing: when a no-op ends the log, which never reaches the
	// machine, the wait is in vain and the roster is as new as it gets.
	_ = n.marks.wait(ctx, n.stop, n.raft.LastIndex())
	return n.roster.at() != prev
}
