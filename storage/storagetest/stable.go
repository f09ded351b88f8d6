package storagetest

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// StableStore is what [TestStableStore] tests. Its methods may be called
// concurrently.
type StableStore interface {
	raft.StableStore
	io.Closer
}

// The keys of hashicorp/raft (raft.go).
var (
	currentTerm   = []byte("CurrentTerm")
	voteTerm      = []byte("LastVoteTerm")
	voteCandidate = []byte("LastVoteCand")
)

// notFound is the text by which hashicorp/raft tells an absent key from an error.
const notFound = "not found"

// TestStableStore checks what raft.StableStore documents and hashicorp/raft relies
// on: that a value is what was set last, that an absent one is empty, with no error
// or with one whose text is "not found"; that an acknowledged write, and a vote
// after the second of its two, has outlived a power cut; that slices are not shared.
func TestStableStore(t *testing.T, disk func(*testing.T) Disk[StableStore]) {
	parts(t, disk, []part[StableStore]{
		{"absent", absentValues},
		{"round trip", stableRoundTrip},
		{"slices", stableSlices},
		{"vote", stableVote},
		{"concurrent", stableConcurrent},
	})
}

func wantNothing(l *life[StableStore], key []byte) {
	l.Helper()
	v, err := l.store.Get(key)
	if len(v) != 0 || (err != nil && err.Error() != notFound) {
		l.Fatalf("absent %q: got %q, %v", key, v, err)
	}
	n, err := l.store.GetUint64(key)
	if n != 0 || (err != nil && err.Error() != notFound) {
		l.Fatalf("absent number %q: got %d, %v", key, n, err)
	}
}

// wantValue takes an empty value for an absent one, as Raft does.
func wantValue(l *life[StableStore], key, want []byte) {
	l.Helper()
	v, err := l.store.Get(key)
	if err != nil && len(want) == 0 && err.Error() == notFound {
		err = nil
	}
	if err != nil || !bytes.Equal(v, want) {
		l.Fatalf("%q: got %q %v, want %q", key, v, err, want)
	}
}

func wantNumber(l *life[StableStore], key []byte, want uint64) {
	l.Helper()
	if n, err := l.store.GetUint64(key); err != nil || n != want {
		l.Fatalf("%q: got %d %v, want %d", key, n, err, want)
	}
}

func absentValues(l *life[StableStore]) {
	for range 2 {
		for _, key := range [][]byte{currentTerm, voteTerm, voteCandidate, []byte("other")} {
			wantNothing(l, key)
		}
		l.crash(0)
	}
}

func stableRoundTrip(l *life[StableStore]) {
	for i, n := range []uint64{1, 0, math.MaxUint64, 1 << 32, 7} {
		name := fmt.Appendf(nil, "name %d", i)
		value := bytes.Repeat([]byte{0, byte(i), 0xff}, i*100)
		l.must(l.store.SetUint64(currentTerm, n))
		l.must(l.store.Set([]byte("same"), value))
		l.must(l.store.Set(name, value))
		for range 2 {
			wantNumber(l, currentTerm, n)
			wantValue(l, []byte("same"), value)
			wantValue(l, name, value)
			wantValue(l, []byte("name 0"), nil)
			wantNothing(l, []byte("name"))
			l.crash(0)
		}
	}
}

func stableSlices(l *life[StableStore]) {
	key, value := []byte("key"), []byte("value")
	l.must(l.store.Set(key, value))
	if string(key) != "key" || string(value) != "value" {
		l.Fatalf("setting changed its arguments to %q and %q", key, value)
	}
	clear(key)
	clear(value)
	for range 2 {
		wantValue(l, []byte("key"), []byte("value"))
		got, err := l.store.Get([]byte("key"))
		l.must(err)
		clear(got)
	}
	number := bytes.Clone(currentTerm)
	l.must(l.store.SetUint64(number, 5))
	clear(number)
	wantNumber(l, currentTerm, 5)
}

// Raft votes in this order: the current term, the term of the vote, the candidate.
// With the return of the last one the vote is cast.
func stableVote(l *life[StableStore]) {
	for term := uint64(1); term < 6; term++ {
		candidate := fmt.Appendf(nil, "candidate %d", term%2)
		l.must(l.store.SetUint64(currentTerm, term))
		l.must(l.store.SetUint64(voteTerm, term))
		l.must(l.store.Set(voteCandidate, candidate))
		for range 2 {
			wantNumber(l, currentTerm, term)
			wantNumber(l, voteTerm, term)
			wantValue(l, voteCandidate, candidate)
			l.crash(0)
		}
	}
	// A term that is not voted in leaves the vote of the one before.
	l.must(l.store.SetUint64(currentTerm, 9))
	l.crash(0)
	wantNumber(l, currentTerm, 9)
	wantNumber(l, voteTerm, 5)
	wantValue(l, voteCandidate, []byte("candidate 1"))
}

// Raft reads and writes these from several goroutines; each sees its own.
func stableConcurrent(l *life[StableStore]) {
	const last = 15
	var group sync.WaitGroup
	for g := range 3 {
		group.Go(func() {
			key := fmt.Appendf(nil, "key %d", g)
			for n := range uint64(last + 1) {
				if err := l.store.SetUint64(key, n); err != nil {
					l.Error(err)
					return
				}
				if got, err := l.store.GetUint64(key); err != nil || got != n {
					l.Errorf("%s: got %d %v, want %d", key, got, err, n)
					return
				}
			}
		})
	}
	group.Wait()
	for g := range 3 {
		wantNumber(l, fmt.Appendf(nil, "key %d", g), last)
	}
}
