package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

// OrderedStore is the ordered map of bytes that the state machine keeps its tables
// in. A key has at least one byte. Views and one transaction at a time may be used
// concurrently.
type OrderedStore interface {
	// View returns the map as it is now, for reading. It does not change and must
	// be closed.
	View() (OrderedView, error)
	// Begin starts a transaction, which must be ended.
	Begin() (OrderedTxn, error)
	// Replace fills a new map, in which set writes a key, and puts it in the place
	// of the old one when fill returned nil; on return that is durable. Otherwise
	// it returns fill's error, wrapped perhaps, and the old map is untouched.
	Replace(fill func(set func(key, value []byte) error) error) error
	// Flush makes durable what was committed.
	Flush() error
	// Close ends the store, whose views are closed.
	io.Closer
}

// OrderedReader reads the map.
type OrderedReader interface {
	// Get returns the value of key, which then belongs to the caller, and whether it is there.
	Get(key []byte) (value []byte, there bool, err error)
	// Cursor walks the keys from lower to before upper; nil is no bound. It must be closed.
	Cursor(lower, upper []byte) (Cursor, error)
}

// OrderedView is the map at one moment. It is safe for concurrent use.
type OrderedView interface {
	OrderedReader
	io.Closer
}

// OrderedTxn collects changes and shows them to its own reads. It serves one
// goroutine.
type OrderedTxn interface {
	OrderedReader
	// GetBefore is Get without the changes of the transaction.
	GetBefore(key []byte) (value []byte, there bool, err error)
	// Set and Delete change a key; they copy what they are given.
	Set(key, value []byte) error
	Delete(key []byte) error
	// Commit does all of it; after a crash it was done as a whole or not at all,
	// and not unless everything committed before was.
	Commit() error
	// Discard does none of it.
	Discard() error
}

// Cursor walks keys in the order of their bytes. It starts before the first.
type Cursor interface {
	// Next moves on by one, SeekGE to the first key at or after key; false at the end.
	Next() bool
	SeekGE(key []byte) bool
	// Key and Value are where the cursor stands, valid until it moves.
	Key() []byte
	Value() ([]byte, error)
	// Err and Close return what stopped the cursor before the end, if anything did.
	Err() error
	io.Closer
}

// TestOrderedStore checks what the documentation of [OrderedStore] and its parts
// promises.
func TestOrderedStore(t *testing.T, disk func(*testing.T) Disk[OrderedStore]) {
	parts(t, disk, []part[OrderedStore]{
		{"keys and values", orderedKeys},
		{"cursor", orderedCursor},
		{"slices", orderedSlices},
		{"own changes", orderedOwnChanges},
		{"discard", orderedDiscard},
		{"views stand still", orderedViews},
		{"durability", orderedDurability},
		{"replace", orderedReplace},
		{"failed replace", orderedFailedReplace},
		{"readers", orderedReaders},
	})
	t.Run("closed", func(t *testing.T) { orderedClosed(t, disk(t)) })
	t.Run("random", func(t *testing.T) {
		seeds := uint64(4)
		if testing.Short() {
			seeds = 1
		}
		for seed := range seeds {
			randomOrdered(t, disk(t), seed)
		}
	})
}

type ordered = life[OrderedStore]

// contents is what a map should hold.
type contents map[string]string

// commit writes changes in one transaction; a value of nil deletes.
func commit(l *ordered, changes map[string][]byte) {
	l.Helper()
	x, err := l.store.Begin()
	l.must(err)
	for k, v := range changes {
		if v == nil {
			l.must(x.Delete([]byte(k)))
		} else {
			l.must(x.Set([]byte(k), v))
		}
	}
	l.must(x.Commit())
}

func put(l *ordered, k, v string) {
	l.Helper()
	commit(l, map[string][]byte{k: []byte(v)})
}

// all reads everything between the bounds with a cursor.
func all(l *ordered, r OrderedReader, lower, upper []byte) contents {
	l.Helper()
	c, err := r.Cursor(lower, upper)
	l.must(err)
	got, before := contents{}, []byte(nil)
	for c.Next() {
		k := bytes.Clone(c.Key())
		if len(got) > 0 && bytes.Compare(before, k) >= 0 {
			l.Fatalf("the cursor goes from %q to %q", before, k)
		}
		v, err := c.Value()
		l.must(err)
		got[string(k)], before = string(v), k
	}
	l.must(errors.Join(c.Err(), c.Close()))
	return got
}

// wantAll compares a whole map, by cursor and key by key.
func wantAll(l *ordered, r OrderedReader, want contents) {
	l.Helper()
	got := all(l, r, nil, nil)
	for k, v := range want {
		wantKey(l, r, k, v)
		if g, there := got[k]; !there || g != v {
			l.Fatalf("the cursor shows %q as %q (there: %v), want %q", k, short(g), there, short(v))
		}
	}
	for k := range got {
		if _, there := want[k]; !there {
			l.Fatalf("the cursor shows %q, which is absent", k)
		}
	}
}

func short(s string) string { return s[:min(len(s), 40)] }

func wantKey(l *ordered, r OrderedReader, k, v string) {
	l.Helper()
	got, there, err := r.Get([]byte(k))
	if err != nil || !there || string(got) != v {
		l.Fatalf("%q: got %q, there %v, %v; want %q", k, short(string(got)), there, err, short(v))
	}
}

func wantNoKey(l *ordered, r OrderedReader, k string) {
	l.Helper()
	if got, there, err := r.Get([]byte(k)); err != nil || there || len(got) > 0 {
		l.Fatalf("%q: got %q, there %v, %v; want nothing", k, got, there, err)
	}
}

// look runs f on a view.
func look(l *ordered, f func(OrderedView)) {
	l.Helper()
	v, err := l.store.View()
	l.must(err)
	f(v)
	l.must(v.Close())
}

// now checks the whole map as it is.
func now(l *ordered, want contents) {
	l.Helper()
	look(l, func(v OrderedView) { wantAll(l, v, want) })
}

// odd are keys that a careless order or encoding mixes up.
var odd = []string{"\x00", "\x00\x00", "\x01", "a", "a\x00", "a\x00b", "a\xff", "a\xff\xff", "aa", "b", "\xc3\xa9", "\xff", "\xff\x00", "\xff\xff"}

// Keys are bytes and so are values; an empty value is there, and the last one counts.
func orderedKeys(l *ordered) {
	now(l, contents{})
	want := contents{}
	for i, k := range odd {
		put(l, k, "before")
		want[k] = string(bytes.Repeat([]byte{byte(i), 0, 0xff}, i*i*100))
		put(l, k, want[k])
	}
	for range 2 {
		now(l, want)
		look(l, func(v OrderedView) {
			for _, k := range []string{"\x00\x01", "a\x01", "c", "aaa"} {
				wantNoKey(l, v, k)
			}
		})
		l.restart()
	}
	for _, k := range odd[:7] {
		commit(l, map[string][]byte{k: nil, k + " never was": nil})
		delete(want, k)
	}
	for range 2 {
		now(l, want)
		l.restart()
	}
}

// A cursor shows what is between its bounds, the lower one included, in the order
// of the bytes, and seeks in both directions without leaving them.
func orderedCursor(l *ordered) {
	for _, k := range odd {
		put(l, k, k)
	}
	check := func(r OrderedReader) {
		l.Helper()
		bounds := append([]string{"", "a\x00a", "c"}, odd...)
		for _, lower := range bounds {
			for _, upper := range bounds {
				if lower > upper && upper != "" {
					continue // makes no sense
				}
				checkRange(l, r, lower, upper)
			}
		}
	}
	look(l, func(v OrderedView) { check(v) })
	x, err := l.store.Begin()
	l.must(err)
	check(x)
	l.must(x.Discard())
}

// checkRange walks [lower, upper) and seeks in it; "" is no bound.
func checkRange(l *ordered, r OrderedReader, lower, upper string) {
	l.Helper()
	bound := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	var want []string
	for _, k := range odd {
		if k >= lower && (upper == "" || k < upper) {
			want = append(want, k)
		}
	}
	slices.Sort(want)
	c, err := r.Cursor(bound(lower), bound(upper))
	l.must(err)
	var got []string
	for c.Next() {
		got = append(got, string(c.Key()))
	}
	if !slices.Equal(got, want) {
		l.Fatalf("from %q to %q: got %q, want %q", lower, upper, got, want)
	}
	if c.Next() {
		l.Fatalf("from %q to %q: there is something behind the end", lower, upper)
	}
	for _, to := range append([]string{"b\x00", "zz"}, odd...) {
		i, _ := slices.BinarySearch(want, max(to, lower))
		if ok := c.SeekGE([]byte(to)); ok != (i < len(want)) || ok && string(c.Key()) != want[i] {
			l.Fatalf("from %q to %q: seeking %q finds %v", lower, upper, to, ok)
		}
		if i < len(want) {
			if ok := c.Next(); ok != (i+1 < len(want)) || ok && string(c.Key()) != want[i+1] {
				l.Fatalf("from %q to %q: after seeking %q, Next gives %v", lower, upper, to, ok)
			}
		}
	}
	l.must(errors.Join(c.Err(), c.Close()))
}

// Nothing is shared with the caller.
func orderedSlices(l *ordered) {
	set := func(f func(k, v []byte) error) {
		k, v := []byte("key"), []byte("value")
		l.must(f(k, v))
		clear(k)
		clear(v)
	}
	x, err := l.store.Begin()
	l.must(err)
	set(x.Set)
	wantKey(l, x, "key", "value")
	l.must(x.Commit())
	check := func() {
		l.Helper()
		look(l, func(v OrderedView) {
			for range 2 {
				wantAll(l, v, contents{"key": "value"})
				got, _, err := v.Get([]byte("key"))
				l.must(err)
				clear(got)
			}
		})
	}
	check()
	l.must(l.store.Replace(func(f func(k, v []byte) error) error { set(f); return nil }))
	check()
	x, err = l.store.Begin()
	l.must(err)
	k := []byte("key")
	l.must(x.Delete(k))
	clear(k)
	wantNoKey(l, x, "key")
	l.must(x.Commit())
	now(l, contents{})
}

// A transaction sees its changes, before and after it first looked; nobody else
// does before the commit, and everybody afterwards.
func orderedOwnChanges(l *ordered) {
	commit(l, map[string][]byte{"a": []byte("1"), "b": []byte("2"), "c": []byte("3")})
	x, err := l.store.Begin()
	l.must(err)
	old := contents{"a": "1", "b": "2", "c": "3"}
	before := func() {
		l.Helper()
		for k, v := range old {
			if got, there, err := x.GetBefore([]byte(k)); err != nil || !there || string(got) != v {
				l.Fatalf("%q before the transaction: got %q there %v %v, want %q", k, got, there, err, v)
			}
		}
		if got, there, err := x.GetBefore([]byte("d")); err != nil || there || len(got) > 0 {
			l.Fatalf("\"d\" before the transaction: got %q there %v %v", got, there, err)
		}
		now(l, old)
	}
	l.must(errors.Join(x.Set([]byte("a"), []byte("new")), x.Delete([]byte("b")), x.Set([]byte("d"), nil)))
	before()
	wantAll(l, x, contents{"a": "new", "c": "3", "d": ""})
	l.must(errors.Join(x.Set([]byte("b"), []byte("back")), x.Delete([]byte("c")), x.Delete([]byte("a")), x.Set([]byte("a"), []byte("newer")), x.Delete([]byte("d"))))
	before()
	wantAll(l, x, contents{"a": "newer", "b": "back"})
	if got := all(l, x, []byte("b"), []byte("d")); len(got) != 1 || got["b"] != "back" {
		l.Errorf("from b to d: %v", got)
	}
	l.must(x.Commit())
	now(l, contents{"a": "newer", "b": "back"})
}

func orderedDiscard(l *ordered) {
	put(l, "a", "1")
	for _, look := range []bool{false, true} {
		x, err := l.store.Begin()
		l.must(err)
		l.must(errors.Join(x.Set([]byte("a"), []byte("2")), x.Set([]byte("b"), []byte("2"))))
		if look {
			wantAll(l, x, contents{"a": "2", "b": "2"})
		}
		l.must(x.Discard())
		now(l, contents{"a": "1"})
	}
	x, err := l.store.Begin()
	l.must(err)
	l.must(x.Commit()) // of nothing
	l.restart()
	now(l, contents{"a": "1"})
}

// A view, and a cursor on it, show the moment when the view was taken, whatever is
// committed, flushed or replaced meanwhile.
func orderedViews(l *ordered) {
	want := contents{}
	for i := range 100 {
		k := fmt.Sprintf("%03d", i)
		want[k] = "old"
		put(l, k, "old")
	}
	view, err := l.store.View()
	l.must(err)
	c, err := view.Cursor([]byte("010"), nil)
	l.must(err)
	step := func(to string) {
		l.Helper()
		v := []byte(nil)
		if c.Next() {
			v, err = c.Value()
			l.must(err)
		}
		if string(v) != "old" || string(c.Key()) != to {
			l.Fatalf("the cursor is at %q, which is %q; want %q, old", c.Key(), v, to)
		}
	}
	step("010")
	for i := range 100 {
		commit(l, map[string][]byte{fmt.Sprintf("%03d", i): nil, fmt.Sprintf("%03d new", i): []byte("new")})
	}
	step("011")
	l.must(l.store.Flush())
	wantAll(l, view, want)
	l.must(l.store.Replace(func(set func(k, v []byte) error) error { return set([]byte("only"), []byte("one")) }))
	step("012")
	wantAll(l, view, want)
	now(l, contents{"only": "one"})
	l.must(errors.Join(c.Err(), c.Close(), view.Close()))
	now(l, contents{"only": "one"})
}
