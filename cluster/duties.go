package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// expireAtOnce is how many leases one batch ends; the machine bounds what
// follows from them by itself.
const expireAtOnce = 512

// serveDuties runs what only the leader does, until ctx ends and all has returned.
func (n *Node) serveDuties(ctx context.Context, o *office) {
	var duties sync.WaitGroup
	duties.Go(func() { n.expireLeases(ctx, o) })
	duties.Go(func() { n.everyInterval(ctx, n.preferUnsealed) })
	if !n.cfg.NoPromotion {
		stable := map[string]time.Duration{}
		duties.Go(func() {
			n.everyInterval(ctx, func(ctx context.Context) { n.promoteStable(ctx, stable) })
		})
	}
	if n.cfg.DeadAfter > 0 {
		watch := newDeathWatch(n)
		duties.Go(func() { n.everyInterval(ctx, watch.round) })
	}
	if n.cfg.Rumours != nil {
		duties.Go(func() { n.disown(ctx) })
	}
	if n.cfg.Lead != nil {
		duties.Go(func() { n.cfg.Lead(ctx) })
	}
	<-ctx.Done()
	duties.Wait()
}

func (n *Node) everyInterval(ctx context.Context, duty func(context.Context)) {
	for {
		wait(ctx, n.cfg.DutyInterval)
		if ctx.Err() != nil {
			return
		}
		duty(ctx)
	}
}

// expireLeases proposes the end of leases when log time has passed their
// expiry, and goes on with cascades that are unfinished. It only proposes:
// whether a lease ends is decided where the entry is applied, so a leader that
// wakes from a stall can end nothing that was renewed meanwhile.
func (n *Node) expireLeases(ctx context.Context, o *office) {
	const (
		pace = 10 * time.Millisecond // between two looks at a busy machine
		idle = time.Second
	)
	for ctx.Err() == nil {
		if !n.expiryDue(o) {
			sleep := idle
			if next, ok := n.cfg.Machine.NextExpiry(); ok {
				sleep = min(idle, max(pace, time.Duration(next-o.clock.now())))
			}
			waitMoved(ctx, n.applier.moved, sleep)
			wait(ctx, pace)
			continue
		}
		_, err := n.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpExpireLeases, Number: expireAtOnce}}})
		if err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("expiring leases failed, trying again", "error", err)
			wait(ctx, retryPause)
		}
	}
}

func (n *Node) expiryDue(o *office) bool {
	if n.cfg.Machine.Unfinished() {
		return true
	}
	next, ok := n.cfg.Machine.NextExpiry()
	return ok && next <= o.clock.now()
}

// waitMoved sleeps for d or until the machine's contents changed or ctx ends.
func waitMoved(ctx context.Context, moved <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-moved:
	case <-ctx.Done():
	}
}

// preferUnsealed hands leadership from a sealed node to an unsealed one, when
// there is one that is fit; else this node goes on ordering, which needs no key.
func (n *Node) preferUnsealed(ctx context.Context) {
	if n.cfg.Unsealed() {
		return
	}
	for _, m := range n.Members() {
		s, err := n.fit(ctx, m)
		if err != nil || !s.Unsealed {
			continue
		}
		err = n.TransferLeadership(ctx, m.ID)
		if err == nil || errors.Is(err, ErrTransferRunning) || ctx.Err() != nil {
			return
		}
		n.cfg.Logger.Warn("handing leadership to an unsealed voter failed", "target", m.ID, "error", err)
	}
}

// promoteStable gives a vote to non-voters that have been live and near the end
// of the log for PromoteStable. stable is when each began to be so.
func (n *Node) promoteStable(ctx context.Context, stable map[string]time.Duration) {
	now := n.cfg.Clock.Monotonic()
	for _, m := range n.Members() {
		if m.Voter || !n.live(m) || m.Lag > n.cfg.PromoteLag {
			delete(stable, m.ID)
			continue
		}
		since, ok := stable[m.ID]
		if !ok {
			stable[m.ID] = now
			continue
		}
		if now-since < n.cfg.PromoteStable {
			continue
		}
		if err := n.Promote(ctx, m.ID); err != nil {
			n.cfg.Logger.Warn("promoting a stable non-voter failed", "member", m.ID, "error", err)
			continue
		}
		n.cfg.Logger.Info("promoted to voter", "member", m.ID)
	}
}
