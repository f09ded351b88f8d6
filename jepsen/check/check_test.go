package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

const (
	local   = conclavev1.Consistency_CONSISTENCY_LOCAL
	atLeast = conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX
	bounded = conclavev1.Consistency_CONSISTENCY_BOUNDED
)

func put(called, returned time.Duration, value string, n, index uint64) *history.Op {
	return &history.Op{Kind: history.Put, Key: "k", Called: called, Returned: returned, Value: value, Number: n, Index: index, Outcome: history.Done}
}

func get(level conclavev1.Consistency, called time.Duration, value string, n, index uint64) *history.Op {
	return &history.Op{Kind: history.Get, Key: "k", Level: level, Called: called, Returned: called + 1, Read: value, Number: n, Index: index, Outcome: history.Done}
}

func with(o *history.Op, change func(*history.Op)) *history.Op {
	change(o)
	return o
}

// change is an acknowledged delete, undelete or destroy.
func change(kind history.Kind, version, index uint64) *history.Op {
	return &history.Op{Kind: kind, Key: "k", Version: version, Index: index, Outcome: history.Done}
}

func leased(kind history.Kind, number, index uint64) *history.Op {
	return &history.Op{Kind: kind, Key: "l", Number: number, Index: index, Outcome: history.Done}
}

// Each check passes a history that is right and finds what is wrong in one that
// differs in a single answer. Log time is the index in seconds, known up to index 20.
func TestChecks(t *testing.T) {
	logTime := func(index uint64) (time.Time, bool) { return time.Unix(int64(index), 0), index <= 20 }
	lookup := func(index uint64, expires int64) *history.Op {
		return &history.Op{Kind: history.Lookup, Key: "l", Outcome: history.Done, Number: 1, Index: index, Expires: time.Unix(expires, 0)}
	}
	times := func(ops []*history.Op) []string { return check.LeaseTimes(ops, logTime) }
	cases := []struct {
		name  string
		check func([]*history.Op) []string
		ops   []*history.Op
		want  string // part of the one finding; "": none
	}{
		{"in order", check.RealTime, []*history.Op{put(0, 1, "a", 1, 5), get(0, 2, "a", 1, 5), put(4, 5, "b", 2, 6)}, ""},
		{"read behind", check.RealTime, []*history.Op{put(0, 1, "a", 1, 5), get(0, 2, "", 0, 4)}, "back in time"},
		{"local read behind", check.RealTime, []*history.Op{put(0, 1, "a", 1, 5), get(local, 2, "", 0, 4)}, ""},
		{"write at an index that was seen", check.RealTime, []*history.Op{get(0, 0, "a", 1, 5), put(2, 3, "b", 2, 5)}, "back in time"},
		{"at least", check.Levels, []*history.Op{with(get(atLeast, 0, "a", 1, 5), func(o *history.Op) { o.AtLeast = 5 })}, ""},
		{"less than at least", check.Levels, []*history.Op{with(get(atLeast, 0, "a", 1, 4), func(o *history.Op) { o.AtLeast = 5 })}, "below the index"},
		{"young enough", check.Levels, []*history.Op{put(0, 1, "a", 1, 5), with(get(bounded, 9, "", 0, 4), func(o *history.Op) { o.MaxAge = 8 })}, ""},
		{"too old", check.Levels, []*history.Op{put(0, 1, "a", 1, 5), with(get(bounded, 9, "", 0, 4), func(o *history.Op) { o.MaxAge = 7 })}, "older than it may be"},
		{"local goes on", check.Levels, []*history.Op{get(local, 0, "a", 1, 5), get(local, 2, "a", 1, 5)}, ""},
		{"local goes back", check.Levels, []*history.Op{get(local, 0, "a", 1, 5), get(local, 2, "a", 1, 4)}, "a node went back"},
		{"prefix", check.Prefix, []*history.Op{put(0, 1, "a", 1, 5), put(2, 3, "b", 2, 7), get(local, 9, "a", 1, 6)}, ""},
		{"less than the index", check.Prefix, []*history.Op{put(0, 1, "a", 1, 5), put(2, 3, "b", 2, 7), get(local, 9, "a", 1, 7)}, "older than its index"},
		{"more than the index", check.Prefix, []*history.Op{put(0, 1, "a", 1, 5), get(local, 9, "a", 1, 4)}, "from above its index"},
		{"another's value", check.Prefix, []*history.Op{get(local, 9, "z", 1, 4)}, "nobody wrote"},
		{"refused and yet there", check.Prefix, []*history.Op{with(put(0, 1, "a", 1, 0), func(o *history.Op) { o.Outcome = history.NotDone }), get(local, 9, "a", 1, 4)}, "said not to be done"},
		{"numbers", check.Numbers, []*history.Op{put(0, 1, "a", 1, 5), put(0, 1, "b", 2, 6)}, ""},
		{"number twice", check.Numbers, []*history.Op{put(0, 1, "a", 1, 5), put(0, 1, "b", 1, 6)}, "out of order"},
		{"numbers against the log", check.Numbers, []*history.Op{put(0, 1, "a", 1, 6), put(0, 1, "b", 2, 5)}, "out of order"},
		{"once", check.Once, []*history.Op{put(0, 1, "a", 1, 5), put(0, 1, "b", 2, 6), get(local, 9, "a", 1, 5)}, ""},
		{"twice", check.Once, []*history.Op{put(0, 1, "a", 1, 5), get(local, 9, "a", 2, 6), with(put(0, 1, "u", 0, 0), func(o *history.Op) { o.Outcome = history.Unknown })}, "became two versions"},
		{"a gap that an unknown write explains", check.Once, []*history.Op{with(put(0, 1, "u", 0, 0), func(o *history.Op) { o.Outcome = history.Unknown }), put(0, 1, "b", 2, 6)}, ""},
		{"a gap that nothing explains", check.Once, []*history.Op{with(put(0, 1, "u", 0, 0), func(o *history.Op) { o.Outcome = history.Unknown }), put(0, 1, "b", 3, 6)}, "1 versions of k are nobody's"},
		{"deleted and back", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), change(history.Delete, 0, 6), change(history.Undelete, 1, 7), get(local, 9, "a", 1, 8)}, ""},
		{"read before it was deleted", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), change(history.Delete, 0, 9), get(local, 9, "a", 1, 8)}, ""},
		{"deleted and there", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), change(history.Delete, 0, 6), get(local, 9, "a", 1, 8)}, "deleted and yet there"},
		{"another version deleted", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), put(0, 1, "b", 2, 7), change(history.Delete, 0, 6), get(local, 9, "b", 2, 8)}, ""},
		{"perhaps restored", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), change(history.Delete, 0, 6), with(change(history.Undelete, 1, 0), func(o *history.Op) { o.Outcome = history.Unknown }), get(local, 9, "a", 1, 8)}, ""},
		{"destroyed and there", check.Flags, []*history.Op{put(0, 1, "a", 1, 5), change(history.Destroy, 1, 6), change(history.Undelete, 1, 7), get(local, 9, "a", 1, 8)}, "destroyed and yet there"},
		{"lease goes on", check.Generations, []*history.Op{leased(history.Lookup, 2, 7), leased(history.Grant, 1, 5), leased(history.Renew, 2, 7), leased(history.Revoke, 0, 8)}, ""},
		{"lease goes back", check.Generations, []*history.Op{leased(history.Grant, 1, 5), leased(history.Renew, 2, 6), leased(history.Lookup, 1, 7)}, "went back"},
		{"generation twice", check.Generations, []*history.Op{leased(history.Grant, 1, 5), leased(history.Renew, 2, 6), leased(history.Renew, 2, 7)}, "went back"},
		{"lease after its revocation", check.Generations, []*history.Op{leased(history.Grant, 1, 5), leased(history.Revoke, 0, 6), leased(history.Lookup, 1, 7)}, "after it was revoked"},
		{"lease in time", times, []*history.Op{lookup(9, 10)}, ""},
		{"lease out of time", times, []*history.Op{lookup(10, 10)}, "after it expired"},
		{"index of nobody", times, []*history.Op{lookup(21, 30)}, "no node applied"},
	}
	for _, c := range cases {
		found := c.check(c.ops)
		if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}

// Of a history that has no order, the request is named that spoils it, and no other.
func TestExplain(t *testing.T) {
	stale := get(0, 30, "one", 1, 2)
	ops := []*history.Op{put(0, 5, "one", 1, 1), put(10, 15, "two", 2, 2), stale, get(0, 40, "two", 2, 2)}
	a, ok := check.Explain(ops, "k")
	if !ok || a.Stuck != stale {
		t.Errorf("stuck at %v, want %v", a.Stuck, stale)
	}
	var picture strings.Builder
	if err := a.Draw(&picture); err != nil || !strings.Contains(picture.String(), "get -\\u003e done number 1 read one index 2") {
		t.Errorf("the picture does not show it: %v", err)
	}
	if a, ok := check.Explain(ops[:2], "k"); !ok || a.Stuck != nil {
		t.Errorf("stuck at %v in a good history", a.Stuck)
	}
	if _, ok := check.Explain(ops, "another"); ok {
		t.Error("a key that nobody asked for has an account")
	}
}
