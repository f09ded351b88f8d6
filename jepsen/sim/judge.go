package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// judge runs the checks that are not in package check, because they need to know how
// these workloads are made.
func judge(ops []*history.Op, at func(index uint64) (time.Time, bool)) []string {
	return slices.Concat(judgeLists(ops), judgeGates(ops), judgeTerms(ops, at))
}

// judgeTerms checks that a lease was granted for as long as was asked, from the log
// time of the entry that granted it.
func judgeTerms(ops []*history.Op, at func(index uint64) (time.Time, bool)) (found []string) {
	for _, o := range ops {
		if o.Kind != history.Grant || o.Outcome != history.Done {
			continue
		}
		if now, ok := at(o.Index); !ok || !o.Expires.Equal(now.Add(o.TTL)) {
			found = append(found, fmt.Sprintf("not for the time that was asked for: %v: granted at log time %d", o, now.UnixNano()))
		}
	}
	return found
}

// judgeGates checks writes against the policy that let them in: at the index of the
// write the policy must allow it, and not only when the request was looked at. A change
// of unknown outcome may have come at any time, so its policy is left alone.
func judgeGates(ops []*history.Op) (found []string) {
	changes := map[string][]*history.Op{}
	doubtful := map[string]bool{}
	for _, o := range ops {
		if o.Kind == model.SetPolicy {
			changes[o.Key] = append(changes[o.Key], o)
			doubtful[o.Key] = doubtful[o.Key] || o.Outcome == history.Unknown
		}
	}
	for _, o := range ops {
		if o.Kind != model.UsePolicy || o.Value != writing || o.Outcome != history.Done || doubtful[o.Key] {
			continue
		}
		last, allowed := (*history.Op)(nil), false
		for _, c := range changes[o.Key] {
			if c.Outcome != history.Done || c.Index >= o.Index {
				continue
			}
			if last == nil || last.Index < c.Index {
				last, allowed = c, false
			}
			// Changes in one entry have one index: which was the last of them is not told.
			allowed = allowed || last.Index == c.Index && c.Value == model.Allow
		}
		if last != nil && !allowed {
			found = append(found, fmt.Sprintf("written after it was denied: %v\n\tafter %v", o, last))
		}
	}
	return found
}
