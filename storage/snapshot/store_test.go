package snapshot

import (
	"bytes"
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
	s, err := New(testDir, fs, retain, WithLogger(slog.New(slog.DiscardHandler)))
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

// What was written is read back, whatever the size relative to a frame and the
// size of the writes and reads.
func TestRoundTrip(t *testing.T) {
	sizes := []int{0, 1, 100, frameSize - 1, frameSize, frameSize + 1, 2*frameSize - 1, 2 * frameSize, 2*frameSize + 1, 5*frameSize + 17}
	for _, size := range sizes {
		for _, step := range []int{1000, frameSize, 3*frameSize + 1} {
			s := open(t, vfs.NewMem(), 2)
			want := body(9, size)
			sink, err := s.Create(1, 9, 3, members, 4, nil)
			if err != nil {
				t.Fatal(err)
			}
			for chunk := range slices.Chunk(want, step) {
				if n, err := sink.Write(slices.Clone(chunk)); err != nil || n != len(chunk) {
					t.Fatalf("write: %d, %v", n, err)
				}
			}
			if err := errors.Join(sink.Close(), sink.Close(), sink.Cancel()); err != nil {
				t.Fatalf("close, close again, cancel after close: %v", err)
			}
			meta, r, err := s.Open(sink.ID())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, step)); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) || meta.Size != int64(size) {
				t.Fatalf("size %d step %d: got %d bytes, meta size %d", size, step, got.Len(), meta.Size)
			}
			if meta.ID != sink.ID() || meta.Index != 9 || meta.Term != 3 || meta.ConfigurationIndex != 4 || meta.Version != 1 ||
				!slices.Equal(meta.Configuration.Servers, members.Servers) {
				t.Fatalf("metadata: got %+v", meta)
			}
		}
	}
}

// The newest are kept and listed newest first, two of one index included;
// temporary files of a former life go, foreign files stay.
func TestRetention(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	for _, index := range []uint64{10, 30, 20, 30, 40} {
		mustTake(t, s, index, body(index, 10))
	}
	if got, want := indexes(t, s), []uint64{40, 30, 30}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
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
	if len(names) != 4 || names[3] != "notes" || strings.Contains(strings.Join(names, " "), vfs.TempSuffix) {
		t.Fatalf("after reopening: %v (abandoned %s)", names, abandoned.ID())
	}
	if len(s.Damaged()) != 0 {
		t.Fatalf("damaged: %v", s.Damaged())
	}
}

// A cancelled snapshot leaves nothing and cannot be finished.
func TestCancel(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, 3)
	sink, err := s.Create(1, 5, 1, members, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(body(5, 3*frameSize)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err == nil {
		t.Error("Close after Cancel returned nil")
	}
	if _, err := sink.Write([]byte("x")); err == nil {
		t.Error("Write after Cancel returned nil")
	}
	if names, err := fs.List(testDir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// An ID is no path.
func TestOpenRefusesForeignIDs(t *testing.T) {
	s := open(t, vfs.NewMem(), 3)
	id := mustTake(t, s, 5, nil)
	for _, bad := range []string{"", "../" + id, id + fileSuffix, "5-7-0", id[1:], " " + id, id + " ", strings.Replace(id, "0", "+", 1)} {
		if _, _, err := s.Open(bad); err == nil {
			t.Errorf("Open(%q) returned nil", bad)
		}
	}
}

// Several snapshots may be written at once (Raft takes one while it installs another).
func TestConcurrentSinks(t *testing.T) {
	s := open(t, vfs.NewMem(), 8)
	errs := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := take(s, 5, body(5, frameSize+1))
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	metas, err := s.List()
	if err != nil || len(metas) != 8 {
		t.Fatalf("got %d snapshots, %v", len(metas), err)
	}
	for _, m := range metas {
		if _, b, err := content(s, m.ID); err != nil || !bytes.Equal(b, body(5, frameSize+1)) {
			t.Errorf("%s: %d bytes, %v", m.ID, len(b), err)
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
