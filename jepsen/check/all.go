package check

import (
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// All runs every check on the ops in the order in which they returned. at tells
// the log time at an index.
func All(ops []*history.Op, at func(index uint64) (time.Time, bool)) []string {
	return slices.Concat(RealTime(ops), Levels(ops), Prefix(ops), Numbers(ops), LeaseTimes(ops, at), Linearizable(ops))
}
