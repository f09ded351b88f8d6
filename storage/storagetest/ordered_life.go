package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
)

// A commit is durable with the next Flush, and not lost by a clean end. A power
// cut leaves the map as it was after some commit, not before the last that was
// flushed: none is there in half, none without those before it.
func orderedDurability(l *ordered) {
	const each = 5 // keys of one commit
	write := func(n int) {
		changes := map[string][]byte{}
		for i := range each {
			changes[fmt.Sprint("key", i)] = bytes.Repeat([]byte(strconv.Itoa(n)+" "), 1000)
		}
		changes[fmt.Sprintf("commit %04d", n)] = []byte{}
		commit(l, changes)
	}
	flushed, commits := 0, 80
	if testing.Short() {
		commits = 30
	}
	for n := 1; n <= commits; n++ {
		write(n)
		if n%9 == 0 {
			l.must(l.store.Flush())
			flushed = n
		}
		if after := l.after([]int{0, 60, 100, 30}[n%4]); after != nil {
			wantPrefix(after, flushed, n, each)
			after.end()
		}
		if n%20 == 0 {
			l.restart()
			wantPrefix(l, n, n, each)
			flushed = n
		}
	}
}

// wantPrefix checks that the map is the one after a commit from least to most.
func wantPrefix(l *ordered, least, most, each int) {
	l.Helper()
	look(l, func(v OrderedView) {
		got := all(l, v, nil, nil)
		n := 0
		for n < most && hasKey(got, fmt.Sprintf("commit %04d", n+1)) {
			n++
		}
		if n < least {
			l.Fatalf("the map is that after commit %d, but %d was durable", n, least)
		}
		want := contents{}
		for i := 1; i <= n; i++ {
			want[fmt.Sprintf("commit %04d", i)] = ""
		}
		for i := range each {
			if n > 0 {
				want[fmt.Sprint("key", i)] = string(bytes.Repeat([]byte(strconv.Itoa(n)+" "), 1000))
			}
		}
		wantAll(l, v, want)
	})
}

func hasKey(m contents, k string) bool { _, there := m[k]; return there }

// A new map takes the place of the old one as a whole, in whatever order it was
// filled, and a power cut afterwards leaves the new one.
func orderedReplace(l *ordered) {
	put(l, "old", "1")
	for round := range 3 {
		want := contents{}
		dice := rand.New(rand.NewPCG(uint64(round), 1))
		l.must(l.store.Replace(func(set func(k, v []byte) error) error {
			look(l, func(v OrderedView) { // until it is done the old one is there
				if got := all(l, v, nil, nil); round == 0 && (len(got) != 1 || got["old"] != "1") {
					l.Errorf("while the new map is filled the old one is %v", got)
				}
			})
			for range 500 {
				k, v := fmt.Sprint(dice.IntN(300)), string(bytes.Repeat([]byte("x"), dice.IntN(5000)))
				want[k] = v // the last one counts
				if err := set([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		}))
		for _, unsynced := range []int{0, 50, 100} {
			if after := l.after(unsynced); after != nil {
				now(after, want)
				after.end()
			}
		}
		now(l, want)
		put(l, "after", "all")
		want["after"] = "all"
		l.restart()
		now(l, want)
	}
	l.must(l.store.Replace(func(func(k, v []byte) error) error { return nil }))
	l.crash(0)
	now(l, contents{})
}

// When the filling fails the old map is untouched, and the reason comes back.
func orderedFailedReplace(l *ordered) {
	put(l, "old", "1")
	wrong := errors.New("the stream was cut")
	err := l.store.Replace(func(set func(k, v []byte) error) error {
		for i := range 200 {
			if err := set(fmt.Append(nil, i), make([]byte, 10_000)); err != nil {
				return err
			}
		}
		return wrong
	})
	if !errors.Is(err, wrong) {
		l.Errorf("replacing returns %v, want the error of what fills it", err)
	}
	now(l, contents{"old": "1"})
	put(l, "new", "2")
	for range 2 {
		now(l, contents{"old": "1", "new": "2"})
		l.restart()
	}
}

// Readers beside the writer see one commit each, whole, and at least what was
// committed before they looked.
func orderedReaders(l *ordered) {
	const keys = 8
	var committed atomic.Int64
	write := func() {
		n := committed.Load() + 1
		changes := map[string][]byte{}
		for k := range keys {
			changes[fmt.Sprint(k)] = []byte(strconv.FormatInt(n, 10))
		}
		commit(l, changes)
		if n%20 == 0 {
			l.must(l.store.Flush())
		}
		committed.Store(n)
	}
	write()
	beside(l.T, func(uint64) string {
		least := committed.Load()
		n, err := oneCommit(l.store, keys)
		if err != nil || int64(n) < least {
			return fmt.Sprintf("a reader sees commit %d, %v, want at least %d", n, err, least)
		}
		return ""
	}, write)
	if n, err := oneCommit(l.store, keys); err != nil || int64(n) != committed.Load() {
		l.Errorf("in the end one sees commit %d, %v", n, err)
	}
}

// oneCommit returns which commit a view shows, if it is one.
func oneCommit(s OrderedStore, keys int) (n int, err error) {
	v, err := s.View()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	var seen []string
	c, err := v.Cursor(nil, nil)
	if err != nil {
		return 0, err
	}
	for c.Next() {
		value, err := c.Value()
		if err != nil {
			return 0, errors.Join(err, c.Close())
		}
		seen = append(seen, string(value))
	}
	if err := c.Close(); err != nil {
		return 0, err
	}
	for k := range keys {
		value, _, err := v.Get([]byte(strconv.Itoa(k)))
		if err != nil {
			return 0, err
		}
		seen = append(seen, string(value))
	}
	if different := slices.Compact(seen); len(seen) != 2*keys || len(different) != 1 {
		return 0, fmt.Errorf("a view of several commits: %q", seen)
	}
	return strconv.Atoi(seen[0])
}

// A closed store says so, as often as it is asked.
func orderedClosed(t *testing.T, disk Disk[OrderedStore]) {
	l := begin(t, disk)
	put(l, "a", "1")
	l.end()
	l.must(l.store.Close()) // once more
	_, view := l.store.View()
	_, txn := l.store.Begin()
	for what, err := range map[string]error{"View": view, "Begin": txn, "Flush": l.store.Flush(),
		"Replace": l.store.Replace(func(func(k, v []byte) error) error { return nil })} {
		if err == nil {
			t.Errorf("%s of a closed store succeeds", what)
		}
	}
	l.store = l.disk.Open(t)
	now(l, contents{"a": "1"})
	l.end()
}

// randomOrdered makes random transactions, with restarts, replacements and power
// cuts in between, and compares with maps: all those that a power cut may leave.
func randomOrdered(t *testing.T, disk Disk[OrderedStore], seed uint64) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 8))
	l := begin(t, disk)
	past := []contents{{}} // from the durable one to the present one
	for n := range 80 {
		present := past[len(past)-1]
		switch dice.IntN(12) {
		case 0:
			l.must(l.store.Flush())
			past = []contents{present}
		case 1:
			l.restart()
			past = []contents{present}
		case 2:
			l.crash(dice.IntN(101))
			past = []contents{oneOf(l, past)}
		case 3:
			fresh := contents{fmt.Sprint(n): "replaced"}
			l.must(l.store.Replace(func(set func(k, v []byte) error) error {
				for k, v := range fresh {
					if err := set([]byte(k), []byte(v)); err != nil {
						return err
					}
				}
				return nil
			}))
			past = []contents{fresh}
		default:
			past = append(past, randomTxn(l, dice, present, n))
		}
		now(l, past[len(past)-1])
	}
	l.end()
}

// randomTxn commits or discards a random transaction on the present map and
// returns the map afterwards.
func randomTxn(l *ordered, dice *rand.Rand, present contents, n int) contents {
	l.Helper()
	next := maps.Clone(present)
	x, err := l.store.Begin()
	l.must(err)
	for range 1 + dice.IntN(20) {
		k := odd[dice.IntN(len(odd))] + strconv.Itoa(dice.IntN(3))
		if dice.IntN(2) == 0 {
			v, there, err := x.GetBefore([]byte(k))
			if want, was := present[k]; err != nil || there != was || string(v) != want {
				l.Fatalf("%q before the transaction: got %q there %v %v, want %q there %v", k, short(string(v)), there, err, short(want), was)
			}
		}
		switch dice.IntN(5) {
		case 0:
			l.must(x.Delete([]byte(k)))
			delete(next, k)
		case 1:
			if v, there := next[k]; there {
				wantKey(l, x, k, v)
			} else {
				wantNoKey(l, x, k)
			}
		default:
			next[k] = string(bytes.Repeat([]byte{byte(n)}, dice.IntN(3000)))
			l.must(x.Set([]byte(k), []byte(next[k])))
		}
	}
	if dice.IntN(3) == 0 {
		wantAll(l, x, next)
	}
	if dice.IntN(5) == 0 {
		l.must(x.Discard())
		return present
	}
	l.must(x.Commit())
	return next
}

// oneOf returns the map that the store holds, which must be one of past.
func oneOf(l *ordered, past []contents) contents {
	l.Helper()
	var got contents
	look(l, func(v OrderedView) { got = all(l, v, nil, nil) })
	for _, candidate := range slices.Backward(past) {
		if maps.Equal(got, candidate) {
			return candidate
		}
	}
	l.Fatalf("after a power cut the map is none of the last %d", len(past))
	return nil
}
