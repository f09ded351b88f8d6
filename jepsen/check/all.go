package check

import (
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// All runs every check on the ops in the order in which they returned. at tells
// the log time at an index; nil: nobody knows it.
func All(ops []*history.Op, at func(index uint64) (time.Time, bool)) []string {
	return slices.Concat(Witness(ops, at), Linearizable(ops))
}

// Witness takes the log that the answers name, by their indexes, for the order in
// which all happened, and checks that every answer fits it and that it fits the
// clocks of the clients. It is the second opinion beside Linearizable, from other
// evidence, and takes no longer than sorting: histories of millions of ops are no
// trouble, and a key with many unknown outcomes neither. at is as for All.
func Witness(ops []*history.Op, at func(index uint64) (time.Time, bool)) []string {
	found := slices.Concat(RealTime(ops), Levels(ops), Prefix(ops), Numbers(ops), Once(ops), Flags(ops), Generations(ops))
	if at != nil {
		found = append(found, LeaseTimes(ops, at)...)
	}
	return found
}
