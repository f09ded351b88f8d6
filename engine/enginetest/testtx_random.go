package enginetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// likeReference lets harness and reference do the same random transactions, some
// of them side by side, and demands the same answers.
func likeReference(t *testing.T, open func(*testing.T) Harness) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	ends := map[string]int{}
	for seed := range seeds {
		h := open(t)
		tx := h.Begin(home)
		r := &rivals{t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 17)), h: h, store: NewStore(tx.Now())}
		tx.Discard()
		for range 120 {
			r.step(ends)
		}
		for _, open := range r.open {
			open.got.Discard()
		}
	}
	// Otherwise the dice have shown nothing.
	for _, end := range []error{nil, ErrConflict, ErrRefused} {
		if ends[fmt.Sprint(end)] < int(seeds)/2 {
			t.Errorf("only %d transactions ended with %v: %v", ends[fmt.Sprint(end)], end, ends)
		}
	}
}

// rivals is a harness beside the reference.
type rivals struct {
	t     *testing.T
	seed  uint64
	dice  *rand.Rand
	h     Harness
	store *Store
	open  []rivalry
	past  []string // what was done so far, for who has to find out
}

// rivalry is one transaction on both.
type rivalry struct {
	got    Transaction
	want   *Tx
	id     int
	staged bool
}

func (r *rivals) step(ends map[string]int) {
	switch n := r.dice.IntN(10); {
	case len(r.open) == 0 || n == 0 && len(r.open) < 3:
		mount := []string{home, home, "other"}[r.dice.IntN(3)]
		r.note("%d = begin %s", len(r.past), mount)
		r.open = append(r.open, rivalry{got: r.h.Begin(mount), want: r.store.Begin(mount), id: len(r.past) - 1})
	case n == 1:
		r.end(ends)
	case n == 2 && r.dice.IntN(3) == 0:
		d := time.Duration(1 + r.dice.IntN(5))
		r.note("advance %d", d)
		r.h.Advance(d)
		r.store.Advance(d)
	default:
		r.call(&r.open[r.dice.IntN(len(r.open))])
	}
}

func (r *rivals) note(format string, args ...any) {
	r.past = append(r.past, fmt.Sprintf(format, args...))
}

func (r *rivals) differ(got, want any) {
	r.t.Helper()
	r.t.Fatalf("seed %d: the last of %q gives %+v, the reference %+v", r.seed, r.past, got, want)
}

// end ends a transaction on both: mostly by a commit, if it staged anything.
func (r *rivals) end(ends map[string]int) {
	i := r.dice.IntN(len(r.open))
	x := r.open[i]
	r.open = slices.Delete(r.open, i, i+1)
	if !x.staged || r.dice.IntN(8) == 0 {
		r.note("%d: discard", x.id)
		x.got.Discard()
		return
	}
	r.note("%d: commit", x.id)
	got, want := x.got.Commit(), x.want.Commit()
	if !errors.Is(got, want) || (want == nil && got != nil) {
		r.differ(got, want)
	}
	ends[fmt.Sprint(want)]++
}

var randomPaths = []engine.Path{{"a"}, {"a", "b"}, {"a", "b", "c"}, {"d"}, {"d", "e"}}

// call makes one call on both sides of x.
func (r *rivals) call(x *rivalry) {
	p := randomPaths[r.dice.IntN(len(randomPaths))]
	if r.dice.IntN(2) == 0 {
		r.read(x, p)
		return
	}
	x.staged = true
	value := fmt.Appendf(nil, "%d", len(r.past))
	var got, want error
	switch r.dice.IntN(9) {
	case 0, 1, 2:
		ttl := time.Duration(max(0, r.dice.IntN(8)-4))
		r.note("%d: append %v %s ttl %d", x.id, p, value, ttl)
		n, err := x.got.AppendVersion(p, value, ttl)
		m, err2 := x.want.AppendVersion(p, value, ttl)
		if got, want = err, err2; n != m {
			r.differ(n, m)
		}
	case 3, 4:
		change := engine.Change(1 + r.dice.IntN(3))
		numbers := []uint64{1 + r.dice.Uint64N(2)}
		if r.dice.IntN(3) == 0 {
			numbers = append(numbers, 1+r.dice.Uint64N(3))
		}
		r.note("%d: change %v %d %v", x.id, p, change, numbers)
		got, want = x.got.ChangeVersions(p, change, numbers), x.want.ChangeVersions(p, change, numbers)
	case 5:
		keep := r.dice.Uint64N(4)
		r.note("%d: limits %v %d", x.id, p, keep)
		got, want = x.got.SetLimits(p, keep), x.want.SetLimits(p, keep)
	case 6:
		r.note("%d: put record %v %s", x.id, p, value)
		got, want = x.got.PutRecord(p, value), x.want.PutRecord(p, value)
	case 8:
		ttl := time.Duration(1 + r.dice.IntN(6))
		r.note("%d: put expiring %v %s ttl %d", x.id, p, value, ttl)
		got, want = x.got.PutExpiring(p, value, ttl), x.want.PutExpiring(p, value, ttl)
	case 7:
		if r.dice.IntN(2) == 0 {
			r.note("%d: delete record %v", x.id, p)
			got, want = x.got.DeleteRecord(p), x.want.DeleteRecord(p)
		} else {
			r.note("%d: purge %v", x.id, p)
			got, want = x.got.PurgeSecret(p), x.want.PurgeSecret(p)
		}
	}
	if cmp.Or(got, want) != nil {
		r.differ(got, want)
	}
}

// read asks both sides of x about p.
func (r *rivals) read(x *rivalry, p engine.Path) {
	switch r.dice.IntN(5) {
	case 0:
		r.note("%d: record %v", x.id, p)
		got, err := x.got.Record(p)
		want, _ := x.want.Record(p) // the reference never fails
		if err != nil || string(got) != string(want) || (got == nil) != (want == nil) {
			r.differ([]any{got, err}, want)
		}
	case 1:
		r.note("%d: head %v", x.id, p)
		got, err := x.got.Head(p)
		if want, _ := x.want.Head(p); err != nil || !sameHead(got, want) {
			r.differ([]any{got, err}, want)
		}
	case 2:
		n := r.dice.Uint64N(5)
		r.note("%d: version %v %d", x.id, p, n)
		got, err := x.got.Version(p, n)
		if want, _ := x.want.Version(p, n); err != nil || !sameVersion(got, want) {
			r.differ([]any{got, err}, want)
		}
	case 4:
		after, limit := []string{"", "a", "a/"}[r.dice.IntN(3)], 1+r.dice.IntN(3)
		r.note("%d: records %v after %q at most %d", x.id, p[:len(p)-1], after, limit)
		got, more, err := x.got.Records(p[:len(p)-1], after, limit)
		want, wantMore, _ := x.want.Records(p[:len(p)-1], after, limit)
		if err != nil || more != wantMore || !sameNames(got, want) {
			r.differ([]any{got, more, err}, []any{want, wantMore})
		}
	case 3:
		after, limit := []string{"", "a", "a/"}[r.dice.IntN(3)], 1+r.dice.IntN(3)
		r.note("%d: children %v after %q at most %d", x.id, p[:len(p)-1], after, limit)
		got, more, err := x.got.Children(p[:len(p)-1], after, limit)
		want, wantMore, _ := x.want.Children(p[:len(p)-1], after, limit)
		if err != nil || more != wantMore || !sameNames(got, want) {
			r.differ([]any{got, more, err}, []any{want, wantMore})
		}
	}
	if got, want := x.got.Now(), x.want.Now(); !got.Equal(want) {
		r.differ(got, want)
	}
}
