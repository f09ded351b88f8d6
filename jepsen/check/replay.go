package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// Once checks that each write became one version at most: a value, which no two
// writes share, is never seen under two numbers, and of the numbers below the
// highest no more are missing than writes of unknown outcome could have taken.
func Once(ops []*history.Op) (found []string) {
	type seen struct {
		number uint64
		by     *history.Op
	}
	values := map[string]seen{}
	numbers := map[string]map[uint64]bool{} // by key
	unknown := map[string]int{}             // writes by key
	highest := map[string]*history.Op{}
	for _, o := range ops {
		value := o.Value
		switch {
		case o.Kind == history.Put && o.Outcome == history.Unknown:
			unknown[o.Key]++
			continue
		case o.Kind == history.Get:
			value = o.Read
		case o.Kind != history.Put:
			continue
		}
		if o.Outcome != history.Done {
			continue
		}
		if before, ok := values[value]; ok && before.number != o.Number {
			found = append(found, fmt.Sprintf("one write became two versions:\n\t%v\n\t%v", before.by, o))
		}
		values[value] = seen{o.Number, o}
		if numbers[o.Key] == nil {
			numbers[o.Key] = map[uint64]bool{}
		}
		if o.Kind == history.Put {
			numbers[o.Key][o.Number] = true
		}
		if h := highest[o.Key]; h == nil || h.Number < o.Number {
			highest[o.Key] = o
		}
	}
	for key, last := range highest {
		if missing := int(last.Number) - len(numbers[key]); missing > unknown[key] {
			found = append(found, fmt.Sprintf("%d versions of %s are nobody's: %d numbers are taken, %d writes were acknowledged, and the outcome of %d is unknown; the last is %v",
				missing-unknown[key], key, last.Number, len(numbers[key]), unknown[key], last))
		}
	}
	slices.Sort(found)
	return found
}

// Flags checks that no read shows a version that, at the read's index, was
// destroyed, or deleted and not brought back. A change of unknown outcome may have
// happened at any time after it was sent, so it excuses what it could explain.
func Flags(ops []*history.Op) (found []string) {
	changes := map[version][]*history.Op{} // acknowledged, of versions that are named
	restored := map[version]bool{}         // perhaps, by an undelete of unknown outcome
	for _, o := range ops {
		if o.Kind != history.Undelete && o.Kind != history.Destroy {
			continue
		}
		v := version{o.Key, o.Version}
		switch {
		case o.Outcome == history.Done && o.Index > 0:
			changes[v] = append(changes[v], o)
		case o.Outcome == history.Unknown && o.Kind == history.Undelete:
			restored[v] = true
		}
	}
	deletions(ops, changes)
	for v := range changes {
		slices.SortStableFunc(changes[v], func(a, b *history.Op) int { return cmp.Compare(a.Index, b.Index) })
	}
	for _, o := range ops {
		if o.Kind != history.Get || o.Outcome != history.Done {
			continue
		}
		v := version{o.Key, o.Number}
		var last *history.Op
		for _, c := range changes[v] {
			if c.Index > o.Index {
				break
			}
			if c.Kind == history.Destroy {
				found = append(found, fmt.Sprintf("destroyed and yet there: %v\n\tafter %v", o, c))
			}
			last = c
		}
		if last != nil && last.Kind == history.Delete && !restored[v] {
			found = append(found, fmt.Sprintf("deleted and yet there: %v\n\tafter %v", o, last))
		}
	}
	return found
}

type version struct {
	key    string
	number uint64
}

// deletions adds acknowledged deletions to the changes of the versions that they
// hit: the newest at their index. Only the answers of writes of the same key tell which
// that was, so keys with writes of unknown outcome are left to the other oracle.
func deletions(ops []*history.Op, changes map[version][]*history.Op) {
	puts := map[string][]*history.Op{}
	doubtful := map[string]bool{}
	for _, o := range ops {
		if o.Kind == history.Put && o.Outcome == history.Unknown {
			doubtful[o.Key] = true
		}
		if o.Kind == history.Put && o.Outcome == history.Done {
			puts[o.Key] = append(puts[o.Key], o)
		}
	}
	newest := map[string]ranked{}
	for key, all := range puts {
		newest[key] = newestBy(all, func(o *history.Op) int64 { return int64(o.Index) }, func(o *history.Op) uint64 { return o.Number })
	}
	for _, o := range ops {
		if o.Kind != history.Delete || o.Outcome != history.Done || o.Index == 0 || doubtful[o.Key] {
			continue
		}
		if p := newest[o.Key].upTo(int64(o.Index)); p != nil && p.Index < o.Index {
			v := version{o.Key, p.Number}
			changes[v] = append(changes[v], o)
		}
	}
}

// Generations checks leases along the log: renewals count up, and nobody finds or
// renews a lease at an index above that of an acknowledged revocation.
func Generations(ops []*history.Op) (found []string) {
	byLease := map[string][]*history.Op{}
	for _, o := range ops {
		switch o.Kind {
		case history.Grant, history.Renew, history.Revoke, history.Lookup:
			if o.Outcome == history.Done && o.Index > 0 {
				byLease[o.Key] = append(byLease[o.Key], o)
			}
		}
	}
	for _, all := range byLease {
		// A read at an index sees what was written there.
		slices.SortStableFunc(all, func(a, b *history.Op) int {
			if c := cmp.Compare(a.Index, b.Index); c != 0 || a.Kind.Writes() == b.Kind.Writes() {
				return c
			}
			if a.Kind.Writes() {
				return -1
			}
			return 1
		})
		var newest, revoked *history.Op
		for _, o := range all {
			if o.Kind == history.Revoke {
				revoked = o
				continue
			}
			if revoked != nil && revoked.Index < o.Index {
				found = append(found, fmt.Sprintf("there after it was revoked: %v\n\tafter %v", o, revoked))
			}
			if newest != nil && (o.Number < newest.Number || o.Kind != history.Lookup && o.Number == newest.Number) {
				found = append(found, fmt.Sprintf("a lease went back: %v\n\tafter %v", o, newest))
			}
			newest = o
		}
	}
	slices.Sort(found)
	return found
}
