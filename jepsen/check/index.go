package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// RealTime checks that indexes agree with the clock on the wall: a linearizable
// answer names an index at or above that of every answer that had come before
// it was asked for, and a write one above.
func RealTime(ops []*history.Op) (found []string) {
	indexed := answered(ops)
	byReturn := slices.SortedFunc(slices.Values(indexed), func(a, b *history.Op) int { return cmp.Compare(a.Returned, b.Returned) })
	byCall := slices.SortedFunc(slices.Values(indexed), func(a, b *history.Op) int { return cmp.Compare(a.Called, b.Called) })
	var newest *history.Op // of the answers that came before
	next := 0
	for _, o := range byCall {
		for ; next < len(byReturn) && byReturn[next].Returned < o.Called; next++ {
			if newest == nil || byReturn[next].Index > newest.Index {
				newest = byReturn[next]
			}
		}
		if newest == nil || !o.Linearizable() {
			continue
		}
		if o.Index < newest.Index || o.Kind.Writes() && o.Index == newest.Index {
			found = append(found, fmt.Sprintf("an answer went back in time:\n\t%v\n\tafter %v", o, newest))
		}
	}
	return found
}

// Levels checks what the weaker consistency levels promise: at-least-index is
// never below the index asked for, bounded is never older than the age asked
// for, and what one process answers locally never goes back.
func Levels(ops []*history.Op) (found []string) {
	acked := newestBy(slices.DeleteFunc(answered(ops), func(o *history.Op) bool { return !o.Kind.Writes() }),
		func(o *history.Op) int64 { return int64(o.Returned) }, func(o *history.Op) uint64 { return o.Index })
	local := map[int]*history.Op{} // by life
	for _, o := range ops {
		if o.Kind != history.Get || o.Index == 0 {
			continue
		}
		switch o.Level {
		case conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX:
			if o.Index < o.AtLeast {
				found = append(found, fmt.Sprintf("below the index that it asked for: %v", o))
			}
		case conclavev1.Consistency_CONSISTENCY_BOUNDED:
			if w := acked.upTo(int64(o.Called-o.MaxAge) - 1); w != nil && w.Index > o.Index {
				found = append(found, fmt.Sprintf("older than it may be: %v\n\tdoes not show %v", o, w))
			}
		case conclavev1.Consistency_CONSISTENCY_LOCAL:
			// ops are in the order of their return; only what did not overlap counts.
			if before := local[o.Life]; before != nil && before.Returned < o.Called && before.Index > o.Index {
				found = append(found, fmt.Sprintf("a node went back: %v\n\tafter %v", o, before))
			}
			if before := local[o.Life]; before == nil || before.Index < o.Index {
				local[o.Life] = o
			}
		}
	}
	return found
}

// Prefix checks that every read, of whatever level, shows the state at the index
// that it names: the newest version acknowledged at or below the index, or one
// of unknown outcome that came after it, and nothing from above the index.
func Prefix(ops []*history.Op) (found []string) {
	puts := map[string][]*history.Op{} // by key, acknowledged
	values := map[string]*history.Op{} // every put
	for _, o := range ops {
		if o.Kind != history.Put {
			continue
		}
		values[o.Value] = o
		if o.Outcome == history.Done && o.Index > 0 {
			puts[o.Key] = append(puts[o.Key], o)
		}
	}
	newest := map[string]ranked{}
	for key, all := range puts {
		newest[key] = newestBy(all, func(o *history.Op) int64 { return int64(o.Index) }, func(o *history.Op) uint64 { return o.Number })
	}
	for _, o := range ops {
		if o.Kind != history.Get || o.Outcome != history.Done {
			continue
		}
		w := values[o.Read]
		if w == nil || w.Key != o.Key {
			found = append(found, fmt.Sprintf("a value that nobody wrote there: %v", o))
			continue
		}
		if w.Outcome == history.Refused || w.Outcome == history.NotDone {
			found = append(found, fmt.Sprintf("a write that was said not to be done: %v\n\twritten by %v", o, w))
		}
		if w.Outcome == history.Done && (o.Index > 0 && w.Index > o.Index || w.Number != o.Number) {
			found = append(found, fmt.Sprintf("from above its index, or under another number: %v\n\twritten by %v", o, w))
		}
		if p := newest[o.Key].upTo(int64(o.Index)); o.Index > 0 && p != nil && o.Version == 0 && p.Number > o.Number {
			found = append(found, fmt.Sprintf("older than its index: %v\n\tdoes not show %v", o, p))
		}
	}
	return found
}

// Numbers checks that every acknowledged write is one version, that no number
// was given twice, and that versions and indexes of a secret grow together.
func Numbers(ops []*history.Op) (found []string) {
	byKey := map[string][]*history.Op{}
	for _, o := range ops {
		if o.Kind == history.Put && o.Outcome == history.Done {
			byKey[o.Key] = append(byKey[o.Key], o)
		}
	}
	for _, puts := range byKey {
		slices.SortFunc(puts, func(a, b *history.Op) int { return cmp.Compare(a.Number, b.Number) })
		for i := 1; i < len(puts); i++ {
			// Over HTTP a node that is sealed under a request answers without an index.
			if puts[i].Number == puts[i-1].Number || puts[i].Index > 0 && puts[i].Index < puts[i-1].Index {
				found = append(found, fmt.Sprintf("versions out of order:\n\t%v\n\t%v", puts[i-1], puts[i]))
			}
		}
	}
	return found
}

// LeaseTimes checks usable leases against the log: at the index that a lookup
// names, the lease must not have expired. at tells the log time at an index, and
// false when no node has applied it. (That none ends early is in the model.)
func LeaseTimes(ops []*history.Op, at func(index uint64) (time.Time, bool)) (found []string) {
	for _, o := range ops {
		if o.Kind != history.Lookup || o.Outcome != history.Done {
			continue
		}
		now, ok := at(o.Index)
		if !ok {
			found = append(found, fmt.Sprintf("an index that no node applied: %v", o))
			continue
		}
		if !now.Before(o.Expires) {
			found = append(found, fmt.Sprintf("usable at log time %d, after it expired: %v", now.UnixNano(), o))
		}
	}
	return found
}

// ranked are ops in the order of one number, each with the best of those up to it
// by another.
type ranked struct {
	at   []int64
	best []*history.Op
}

func newestBy(ops []*history.Op, at func(*history.Op) int64, rank func(*history.Op) uint64) ranked {
	sorted := slices.SortedStableFunc(slices.Values(ops), func(a, b *history.Op) int { return cmp.Compare(at(a), at(b)) })
	var r ranked
	for _, o := range sorted {
		best := o
		if n := len(r.best); n > 0 && rank(r.best[n-1]) >= rank(o) {
			best = r.best[n-1]
		}
		r.at, r.best = append(r.at, at(o)), append(r.best, best)
	}
	return r
}

// upTo is the best op whose number is at most n; nil if there is none.
func (r ranked) upTo(n int64) *history.Op {
	i, _ := slices.BinarySearch(r.at, n+1) // where n+1 would stand
	if i == 0 {
		return nil
	}
	return r.best[i-1]
}

// answered returns the ops that were carried out and name an index.
func answered(ops []*history.Op) []*history.Op {
	var out []*history.Op
	for _, o := range ops {
		if o.Outcome == history.Done && o.Index != 0 {
			out = append(out, o)
		}
	}
	return out
}
