package real

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// Counts says how much happened.
type Counts struct {
	Ops          int
	Answered     int // done or refused
	Unknown      int
	Calm, CalmOK int            // ops that no fault touched; of these, answered
	Faults       map[string]int // by name
	OverHTTP     int            // requests; the others went over gRPC
	Access       int            // requests around tokens, policies and wrapping
	Turned       int            // of these, turned away
	LeaderKills  int
	States       int // indexes at which state hashes were compared
}

// String is a short report.
func (c Counts) String() string {
	return fmt.Sprintf("%d requests (%d answered, %d of %d outside faults, %d unknown; %d over HTTP), %d around access (%d turned away), %d kills of a leader, states compared at %d indexes, faults %v",
		c.Ops, c.Answered, c.CalmOK, c.Calm, c.Unknown, c.OverHTTP, c.Access, c.Turned, c.LeaderKills, c.States, c.Faults)
}

// Judge is all that is wrong: Violations, and what jepsen/check finds in the
// history. That takes time.
func (out *Outcome) Judge() []string {
	return append(slices.Clone(out.Violations), check.All(out.Ops, nil)...)
}

// sum fills the outcome.
func (r *run) sum(ctx context.Context, out *Outcome) {
	ops := r.world.Book.Ops()
	out.Ops, out.NodeLogs = ops, r.logs()
	out.Faults, out.Gaps = r.nemesis.done, gaps(ops, r.nemesis.leaders, r.nemesis.done, r.options.For)
	out.Counts = count(ops, out.Faults)
	out.Counts.OverHTTP = int(r.overHTTP.Load())
	out.Counts.LeaderKills, out.Counts.States = len(r.nemesis.leaders), len(r.hashes)
	r.mu.Lock()
	right := r.jumped+r.drifted == 0
	if n := r.stalled.Load(); n > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%d answers said that the audit log could not be written while we did nothing to a disk: the machine stalled, or something is wrong", n))
	}
	out.Violations, out.Notes = r.found, r.notes
	r.mu.Unlock()
	out.Violations = append(out.Violations, check.LeaseTimes(ops, leastLogTime(ops))...)
	out.Violations = append(out.Violations, workload.Judge(ops, logTimes(ops))...)
	if right {
		out.Violations = append(out.Violations, lateLeases(ops, r.began)...)
	}
	out.Invalid = vacuous(out)
	if ctx.Err() != nil {
		out.Invalid = append(out.Invalid, "the run was ended from outside")
	}
	out.Took = r.now()
}

func count(ops []*history.Op, faults []history.Fault) Counts {
	c := Counts{Faults: map[string]int{}}
	for _, f := range faults {
		c.Faults[f.Name]++
	}
	for _, o := range ops {
		c.Ops++
		answered := o.Outcome == history.Done || o.Outcome == history.Refused
		if answered {
			c.Answered++
		}
		if o.Outcome == history.Unknown {
			c.Unknown++
		}
		if model.IsAccess(o.Kind) {
			c.Access++
			if o.Outcome == history.Refused {
				c.Turned++
			}
		}
		if !o.Faulty {
			c.Calm++
			if answered {
				c.CalmOK++
			}
		}
	}
	return c
}

// vacuous says why a run proves nothing.
func vacuous(out *Outcome) (why []string) {
	if len(out.Faults) == 0 {
		why = append(why, "no fault was at work")
	}
	for _, f := range out.Faults {
		if !f.Bit() {
			why = append(why, fmt.Sprintf("nobody saw %q at %v bite", f.Name, f.Began))
		}
		if !slices.ContainsFunc(out.Ops, func(o *history.Op) bool { return o.Called < f.Ended && o.Returned > f.Began }) {
			why = append(why, fmt.Sprintf("no request was under way during %q at %v", f.Name, f.Began))
		}
	}
	if c := out.Counts; 2*c.CalmOK <= c.Calm || c.Calm == 0 {
		why = append(why, fmt.Sprintf("only %d of %d requests outside faults were answered", c.CalmOK, c.Calm))
	}
	return why
}

// gaps are the longest times without an acknowledged write around each kill of a
// leader, until its node was back. Kills beside which something else was at work
// say nothing about kills and are left out, and so are those that were not over when
// the clients stopped, at until.
func gaps(ops []*history.Op, kills, faults []history.Fault, until time.Duration) (all []time.Duration) {
	var acked []time.Duration
	for _, o := range ops {
		if o.Kind.Writes() && o.Outcome == history.Done {
			acked = append(acked, o.Returned)
		}
	}
	slices.Sort(acked)
	for _, k := range kills {
		beside := 0
		for _, f := range faults {
			if f.Began < k.Ended && f.Ended > k.Began {
				beside++ // itself, too
			}
		}
		if beside > 1 || k.Ended > until {
			continue
		}
		var longest time.Duration
		for i := 1; i < len(acked); i++ {
			if acked[i] >= k.Began && acked[i-1] <= k.Ended {
				longest = max(longest, acked[i]-acked[i-1])
			}
		}
		all = append(all, longest)
	}
	return all
}

// leastLogTime is a time that the log had reached at an index, by what the answers
// to grants and renewals tell: one is for its TTL from the log time of its entry,
// or for less.
func leastLogTime(ops []*history.Op) func(index uint64) (time.Time, bool) {
	var known []*history.Op
	for _, o := range ops {
		if (o.Kind == history.Grant || o.Kind == history.Renew) && o.Outcome == history.Done && o.Index > 0 {
			known = append(known, o)
		}
	}
	slices.SortFunc(known, func(a, b *history.Op) int { return cmp.Compare(a.Index, b.Index) })
	times := make([]time.Time, len(known))
	for i, o := range known {
		times[i] = o.Expires.Add(-o.TTL)
		if i > 0 && times[i-1].After(times[i]) {
			times[i] = times[i-1] // log time does not go back
		}
	}
	return func(index uint64) (time.Time, bool) {
		i, _ := slices.BinarySearchFunc(known, index+1, func(o *history.Op, n uint64) int { return cmp.Compare(o.Index, n) })
		if i == 0 {
			return time.Time{}, true
		}
		return times[i-1], true
	}
}

// logTimes is what a real run knows of the log time at an op's index: what other leases
// tell, and that the log was not ahead of every clock.
func logTimes(ops []*history.Op) workload.Bounds {
	least := leastLogTime(ops)
	return func(o *history.Op) (from, to time.Time, applied bool) {
		from, applied = least(o.Index)
		return from, o.LogTime, applied
	}
}

// leaseSlack is for how long after its end a lease may still be found by the clock
// of the clients: log time only stands still while there is no leader.
const leaseSlack = 5 * time.Second

// lateLeases finds leases that were there long after their end on the clock of the
// clients, outside faults, as long as no clock was wrong: log time follows that of a
// leader.
func lateLeases(ops []*history.Op, began time.Time) (found []string) {
	for _, o := range ops {
		if o.Kind == history.Lookup && o.Outcome == history.Done && !o.Faulty && began.Add(o.Called).After(o.Expires.Add(leaseSlack)) {
			found = append(found, fmt.Sprintf("there %v after its end: %v", began.Add(o.Called).Sub(o.Expires), o))
		}
	}
	return found
}
