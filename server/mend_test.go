package server

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// rotTail appends to the log of a stopped node an entry that no other node has,
// as a leader does whose last moment it is, and damages it on the disk. It
// returns the entry's index.
func rotTail(t *testing.T, dataDir string) uint64 {
	t.Helper()
	dir := filepath.Join(dataDir, raftDir)
	log, err := raftlog.Open(dir, raftlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var e raft.Log
	if err := log.GetLog(last, &e); err != nil {
		t.Fatal(err)
	}
	tail := &raft.Log{Index: last + 1, Term: e.Term, Type: raft.LogNoop, Data: []byte("never committed")}
	if err := errors.Join(log.StoreLog(tail), log.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(dir, raftlog.FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := binary.BigEndian.AppendUint64(nil, last+1)
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("logs"))
		stored := append([]byte(nil), b.Get(key)...)
		stored[len(stored)/2] ^= 1
		return b.Put(key, stored)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return last + 1
}

// L11: a node whose last entry has rotted, and that no other node has, starts
// all the same, abstains from elections until it has that much log again, and
// is then like the others. No operator is needed.
func TestRottenTailIsGivenUp(t *testing.T) {
	f := foundCluster(t)
	second, third := f.join(), f.join()
	f.unseal(second)
	f.eventually("all three vote", func() error {
		for _, m := range f.first.member.node.Members() {
			if !m.Voter {
				return errNotYet
			}
		}
		return nil
	})
	dir := third.cfg.DataDir
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	index := rotTail(t, dir)
	third = startNode(t, restarted(third))
	if note, err := third.member.log.GetUint64([]byte("ConclavePromised")); err != nil || note != index {
		t.Errorf("it notes that it had promised up to %d, %v; want %d", note, err, index)
	}
	// Nobody writes here, but a new leader does.
	f.eventually("it has as much log again", func() error {
		if err := f.first.member.node.StepDown(f.ctx); err != nil && !errors.Is(err, cluster.ErrNotLeader) {
			return err
		}
		if applied, _ := third.member.machine.Applied(); applied < index {
			return errNotYet
		}
		return nil
	})
	f.eventually("the note is gone", func() error {
		note, err := third.member.log.GetUint64([]byte("ConclavePromised"))
		if err == nil && note != 0 {
			err = errNotYet
		}
		return err
	})
	at, sum := third.member.machine.StateHash()
	if other, known := second.member.machine.HashAt(at); known && other != sum {
		t.Errorf("its state differs at entry %d", at)
	}
}

// L11: the only voter does not do without an entry that nobody else can have,
// and says what to do.
func TestRottenTailOfTheOnlyVoter(t *testing.T) {
	f := foundCluster(t)
	if err := f.first.Close(); err != nil {
		t.Fatal(err)
	}
	rotTail(t, f.first.cfg.DataDir)
	cfg := Config{DataDir: f.first.cfg.DataDir}
	for _, l := range []*ListenConfig{&cfg.API.ListenConfig, &cfg.Peer, &cfg.Gossip} {
		l.Address = "127.0.0.1:0"
	}
	cfg.HTTP.Address = "127.0.0.1:0"
	n, err := Start(f.ctx, cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal(errors.Join(errors.New("it started"), n.Close()))
	}
	var dir *DataDirError
	if !errors.As(err, &dir) || !strings.Contains(dir.Hint, "backup") || !strings.Contains(dir.Problem, "only voter") {
		t.Errorf("got %v", err)
	}
}

// A removed node that comes back ends with what happened and what to do.
func TestRemovedNodeSaysSo(t *testing.T) {
	f := foundCluster(t)
	second := f.join()
	f.eventually("it votes", func() error {
		for _, m := range f.first.member.node.Members() {
			if !m.Voter {
				return errNotYet
			}
		}
		return nil
	})
	id := second.id.NodeID
	if err := f.first.RemoveMember(f.ctx, callerOf(f.made.RootToken), id); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, restarted(second))
	ended := make(chan error, 1)
	go func() { ended <- again.Wait() }()
	select {
	case err := <-ended:
		var wrong *DataDirError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, "removed") || !strings.Contains(wrong.Hint, "join-token") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it still runs, and says nothing")
	}
}
