package workload

import (
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// Bounds tells between which two log times the entry of an op lies, as far as is
// known; false: nobody applied it.
type Bounds func(o *history.Op) (least, most time.Time, applied bool)

// Judge runs the checks that are not in package check, because they need to know how
// these workloads are made.
func Judge(ops []*history.Op, at Bounds) []string {
	return slices.Concat(judgeLists(ops), judgeGates(ops), judgeBanks(ops), judgeTerms(ops, at))
}

// judgeTerms checks that a lease was granted for as long as was asked, from the log
// time of the entry that granted it.
func judgeTerms(ops []*history.Op, at Bounds) (found []string) {
	for _, o := range ops {
		if o.Kind != history.Grant || o.Outcome != history.Done {
			continue
		}
		least, most, applied := at(o)
		if granted := o.Expires.Add(-o.TTL); !applied || granted.Before(least) || granted.After(most) {
			found = append(found, fmt.Sprintf("not for the time that was asked for: %v: granted between log time %d and %d", o, least.UnixNano(), most.UnixNano()))
		}
	}
	return found
}
