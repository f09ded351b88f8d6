package raftlog

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

var update = flag.Bool("update", false, "write the museum piece of the current format")

// One process at a time: the second is told so.
func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, quiet(Options{}))
	must(t, err)
	if _, err := Open(dir, quiet(Options{})); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v", err)
	}
	must(t, s.Close())
}

// L12: a file that a crash left half-made under its temporary name is no
// obstacle, an empty file under the real name is refused instead of becoming a
// node without memory, and nobody else can read the file.
func TestCreation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	must(t, os.WriteFile(path+vfs.TempSuffix, []byte("half a page"), 0o600))
	s, err := Open(dir, quiet(Options{}))
	must(t, err)
	must(t, s.Close())
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	names, err := os.ReadDir(dir)
	must(t, err)
	if len(names) != 1 {
		t.Errorf("left in the directory: %v", names)
	}
	must(t, os.Truncate(path, 0))
	if _, err := Open(dir, quiet(Options{})); !errors.Is(err, ErrAmnesia) {
		t.Errorf("an empty file: %v", err)
	}
	must(t, os.WriteFile(path, bytes.Repeat([]byte("no database "), 4096), 0o600))
	if _, err := Open(dir, quiet(Options{})); err == nil {
		t.Error("a file that is no database was opened")
	}
	if _, err := Open(filepath.Join(dir, "absent"), quiet(Options{})); err == nil {
		t.Error("a directory that does not exist was opened")
	}
}

const museumPiece = "testdata/museum/v1.db"

// writeMuseumPiece makes the log that TestMuseum expects.
func writeMuseumPiece(t *testing.T, path string) {
	s := openPath(t, path, Options{})
	must(t, s.SetUint64([]byte(keyCurrentTerm), 4))
	must(t, s.SetUint64([]byte(keyVoteTerm), 4))
	must(t, s.Set([]byte(keyVoteCand), []byte("node-b")))
	must(t, s.StoreLogs(batch(3, 11, 40)))
	must(t, s.DeleteRange(11, 15))
	must(t, s.StoreLog(&raft.Log{Index: 41, Term: 4, Type: raft.LogNoop}))
	must(t, s.Close())
}

// The log of format 1 is read and continued for ever.
func TestMuseum(t *testing.T) {
	if *update {
		must(t, os.MkdirAll(filepath.Dir(museumPiece), 0o755))
		if err := os.Remove(museumPiece); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		writeMuseumPiece(t, museumPiece)
	}
	old, err := os.ReadFile(museumPiece)
	must(t, err)
	path := filepath.Join(t.TempDir(), FileName)
	must(t, os.WriteFile(path, old, 0o600))
	s := openPath(t, path, Options{})
	must(t, s.CheckAgainst(40, 15))
	wantSpan(t, s, 16, 41)
	for i := uint64(16); i <= 40; i++ {
		wantEntry(t, s, entry(i, 3))
	}
	wantEntry(t, s, &raft.Log{Index: 41, Term: 4, Type: raft.LogNoop})
	if term, cand := readVote(t, s); term != 4 || cand != "node-b" {
		t.Errorf("vote: %d %q", term, cand)
	}
	term, err := s.GetUint64([]byte(keyCurrentTerm))
	must(t, err)
	if term != 4 {
		t.Errorf("term: %d", term)
	}
	must(t, s.StoreLog(entry(42, 4)))
	wantSpan(t, s, 16, 42)
	must(t, s.Close())
}
