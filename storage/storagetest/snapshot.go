package storagetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/hashicorp/raft"
)

// TestSnapshotStore checks what raft.SnapshotStore documents and hashicorp/raft
// relies on: that a snapshot exists from the moment its sink was closed, and
// outlives a power cut from then on; that one that was not closed, or was
// cancelled, leaves nothing; that List shows the newest first and Open returns what
// was written, with its metadata; that it can be read while newer ones come. The
// stores on disk must retain the retain newest snapshots, which is 2 or more.
func TestSnapshotStore(t *testing.T, retain int, disk func(*testing.T) Disk[raft.SnapshotStore]) {
	retained := func(f func(*life[raft.SnapshotStore], int)) func(*life[raft.SnapshotStore]) {
		return func(l *life[raft.SnapshotStore]) { f(l, retain) }
	}
	parts(t, disk, []part[raft.SnapshotStore]{
		{"round trip", snapshotRoundTrip},
		{"metadata", snapshotMetadata},
		{"order", retained(snapshotOrder)},
		{"exists once closed", snapshotExists},
		{"cancel", snapshotCancel},
		{"every crash", retained(snapshotCrashes)},
		{"retention", retained(snapshotRetention)},
		{"read while replaced", retained(snapshotReplaced)},
		{"concurrent", retained(snapshotConcurrent)},
		{"foreign ids", snapshotForeign},
	})
}

type snapshots = life[raft.SnapshotStore]

var members = raft.Configuration{Servers: []raft.Server{
	{Suffrage: raft.Voter, ID: "n1", Address: "10.0.0.1:8201"},
	{Suffrage: raft.Nonvoter, ID: "n2", Address: "[2001:db8::2]:8201"},
	{Suffrage: raft.Staging, ID: "n3"},
}}

// body is the content of the snapshot at index: n bytes, the same each time.
func body(index uint64, n int) []byte {
	b := make([]byte, n)
	dice := rand.New(rand.NewPCG(index, uint64(n)))
	for i := range b {
		b[i] = byte(dice.Uint32())
	}
	return b
}

// sizes are around what a store might cut a body into.
func sizes() (all []int) {
	for _, n := range []int{0, 1 << 9, 1 << 12, 1 << 15, 1 << 16, 1 << 17, 3 << 16} {
		all = append(all, max(n-1, 0), n, n+1)
	}
	return slices.Compact(all)
}

// create begins the snapshot at index and term.
func create(l *snapshots, index, term uint64) raft.SnapshotSink {
	l.Helper()
	sink, err := l.store.Create(1, index, term, members, index/2, nil)
	l.must(err)
	return sink
}

// take makes a whole snapshot and returns its ID.
func take(l *snapshots, index, term uint64, content []byte) string {
	l.Helper()
	sink := create(l, index, term)
	write(l, sink, content)
	l.must(sink.Close())
	return sink.ID()
}

func write(l *snapshots, w io.Writer, content []byte) {
	l.Helper()
	own := bytes.Clone(content)
	if n, err := w.Write(own); err != nil || n != len(own) {
		l.Fatalf("writing %d bytes: %d, %v", len(own), n, err)
	}
	clear(own) // the sink may not have kept it
}

// listed returns the snapshots that List shows.
func listed(l *snapshots) []*raft.SnapshotMeta {
	l.Helper()
	metas, err := l.store.List()
	l.must(err)
	return metas
}

// newest returns the first that List shows.
func newest(l *snapshots) *raft.SnapshotMeta {
	l.Helper()
	metas := listed(l)
	if len(metas) == 0 {
		l.Fatal("no snapshot is listed")
	}
	return metas[0]
}

func indexes(l *snapshots) (all []uint64) {
	l.Helper()
	for _, m := range listed(l) {
		all = append(all, m.Index)
	}
	return all
}

// wantContent opens a snapshot and reads it to its end.
func wantContent(l *snapshots, id string, want []byte) {
	l.Helper()
	meta, r, err := l.store.Open(id)
	if err != nil {
		l.Fatalf("opening %s: %v", id, err)
	}
	got, err := io.ReadAll(r)
	// Raft closes what its restoring has closed before.
	if err := errors.Join(err, r.Close(), ignore(r.Close())); err != nil || !bytes.Equal(got, want) || meta.Size != int64(len(want)) || meta.ID != id {
		l.Fatalf("snapshot %s: read %d bytes (right: %v) %v, with %+v; want %d", id, len(got), bytes.Equal(got, want), err, meta, len(want))
	}
}

// ignore is for a call that may fail, but must not panic or hang.
func ignore(error) error { return nil }

func snapshotRoundTrip(l *snapshots) {
	for i, size := range sizes() {
		for _, step := range []int{1 << 20, 1 << 16, 1000} {
			want := body(uint64(i), size)
			sink := create(l, uint64(i+1), 1)
			write(l, sink, nil)
			for chunk := range slices.Chunk(want, step) {
				write(l, sink, chunk)
			}
			// Raft closes a sink that the machine has closed, and cancels none that is.
			l.must(errors.Join(sink.Close(), sink.Close(), ignore(sink.Cancel())))
			wantContent(l, sink.ID(), want)
			_, r, err := l.store.Open(sink.ID())
			l.must(err)
			l.must(iotest.TestReader(r, want))
			l.must(r.Close())
		}
	}
}

// Open and List tell what Create was told, and they agree, in this life and later.
func snapshotMetadata(l *snapshots) {
	for i, configuration := range []raft.Configuration{members, {}, {Servers: members.Servers[:1]}} {
		index := uint64(1)<<40 + uint64(i)
		sink, err := l.store.Create(1, index, 9, configuration, index-1, nil)
		l.must(err)
		write(l, sink, body(1, 77))
		l.must(sink.Close())
		for range 2 {
			want := &raft.SnapshotMeta{Version: 1, ID: sink.ID(), Index: index, Term: 9, ConfigurationIndex: index - 1, Size: 77}
			wantMeta(l, newest(l), want, configuration)
			opened, r, err := l.store.Open(sink.ID())
			l.must(err)
			l.must(r.Close())
			wantMeta(l, opened, want, configuration)
			l.crash(0)
		}
	}
}

func wantMeta(l *snapshots, got, want *raft.SnapshotMeta, c raft.Configuration) {
	l.Helper()
	if !slices.Equal(got.Configuration.Servers, c.Servers) {
		l.Errorf("configuration: got %+v, want %+v", got.Configuration, c)
	}
	g, w := *got, *want
	g.Configuration, g.Peers = raft.Configuration{}, nil // Peers is deprecated
	if !reflect.DeepEqual(g, w) {
		l.Errorf("metadata: got %+v, want %+v", g, w)
	}
}

// The newest comes first, by index and then by term, however they were made. Two
// of one index and term have different IDs.
func snapshotOrder(l *snapshots, retain int) {
	type point struct{ index, term uint64 }
	var want []point // newest first
	seen := map[string]bool{}
	for _, p := range []point{{30, 2}, {10, 1}, {40, 3}, {40, 1}, {40, 4}, {40, 4}, {35, 9}} {
		id := take(l, p.index, p.term, body(p.term, 5))
		if seen[id] {
			l.Errorf("two snapshots have the ID %s", id)
		}
		seen[id] = true
		want = append(want, p)
		slices.SortFunc(want, func(a, b point) int { return cmp.Or(cmp.Compare(b.index, a.index), cmp.Compare(b.term, a.term)) })
		want = want[:min(len(want), retain)]
		for range 2 {
			var got []point
			for _, m := range listed(l) {
				got = append(got, point{m.Index, m.Term})
				wantContent(l, m.ID, body(m.Term, 5))
			}
			if !slices.Equal(got, want) {
				l.Fatalf("listed are %v, want %v", got, want)
			}
			l.restart()
		}
	}
}

// A snapshot that is being written does not exist, in this life or after a crash;
// one whose Close returned nil does, in both.
func snapshotExists(l *snapshots) {
	if got := indexes(l); len(got) != 0 {
		l.Fatalf("a new store lists %v", got)
	}
	content := body(7, 200_000)
	sink := create(l, 7, 1)
	check := func(want ...uint64) {
		l.Helper()
		if got := indexes(l); !slices.Equal(got, want) {
			l.Fatalf("listed are %v, want %v", got, want)
		}
		for _, unsynced := range []int{0, 50, 100} {
			after := l.after(unsynced)
			if after == nil {
				return
			}
			if got := indexes(after); !slices.Equal(got, want) {
				l.Fatalf("after a power cut that left %d %% listed are %v, want %v", unsynced, got, want)
			}
			if len(want) > 0 {
				wantContent(after, sink.ID(), content)
			}
			take(after, 9, 1, body(9, 10)) // and the store goes on
			after.end()
		}
	}
	check()
	write(l, sink, content[:150_000])
	check()
	write(l, sink, content[150_000:])
	check()
	l.must(sink.Close())
	check(7)
	wantContent(l, sink.ID(), content)
}

// A snapshot that was cancelled leaves nothing, and the others where they were.
func snapshotCancel(l *snapshots) {
	id := take(l, 3, 1, body(3, 10))
	var before []string
	if l.disk.Names != nil {
		before = l.disk.Names(l.T)
	}
	for _, n := range []int{0, 1, 200_000} {
		sink := create(l, 5, 1)
		write(l, sink, body(5, n))
		l.must(sink.Cancel())
		l.must(ignore(errors.Join(sink.Cancel(), sink.Close()))) // what they answer is free
		if _, err := sink.Write([]byte("x")); err == nil {
			l.Error("a cancelled sink takes more")
		}
		if _, r, err := l.store.Open(sink.ID()); err == nil {
			l.Errorf("a cancelled snapshot can be opened: %v", r.Close())
		}
		if l.disk.Names != nil {
			if left := l.disk.Names(l.T); !slices.Equal(sorted(left), sorted(before)) {
				l.Errorf("files before %q, after cancelling %q", before, left)
			}
		}
	}
	for range 2 {
		if got := indexes(l); !slices.Equal(got, []uint64{3}) {
			l.Errorf("listed are %v, want 3", got)
		}
		wantContent(l, id, body(3, 10))
		l.crash(100)
	}
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// Through one life after another, ended by power cuts in the middle of a snapshot,
// the newest that were acknowledged stay whole.
func snapshotCrashes(l *snapshots, retain int) {
	var kept []uint64 // newest first
	for round := range uint64(8) {
		index := 10 * (round + 1)
		take(l, index, round, body(index, 70_000))
		kept = append([]uint64{index}, kept...)
		kept = kept[:min(len(kept), retain)]
		write(l, create(l, index+5, round), body(1, 100_000))
		l.crash(int(round * 14))
		metas := listed(l)
		if got := indexes(l); !slices.Equal(got, kept) {
			l.Fatalf("round %d: listed are %v, want %v", round, got, kept)
		}
		for _, m := range metas {
			wantContent(l, m.ID, body(m.Index, 70_000))
		}
	}
}

// The newest are kept, and an old one that comes late does not push them out.
func snapshotRetention(l *snapshots, retain int) {
	var want []uint64
	for i := range uint64(2 * retain) {
		take(l, 100+i, 1, body(i, 10))
		want = append([]uint64{100 + i}, want...)
	}
	want = want[:retain]
	take(l, 1, 1, body(1, 10))
	for range 2 {
		if got := indexes(l); !slices.Equal(got, want) {
			l.Fatalf("listed are %v, want %v", got, want)
		}
		l.restart()
	}
}

// A follower may still be reading a snapshot when it is no longer one to keep.
func snapshotReplaced(l *snapshots, retain int) {
	want := body(1, 300_000)
	id := take(l, 1, 1, want)
	_, r, err := l.store.Open(id)
	l.must(err)
	got := make([]byte, 1000)
	_, err = io.ReadFull(r, got)
	l.must(err)
	for i := range uint64(retain + 1) {
		take(l, 10+i, 1, body(i, 10))
	}
	rest, err := io.ReadAll(r)
	if got = append(got, rest...); err != nil || !bytes.Equal(got, want) {
		l.Errorf("read %d bytes of a snapshot that was replaced meanwhile, %v; want %d", len(got), err, len(want))
	}
	l.must(r.Close())
}

// Raft may take a snapshot while it installs one and while it streams others.
func snapshotConcurrent(l *snapshots, retain int) {
	stable := body(1000, 150_000)
	id := take(l, 1000, 1, stable) // stays the newest
	ids := make([]string, retain-1)
	errs := make(chan error, 100)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			sink, err := l.store.Create(1, 500, 1, members, 1, nil)
			if err != nil {
				errs <- err
				return
			}
			content := body(uint64(i), 70_000+i)
			_, err = sink.Write(content)
			ids[i] = sink.ID()
			errs <- errors.Join(err, sink.Close())
		})
		group.Go(func() {
			_, r, err := l.store.Open(id)
			if err != nil {
				errs <- err
				return
			}
			got, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(got, stable) {
				err = fmt.Errorf("read %d other bytes", len(got))
			}
			metas, err2 := l.store.List()
			if err2 == nil && (len(metas) == 0 || metas[0].ID != id) {
				err2 = fmt.Errorf("listed are %+v", metas)
			}
			errs <- errors.Join(err, r.Close(), err2)
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		l.must(err)
	}
	for i, id := range ids {
		wantContent(l, id, body(uint64(i), 70_000+i))
	}
	if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
		l.Errorf("IDs %q are not all different", ids)
	}
}

// An ID comes over the network: whatever it says, it opens a snapshot or nothing.
func snapshotForeign(l *snapshots) {
	id := take(l, 5, 1, body(5, 10))
	for _, foreign := range []string{"", ".", "..", "/", "../" + id, "./" + id, id + "/", "/etc/passwd", id + "\x00", "x" + id, id + "x", id[1:],
		id[:len(id)-1], " " + id, id + "\n"} {
		if meta, r, err := l.store.Open(foreign); err == nil {
			l.Errorf("%q opens %+v (%v)", foreign, meta, r.Close())
		}
	}
	wantContent(l, id, body(5, 10))
}
