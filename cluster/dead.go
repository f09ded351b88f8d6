package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Why a dead member stays. The log tells each reason once.
var (
	errManyDead = errors.New("half of the voters or more are dead, so it may be the leader who is cut off")
	errFewLeft  = errors.New("fewer voters would be left than the minimum")
	errRestWeak = errors.New("no majority of the voters that would be left is alive and caught up")
)

// deathWatch is how a leader finds and removes members that are dead for good,
// under the rules of raft-autopilot. It belongs to one office: a new leader
// knows nothing of what an earlier one heard, so its count starts at zero.
type deathWatch struct {
	n      *Node
	looked time.Duration            // when it looked last
	silent map[string]time.Duration // for how long each member has been
	stays  map[string]error         // why a dead member stays, as it was logged
}

func newDeathWatch(n *Node) *deathWatch {
	return &deathWatch{n: n, looked: n.cfg.Clock.Monotonic(), silent: map[string]time.Duration{}, stays: map[string]error{}}
}

// round removes one dead member, if there is one that may go. The next waits
// for the next round, which sees the membership without this one.
func (w *deathWatch) round(ctx context.Context) {
	prev := w.n.roster.at()
	now := w.n.cfg.Clock.Monotonic()
	members := w.n.Members()
	w.count(now, members)
	for _, gone := range w.dead(members) {
		if err := w.mayGo(gone, members); err != nil {
			w.explain(gone, err)
			continue
		}
		w.remove(ctx, gone, prev)
		return
	}
}

// count adds the time since the last look to the silence of everybody who was
// not heard since. A step counts for two intervals at most: a leader that was
// itself stopped for a day has missed its members' answers, and not they.
func (w *deathWatch) count(now time.Duration, members []Member) {
	step := min(now-w.looked, 2*w.n.cfg.DutyInterval)
	silent := map[string]time.Duration{}
	for _, m := range members {
		if m.ID == w.n.cfg.ID || m.Known && now-m.Contact >= w.looked {
			delete(w.stays, m.ID)
			continue
		}
		silent[m.ID] = w.silent[m.ID] + step
	}
	w.looked, w.silent = now, silent // who is no member any more is forgotten
}

func (w *deathWatch) isDead(id string) bool { return w.silent[id] >= w.n.cfg.DeadAfter }

// dead lists the dead members, the longest silent first.
func (w *deathWatch) dead(members []Member) []Member {
	var dead []Member
	for _, m := range members {
		if w.isDead(m.ID) {
			dead = append(dead, m)
		}
	}
	slices.SortFunc(dead, func(a, b Member) int {
		return cmp.Or(cmp.Compare(w.silent[b.ID], w.silent[a.ID]), cmp.Compare(a.ID, b.ID))
	})
	return dead
}

// mayGo says why gone has to stay, or nil. A non-voter takes no vote along, so
// the minimum of voters does not keep it.
func (w *deathWatch) mayGo(gone Member, members []Member) error {
	voters, dead, left, fit := 0, 0, 0, 0
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		if w.isDead(m.ID) {
			dead++
		}
		if m.ID == gone.ID {
			continue
		}
		left++
		if w.n.live(m) && m.Lag <= w.n.cfg.PromoteLag {
			fit++
		}
	}
	switch {
	case 2*dead >= voters:
		return fmt.Errorf("%d of %d: %w", dead, voters, errManyDead)
	case gone.Voter && left < w.n.cfg.MinQuorum:
		return fmt.Errorf("%d of %d: %w", left, w.n.cfg.MinQuorum, errFewLeft)
	case fit < left/2+1:
		return fmt.Errorf("%d of %d: %w", fit, left, errRestWeak)
	}
	return nil
}

// explain logs why a dead member stays, once per reason.
func (w *deathWatch) explain(m Member, why error) {
	for _, reason := range []error{errManyDead, errFewLeft, errRestWeak} {
		if !errors.Is(why, reason) || w.stays[m.ID] == reason {
			continue
		}
		w.stays[m.ID] = reason
		w.n.cfg.Logger.Warn("a member is dead and cannot be removed by itself", "member", m.ID, "voter", m.Voter,
			"silent", w.silent[m.ID], "reason", why)
	}
}

func (w *deathWatch) remove(ctx context.Context, m Member, prev uint64) {
	silent := w.silent[m.ID]
	w.n.cfg.Logger.Warn("removing a dead member", "member", m.ID, "voter", m.Voter, "address", m.Address, "silent", silent)
	if err := w.n.removeAt(ctx, m.ID, prev); err != nil {
		if ctx.Err() == nil {
			w.n.cfg.Logger.Warn("removing a dead member failed, trying again", "member", m.ID, "error", err)
		}
		return
	}
	w.n.cfg.Logger.Warn("removed a dead member; it must join again to come back", "member", m.ID, "voter", m.Voter, "silent", silent)
}
