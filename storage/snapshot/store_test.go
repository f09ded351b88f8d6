package snapshot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

const testDir = "data/snapshots"

var members = raft.Configuration{Servers: []raft.Server{
	{Suffrage: raft.Voter, ID: "n1", Address: "10.0.0.1:8201"},
	{Suffrage: raft.Nonvoter, ID: "n2", Address: "10.0.0.2:8201"},
}}

func open(t testing.TB, fs vfs.FS, retain int) *Store {
	t.Helper()
	return openIn(t, fs, testDir, retain)
}

func openIn(t testing.TB, fs vfs.FS, dir string, retain int) *Store {
	t.Helper()
	s, err := New(dir, fs, retain, WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// body is a reproducible content of n bytes, different for each index.
func body(index uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(index), byte(index >> 8)})
	if _, err := rng.Read(b); err != nil {
		panic(err) // documented never to happen
	}
	return b
}

func take(s *Store, index uint64, content []byte) (string, error) {
	sink, err := s.Create(1, index, 7, members, 2, nil)
	if err != nil {
		return "", err
	}
	if _, err := sink.Write(content); err != nil {
		return "", errors.Join(err, sink.Cancel())
	}
	return sink.ID(), sink.Close()
}

func mustTake(t testing.TB, s *Store, index uint64, content []byte) string {
	t.Helper()
	id, err := take(s, index, content)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func content(s *Store, id string) (*raft.SnapshotMeta, []byte, error) {
	meta, r, err := s.Open(id)
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(r)
	return meta, b, errors.Join(err, r.Close())
}

func indexes(t testing.TB, s *Store) []uint64 {
	t.Helper()
	metas, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, m := range metas {
		got = append(got, m.Index)
	}
	return got
}

// What Raft relies on is in TestSnapshotStore; these are promises of our own.

// Temporary files of a former life go, foreign files stay.
func TestTidy(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, 3)
	mustTake(t, s, 10, body(10, 10))
	abandoned, err := s.Create(1, 50, 7, members, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.AtomicWrite(fs, testDir+"/notes", []byte("an operator's")); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs, 3)
	names, err := fs.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if len(names) != 2 || names[1] != "notes" || strings.Contains(strings.Join(names, " "), vfs.TempSuffix) {
		t.Fatalf("after reopening: %v (abandoned %s)", names, abandoned.ID())
	}
	if len(s.Damaged()) != 0 {
		t.Fatalf("damaged: %v", s.Damaged())
	}
}

// By default three are retained.
func TestDefaultRetention(t *testing.T) {
	s := open(t, vfs.NewMem(), 0)
	for index := range uint64(5) {
		mustTake(t, s, index+1, nil)
	}
	if got, want := indexes(t, s), []uint64{5, 4, 3}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// An ID has one spelling.
func TestOpenRefusesOtherSpellings(t *testing.T) {
	s := open(t, vfs.NewMem(), 3)
	id := mustTake(t, s, 5, nil)
	for _, bad := range []string{"5-7-0", id + fileSuffix, strings.Replace(id, "0", "+", 1), strings.Replace(id, "-", "--", 1)} {
		if _, _, err := s.Open(bad); err == nil {
			t.Errorf("Open(%q) returned nil", bad)
		}
	}
}

// Raft itself drives the store: takes a snapshot, restarts from it.
func TestUnderRaft(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, 2)
	logs := raft.NewInmemStore()
	_, trans := raft.NewInmemTransport("n1")
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = "n1", io.Discard
	only := raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "n1"}}}
	if err := raft.BootstrapCluster(conf, logs, logs, s, trans, only); err != nil {
		t.Fatal(err)
	}
	first := &raft.MockFSM{}
	r, err := raft.NewRaft(conf, first, logs, logs, s, trans)
	if err != nil {
		t.Fatal(err)
	}
	for <-r.LeaderCh() != true {
	}
	for i := range 10 {
		if err := r.Apply(fmt.Appendf(nil, "entry %d", i), 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if err := r.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	second := &raft.MockFSM{}
	_, trans = raft.NewInmemTransport("n1")
	r, err = raft.NewRaft(conf, second, logs, logs, open(t, fs, 2), trans)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	if got := second.Logs(); len(got) != 10 || string(got[9]) != "entry 9" {
		t.Fatalf("restored %d entries: %q", len(got), got)
	}
}
