package storagetest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// LogStore is what [TestLogStore] tests. Its methods may be called concurrently,
// but for writes, of which Raft has one at a time.
type LogStore interface {
	raft.LogStore
	io.Closer
}

// A Coverable log store wants to know of snapshots. Raft appends behind a gap after
// a snapshot that covers it was installed; TestLogStore says which index that is
// before it does so.
type Coverable interface{ Covered(index uint64) }

// TestLogStore checks what raft.LogStore documents and hashicorp/raft relies on:
// that the log holds what was stored and nothing that was deleted, whatever its
// bounds; that GetLog answers raft.ErrLogNotFound, itself, for what is not there;
// that an acknowledged write has outlived a power cut; that slices are not shared;
// and that readers beside a writer see only what was stored.
func TestLogStore(t *testing.T, disk func(*testing.T) Disk[LogStore]) {
	parts(t, disk, []part[LogStore]{
		{"empty", emptyLog},
		{"round trip", logRoundTrip},
		{"slices", logSlices},
		{"deletion", logDeletion},
		{"suffix", logSuffix},
		{"gap", logGap},
		{"readers", logReaders},
		{"appended is readable", logTail},
	})
	t.Run("random", func(t *testing.T) {
		for seed := range uint64(4) {
			randomLog(t, disk(t), seed)
		}
	})
}

// Entry returns the entry that the suites store at index in term. Its fields and
// their sizes follow from the two; some are empty.
func Entry(index, term uint64) *raft.Log {
	e := &raft.Log{Index: index, Term: term, Type: raft.LogType(index % 6)}
	if index%5 > 0 {
		e.Data = fmt.Appendf(nil, "entry %d of term %d%s", index, term, make([]byte, index*131%7000))
	}
	if index%3 > 0 {
		e.Extensions = fmt.Appendf(nil, "extensions %d", term)
	}
	if index%4 > 0 {
		e.AppendedAt = time.Unix(1_700_000_000+int64(index), int64(term)).UTC()
	}
	return e
}

func entries(term, from, to uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, Entry(i, term))
	}
	return logs
}

// sameEntry compares entries; empty and nil are one, and times are instants.
func sameEntry(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}

func wantSpan(l *life[LogStore], first, last uint64) {
	l.Helper()
	f, err := l.store.FirstIndex()
	l.must(err)
	n, err := l.store.LastIndex()
	l.must(err)
	if f != first || n != last {
		l.Fatalf("the log spans %d to %d, want %d to %d", f, n, first, last)
	}
}

func wantEntry(l *life[LogStore], want *raft.Log) {
	l.Helper()
	got := *Entry(1, 99) // what was in the variable must not shine through
	if err := l.store.GetLog(want.Index, &got); err != nil {
		l.Fatalf("reading entry %d: %v", want.Index, err)
	}
	if !sameEntry(&got, want) {
		l.Fatalf("entry %d: got %+v, want %+v", want.Index, got, want)
	}
}

func wantAbsent(l *life[LogStore], indexes ...uint64) {
	l.Helper()
	for _, i := range indexes {
		var e raft.Log
		if err := l.store.GetLog(i, &e); err != raft.ErrLogNotFound { // Raft compares with ==
			l.Fatalf("reading entry %d, which is absent: %v, want raft.ErrLogNotFound itself", i, err)
		}
	}
}

func emptyLog(l *life[LogStore]) {
	for range 2 {
		wantSpan(l, 0, 0)
		wantAbsent(l, 0, 1, 1<<63)
		l.must(l.store.StoreLogs(nil))
		l.must(l.store.DeleteRange(1, 10))
		wantSpan(l, 0, 0)
		l.crash(0)
	}
}

// A log may start anywhere, after a snapshot; each field comes back.
func logRoundTrip(l *life[LogStore]) {
	const first, last = 1 << 33, 1<<33 + 39
	l.must(l.store.StoreLogs(entries(3, first, last-1)))
	l.must(l.store.StoreLog(Entry(last, 4)))
	big := Entry(last+1, 4)
	big.Data = bytes.Repeat([]byte("long"), 1<<19)
	l.must(l.store.StoreLogs([]*raft.Log{big}))
	for range 2 {
		wantSpan(l, first, last+1)
		for _, e := range append(entries(3, first, last-1), Entry(last, 4), big) {
			wantEntry(l, e)
		}
		wantAbsent(l, 0, 1, first-1, last+2)
		l.crash(0)
	}
}

// What was passed in may be changed afterwards; what is returned is the caller's;
// and neither is changed by the store.
func logSlices(l *life[LogStore]) {
	logs := entries(2, 1, 4)
	l.must(l.store.StoreLogs(logs))
	for i, e := range logs {
		if !sameEntry(e, Entry(uint64(i+1), 2)) {
			l.Fatalf("storing changed entry %d to %+v", i+1, e)
		}
		clear(e.Data)
		clear(e.Extensions)
		e.Term = 9
	}
	for range 2 {
		for i := uint64(1); i <= 4; i++ {
			wantEntry(l, Entry(i, 2))
			var got raft.Log
			l.must(l.store.GetLog(i, &got))
			clear(got.Data)
			clear(got.Extensions)
		}
	}
}

// Raft deletes a prefix when it compacts, inclusive at both ends, and it may name
// more than there is; nothing else moves.
func logDeletion(l *life[LogStore]) {
	l.must(l.store.StoreLogs(entries(1, 5, 24)))
	for _, d := range []struct{ min, max, first, last uint64 }{
		{1, 4, 5, 24},   // before the log
		{25, 99, 5, 24}, // behind it
		{9, 8, 5, 24},   // nothing
		{5, 5, 6, 24},
		{1, 9, 10, 24},
		{10, 12, 13, 24},
		{24, 24, 13, 23},
		{20, 99, 13, 19},
		{13, 18, 19, 19},
		{19, 19, 0, 0},
	} {
		l.must(l.store.DeleteRange(d.min, d.max))
		if after := l.after(0); after != nil { // what is deleted does not come back
			wantSpan(after, d.first, d.last)
			after.end()
		}
		wantSpan(l, d.first, d.last)
		for i := uint64(4); i <= 25; i++ {
			if d.first != 0 && i >= d.first && i <= d.last {
				wantEntry(l, Entry(i, 1))
			} else {
				wantAbsent(l, i)
			}
		}
	}
	l.must(l.store.StoreLogs(entries(2, 3, 4))) // and it may start anew, even lower
	l.crash(0)
	wantSpan(l, 3, 4)
	wantAbsent(l, 2, 5, 19)
	l.must(l.store.DeleteRange(1, 1<<63)) // indexes start at 1
	wantSpan(l, 0, 0)
}

// A new leader's entries take the place of a suffix that was never committed, and
// nothing of the old one shows afterwards, be it longer.
func logSuffix(l *life[LogStore]) {
	want := entries(1, 1, 20)
	l.must(l.store.StoreLogs(want))
	for term := uint64(2); term < 8; term++ {
		last := uint64(len(want))
		from := last - 3
		l.must(l.store.DeleteRange(from, last))
		suffix := entries(term, from, from+term%3)
		l.must(l.store.StoreLogs(suffix))
		want = append(want[:from-1], suffix...)
		l.crash(0)
		wantLog(l, want, 0)
		wantAbsent(l, last, last+1)
	}
}

// After a snapshot was installed the log goes on behind a gap. The entries before
// it may stay until they are compacted, or go at once.
func logGap(l *life[LogStore]) {
	l.must(l.store.StoreLogs(entries(1, 1, 9)))
	if c, ok := l.store.(Coverable); ok {
		c.Covered(50)
	}
	l.must(l.store.StoreLogs(entries(2, 51, 60)))
	check := func() {
		l.Helper()
		for _, e := range entries(2, 51, 60) {
			wantEntry(l, e)
		}
		wantAbsent(l, 10, 30, 50, 61)
		last, err := l.store.LastIndex()
		l.must(err)
		first, err := l.store.FirstIndex()
		l.must(err)
		switch {
		case last != 60:
			l.Fatalf("the log ends at %d, want 60", last)
		case first == 51:
			wantAbsent(l, 1, 5, 9)
		case first == 1:
			wantEntry(l, Entry(9, 1))
		default:
			l.Fatalf("the log starts at %d, want 1 or 51", first)
		}
	}
	check()
	l.crash(0)
	check()
	first, err := l.store.FirstIndex()
	l.must(err)
	l.must(l.store.DeleteRange(first, 50))
	wantSpan(l, 51, 60)
	wantAbsent(l, 1, 9)
}

// Beside a writer that replaces a suffix, readers see an entry that was stored, of
// one term or the other, or none.
func logReaders(l *life[LogStore]) {
	l.must(l.store.StoreLogs(entries(1, 1, 20)))
	term := uint64(1)
	beside(l.T, func(look uint64) string { return strangeEntry(l.store, 1+look%24) }, func() {
		term++
		l.must(l.store.DeleteRange(11, 20))
		l.must(l.store.StoreLogs(entries(term, 11, 20)))
	})
	wantSpan(l, 1, 20)
	wantEntry(l, Entry(10, 1))
	wantEntry(l, Entry(15, term))
}

// strangeEntry tells what is wrong with what one reads at index, "" if nothing is.
func strangeEntry(s raft.LogStore, index uint64) string {
	var e raft.Log
	err := s.GetLog(index, &e)
	absent := err == raft.ErrLogNotFound
	switch {
	case absent && index <= 10:
		return fmt.Sprintf("entry %d is not found, and nobody touched it", index)
	case absent:
		return ""
	case err != nil:
		return fmt.Sprintf("entry %d: %v", index, err)
	case index > 20 || index <= 10 && e.Term != 1 || !sameEntry(&e, Entry(index, e.Term)):
		return fmt.Sprintf("entry %d: nobody stored %+v", index, e)
	}
	return ""
}

// While a log only grows, whatever its last index says can be read.
func logTail(l *life[LogStore]) {
	l.must(l.store.StoreLog(Entry(1, 1)))
	next := uint64(2)
	beside(l.T, func(uint64) string {
		last, err := l.store.LastIndex()
		var e raft.Log
		if err == nil {
			err = l.store.GetLog(last, &e)
		}
		if err != nil || !sameEntry(&e, Entry(last, 1)) {
			return fmt.Sprintf("last index %d: %+v, %v", last, e, err)
		}
		return ""
	}, func() {
		l.must(l.store.StoreLogs(entries(1, next, next+2)))
		next += 3
	})
}

// randomLog does what a Raft may do to its log, with restarts and power cuts in
// between, and compares with a slice.
func randomLog(t *testing.T, disk Disk[LogStore], seed uint64) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 3))
	l := begin(t, disk)
	var want []*raft.Log
	term, next := uint64(1), 1+dice.Uint64N(100)
	for range 60 {
		switch dice.IntN(8) {
		case 0, 1, 2, 3:
			term += dice.Uint64N(2)
			more := entries(term, next, next+dice.Uint64N(6))
			l.must(l.store.StoreLogs(more))
			want = append(want, more...)
		case 4:
			n := dice.IntN(len(want) + 1)
			if len(want) > 0 && n > 0 {
				l.must(l.store.DeleteRange(want[0].Index-min(want[0].Index-1, dice.Uint64N(3)), want[n-1].Index))
			}
			want = want[n:]
		case 5:
			n := dice.IntN(len(want) + 1)
			if n < len(want) {
				l.must(l.store.DeleteRange(want[n].Index, want[len(want)-1].Index+dice.Uint64N(3)))
				next = want[n].Index
			}
			want = want[:n]
		case 6:
			l.crash(dice.IntN(101))
		case 7:
			l.restart()
		}
		if len(want) > 0 {
			next = want[len(want)-1].Index + 1
		}
		wantLog(l, want, next)
	}
	l.end()
}

// wantLog checks the whole log.
func wantLog(l *life[LogStore], want []*raft.Log, next uint64) {
	l.Helper()
	if len(want) == 0 {
		wantSpan(l, 0, 0)
		wantAbsent(l, next)
		return
	}
	first, last := want[0].Index, want[len(want)-1].Index
	wantSpan(l, first, last)
	wantAbsent(l, first-1, last+1)
	for _, e := range want {
		wantEntry(l, e)
	}
}
