package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// A node whose log lost its end has broken a promise: it may have acknowledged
// what was there, and a leader may have counted that towards a commit. Such a
// node may go on, with a durable note of how far it had promised, if it takes
// no part in elections until it has applied everything up to there.
//
// Why that is safe: an acknowledgement matters in one place, where it keeps a
// candidate that lacks the entry from being elected. A leader elected without
// this node's vote has a quorum of others, and at least one of those is in the
// quorum that committed the entry; so it holds the entry, and this node gets it
// back from there before it votes again. Term and vote were never lost. New
// entries it may acknowledge at once: it holds them.

// keyPromised is where the stable store keeps the note; absent or 0: none.
var keyPromised = []byte("ConclavePromised")

// ErrSoleVoter: the node knows of no other voter, so nobody else can hold what
// its log has lost.
var ErrSoleVoter = errors.New("no other voter can hold what the log lost")

var errOwes = errors.New("this node takes no part in elections until it has back what its log lost")

// GiveUpTail drops the entries of a stopped node's log from index from on, which
// are rotten and which no peer can supply, and notes durably that the node had
// promised them: Start then has it abstain from elections until it has applied
// as much again. from must be above everything that the state and the snapshots
// hold. It changes nothing and returns ErrSoleVoter when id is the only voter
// that the rest of the log knows: such a node would elect itself.
func GiveUpTail(id string, from uint64, log raft.LogStore, stable raft.StableStore, snapshots raft.SnapshotStore) error {
	failed := func(err error) error { return fmt.Errorf("giving up log entries from %d on: %w", from, err) }
	members, err := membersBelow(from, log, snapshots)
	if err != nil {
		return failed(err)
	}
	if soleVoter(members, id) {
		return failed(ErrSoleVoter)
	}
	last, err := log.LastIndex()
	if err != nil {
		return failed(err)
	}
	earlier, err := promised(stable)
	if err != nil {
		return failed(err)
	}
	// The note first: a crash between the two leaves a node that abstains with a
	// whole log, and not one that votes with half of one.
	if err := stable.SetUint64(keyPromised, max(last, earlier)); err != nil {
		return failed(err)
	}
	if err := log.DeleteRange(from, last); err != nil {
		return failed(err)
	}
	return nil
}

// membersBelow is the membership that a node starts with whose log ends before
// index: as the library finds it.
func membersBelow(index uint64, log raft.LogStore, snapshots raft.SnapshotStore) (raft.Configuration, error) {
	list, err := snapshots.List()
	if err != nil {
		return raft.Configuration{}, fmt.Errorf("listing snapshots: %w", err)
	}
	var found raft.Configuration
	var covered uint64
	if len(list) > 0 {
		found, covered = list[0].Configuration, list[0].Index
	}
	first, err := log.FirstIndex()
	if err != nil {
		return raft.Configuration{}, err
	}
	for i := index - 1; i > covered && i >= first && first > 0; i-- {
		var e raft.Log
		if err := log.GetLog(i, &e); err != nil {
			return raft.Configuration{}, fmt.Errorf("reading log entry %d: %w", i, err)
		}
		if e.Type == raft.LogConfiguration {
			return raft.DecodeConfiguration(e.Data), nil
		}
	}
	return found, nil
}

func soleVoter(c raft.Configuration, id string) bool {
	others, own := 0, false
	for _, s := range c.Servers {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == raft.ServerID(id):
			own = true
		default:
			others++
		}
	}
	return own && others == 0
}

// promised reads the note of GiveUpTail.
func promised(stable raft.StableStore) (uint64, error) {
	index, err := stable.GetUint64(keyPromised)
	if err != nil && !errors.Is(err, raftlog.ErrKeyNotFound) {
		return 0, fmt.Errorf("reading how far the log was promised: %w", err)
	}
	return index, nil
}

// owes tells whether the node has not got back yet what its log lost.
func (n *Node) owes() bool { return n.promised > n.marks.at() }

// redeem waits until the node has got back what its log lost, and removes the note.
func (n *Node) redeem() {
	if n.owes() {
		n.cfg.Logger.Warn("the end of this node's log was lost; it takes no part in elections until it has it back", "until", n.promised, "applied", n.marks.at())
	}
	if err := n.marks.wait(n.ctx, n.stop, n.promised); err != nil {
		return // stopped; the note stays
	}
	n.disk.write("removing the note of what the log had lost", func() error { return n.cfg.Stable.SetUint64(keyPromised, 0) })
	n.cfg.Logger.Info("this node takes part in elections again", "applied", n.marks.at())
}

// screen passes the messages of other nodes on to the library, but refuses those
// that ask for a vote while this node owes.
func (n *Node) screen(in <-chan raft.RPC, out chan<- raft.RPC) {
	for {
		select {
		case rpc := <-in:
			if asksForVote(rpc) && n.owes() {
				rpc.Respond(nil, errOwes)
				continue
			}
			select {
			case out <- rpc:
			case <-n.stop:
				return
			}
		case <-n.stop:
			return
		}
	}
}

func asksForVote(rpc raft.RPC) bool {
	switch rpc.Command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest, *raft.TimeoutNowRequest:
		return true
	}
	return false
}
