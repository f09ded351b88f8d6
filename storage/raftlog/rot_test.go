package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// edit changes the bytes that bbolt holds under a key, as a failing disk would.
// A nil result deletes the key.
func edit(t *testing.T, path, bucket string, key []byte, change func([]byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		val := change(append([]byte(nil), b.Get(key)...))
		if val == nil {
			return b.Delete(key)
		}
		return b.Put(key, val)
	}))
	must(t, db.Close())
}

func keyOf(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at%len(b)] ^= 0x04; return b }
}

func boltWith(t *testing.T, logs []*raft.Log) (path string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, quiet(Options{}))
	must(t, err)
	must(t, s.SetUint64([]byte(keyCurrentTerm), 3))
	must(t, s.StoreLogs(logs))
	must(t, s.Close())
	return filepath.Join(dir, FileName)
}

func openPath(t *testing.T, path string, o Options) *Store {
	t.Helper()
	inner, err := OpenBolt(path)
	must(t, err)
	o.Inner = inner
	return mustNew(t, o)
}

// L11: whichever byte of a stored entry rots on the disk, GetLog never returns
// another entry than the one that was written, and the log is not truncated.
func TestEveryRottenByteOnDisk(t *testing.T) {
	path := boltWith(t, batch(3, 1, 3))
	var size int
	edit(t, path, "logs", keyOf(2), func(b []byte) []byte { size = len(b); return b })
	detected := 0
	for i := range size {
		edit(t, path, "logs", keyOf(2), flip(i))
		s := openPath(t, path, Options{})
		var e raft.Log
		err := s.Peek(2, &e)
		switch {
		case errors.Is(err, ErrRotten):
			detected++
		case err != nil:
			t.Fatalf("byte %d: %v", i, err)
		default: // a byte that carries nothing, such as the name of a field that is zero
			e.AppendedAt = e.AppendedAt.UTC()
			if !reflect.DeepEqual(&e, entry(2, 3)) {
				t.Fatalf("byte %d: returned %+v", i, e)
			}
		}
		wantSpan(t, s, 1, 3)
		must(t, s.Close())
		edit(t, path, "logs", keyOf(2), flip(i)) // and back
	}
	if detected < size*8/10 {
		t.Errorf("only %d of %d flipped bytes were detected", detected, size)
	}
	t.Logf("%d of %d flipped bytes detected, the rest changed nothing", detected, size)
}

// L11: without a peer the store fails and names the entry; nothing is cut off.
func TestRotWithoutPeerFailsTheStore(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, string){
		"altered": func(t *testing.T, p string) { edit(t, p, "logs", keyOf(2), flip(20)) },
		"missing": func(t *testing.T, p string) { edit(t, p, "logs", keyOf(2), func([]byte) []byte { return nil }) },
		"no msgpack": func(t *testing.T, p string) {
			edit(t, p, "logs", keyOf(2), func([]byte) []byte { return []byte{0xc1, 0xc1} })
		},
		"another's": func(t *testing.T, p string) {
			var other []byte
			edit(t, p, "logs", keyOf(3), func(b []byte) []byte { other = b; return b })
			edit(t, p, "logs", keyOf(2), func([]byte) []byte { return other })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := boltWith(t, batch(3, 1, 3))
			damage(t, path)
			var told error
			s := openPath(t, path, Options{Fail: func(err error) { told = err }})
			var e raft.Log
			err := s.GetLog(2, &e)
			var rot *RotError
			if !errors.Is(err, ErrFailed) || !errors.As(err, &rot) || rot.Index != 2 || told == nil {
				t.Fatalf("got %v, Fail was told %v", err, told)
			}
			if strings.Contains(err.Error(), "content of") {
				t.Fatalf("the error quotes the entry: %v", err)
			}
			must(t, s.Close())
			s = openPath(t, path, Options{})
			wantSpan(t, s, 1, 3)
			must(t, s.Close())
		})
	}
}

// L11: a rotten entry is fetched, rewritten and whole again, by GetLog as by the scrub.
func TestRotIsRepairedFromPeer(t *testing.T) {
	for _, damage := range []func([]byte) []byte{flip(20), func([]byte) []byte { return nil }} {
		path := boltWith(t, batch(3, 1, 3))
		edit(t, path, "logs", keyOf(2), damage)
		var asked []uint64
		s := openPath(t, path, Options{Repair: func(i uint64) (*raft.Log, error) {
			asked = append(asked, i)
			return entry(i, 3), nil
		}})
		must(t, s.Verify(context.Background(), 1, 3))
		must(t, s.Close())
		s = openPath(t, path, Options{}) // no peer now: the disk itself must be well
		wantEntry(t, s, entry(2, 3))
		wantSpan(t, s, 1, 3)
		must(t, s.Close())
		if len(asked) != 1 || asked[0] != 2 {
			t.Errorf("asked for %v", asked)
		}
	}
}

// A peer's entry that cannot be the one that rotted is refused.
func TestUnfitRepairIsRefused(t *testing.T) {
	unreachable := errors.New("no peer answers")
	for name, repair := range map[string]func(uint64) (*raft.Log, error){
		"error":         func(uint64) (*raft.Log, error) { return nil, unreachable },
		"nothing":       func(uint64) (*raft.Log, error) { return nil, nil },
		"another index": func(i uint64) (*raft.Log, error) { return entry(i+1, 3), nil },
		"another term":  func(i uint64) (*raft.Log, error) { return entry(i, 2), nil },
	} {
		t.Run(name, func(t *testing.T) {
			inner := NewMemory()
			s := mustNew(t, Options{Inner: inner, Repair: repair})
			must(t, s.StoreLogs(append(batch(2, 1, 1), batch(3, 2, 3)...)))
			if !inner.Corrupt(2) {
				t.Fatal("nothing to corrupt")
			}
			rotten := cloneEntry(inner.entries[2])
			var e raft.Log
			if err := s.GetLog(2, &e); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrRotten) {
				t.Fatalf("got %v", err)
			}
			if !reflect.DeepEqual(inner.entries[2], rotten) {
				t.Fatal("the entry was rewritten")
			}
		})
	}
	t.Run("term out of order", func(t *testing.T) { // the stored term is lost with the entry, its neighbours are not
		inner := NewMemory()
		s := mustNew(t, Options{Inner: inner, Repair: func(i uint64) (*raft.Log, error) { return entry(i, 4), nil }})
		must(t, s.StoreLogs(batch(3, 1, 3)))
		inner.Lose(2)
		var e raft.Log
		if err := s.GetLog(2, &e); !errors.Is(err, ErrFailed) {
			t.Fatalf("got %v", err)
		}
	})
}

// Peek reports rot and leaves the store working: it serves a peer's repair.
func TestPeekDoesNotFail(t *testing.T) {
	inner := NewMemory()
	s := mustNew(t, Options{Inner: inner})
	must(t, s.StoreLogs(batch(3, 1, 3)))
	inner.Corrupt(2)
	var e raft.Log
	if err := s.Peek(2, &e); !errors.Is(err, ErrRotten) || errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	must(t, s.StoreLog(entry(4, 3)))
}

// Verify stops when its context does.
func TestVerifyHeedsContext(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	must(t, s.StoreLogs(batch(3, 1, 3)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Verify(ctx, 1, 3); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// A rotten term or vote fails the store: no peer can say whom we voted for.
func TestRottenVoteFailsTheStore(t *testing.T) {
	for _, key := range []string{keyCurrentTerm, keyVote} {
		dir := t.TempDir()
		s, err := Open(dir, quiet(Options{}))
		must(t, err)
		must(t, s.SetUint64([]byte(keyCurrentTerm), 3))
		must(t, s.SetUint64([]byte(keyVoteTerm), 3))
		must(t, s.Set([]byte(keyVoteCand), []byte("n1")))
		must(t, s.Close())
		path := filepath.Join(dir, FileName)
		var size int
		edit(t, path, "conf", []byte(key), func(b []byte) []byte { size = len(b); return b })
		for i := range size {
			edit(t, path, "conf", []byte(key), flip(i))
			inner, err := OpenBolt(path)
			must(t, err)
			s, err := New(quiet(Options{Inner: inner}))
			if err == nil {
				if key == keyVote {
					_, err = s.Get([]byte(keyVoteCand))
				} else {
					_, err = s.GetUint64([]byte(key))
				}
			}
			if !errors.Is(err, ErrRotten) || !errors.Is(err, ErrFailed) {
				t.Fatalf("%s byte %d: got %v", key, i, err)
			}
			must(t, inner.Close())
			edit(t, path, "conf", []byte(key), flip(i))
		}
	}
}
