package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// TransferLeadership hands leadership over to the voter id. One transfer runs at
// a time; the target must be live, caught up and answer a call. While it runs,
// writes wait: for transferBound and an election at most (L6).
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	o := n.leadership.now().office
	if o == nil {
		return fmt.Errorf("transferring leadership: %w", ErrNotLeader)
	}
	select {
	case n.transfer <- struct{}{}:
		defer func() { <-n.transfer }()
	default:
		return ErrTransferRunning
	}
	m, ok := n.member(id)
	if !ok {
		return fmt.Errorf("transferring leadership to %s: %w", id, ErrUnknownMember)
	}
	if _, err := n.fit(ctx, m); err != nil {
		return fmt.Errorf("transferring leadership to %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, transferStuck)
	defer cancel()
	done := make(chan error, 1)
	n.ask(func() {
		if n.ctx.Err() != nil {
			done <- ErrClosed // a future that is queued now would never be answered (L15)
			return
		}
		done <- n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(m.Address)).Error()
	})
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("transferring leadership to %s: %w", id, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("transferring leadership to %s: %w", id, context.Cause(ctx))
	case <-n.stop:
		return ErrClosed
	}
}

// fit asks a member whether it could lead: the library itself would wait for a
// target that does not answer while it refuses writes.
func (n *Node) fit(ctx context.Context, m Member) (Status, error) {
	if m.ID == n.cfg.ID || !m.Voter || !n.live(m) || m.Lag > n.cfg.PromoteLag {
		return Status{}, fmt.Errorf("it is no live voter near the end of the log: %w", ErrNoTarget)
	}
	ctx, cancel := context.WithTimeout(ctx, transferBound)
	defer cancel()
	s, err := n.cfg.Transport.Status(ctx, m.Peer)
	if err != nil {
		return Status{}, errors.Join(ErrNoTarget, err)
	}
	return s, nil
}

// StepDown hands leadership to the fittest voter: unsealed before sealed, then
// the least behind. ErrNoTarget: there is none, and this node goes on.
func (n *Node) StepDown(ctx context.Context) error {
	if !n.IsLeader() {
		return fmt.Errorf("stepping down: %w", ErrNotLeader)
	}
	type candidate struct {
		Member
		sealed bool
	}
	var all []candidate
	for _, m := range n.Members() {
		if s, err := n.fit(ctx, m); err == nil {
			all = append(all, candidate{m, !s.Unsealed})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		if a.sealed != b.sealed {
			if b.sealed {
				return -1
			}
			return 1
		}
		return int(min(a.Lag, 1<<30)) - int(min(b.Lag, 1<<30))
	})
	failed := fmt.Errorf("stepping down: %w", ErrNoTarget)
	for _, c := range all {
		err := n.TransferLeadership(ctx, c.ID)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
