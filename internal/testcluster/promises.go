package testcluster

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// promises are what nodes told each other, as it crossed the wire: votes that they
// gave, terms that they knew, entries that they stored. A node that comes back must
// have all of it on its disk. For concurrent use.
type promises struct {
	mu    sync.Mutex
	wrong []string
	votes map[string]map[uint64]string // by voter and term: the candidate
	terms map[string]uint64            // the highest that the node has answered in
	held  map[string]map[uint64]uint64 // by node and index: the term of the entry

	failed atomic.Int64 // calls of the consensus that had no answer
}

func newPromises() *promises {
	return &promises{votes: map[string]map[uint64]string{}, terms: map[string]uint64{}, held: map[string]map[uint64]uint64{}}
}

func (p *promises) vote(voter string, term uint64, candidate string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.votes[voter] == nil {
		p.votes[voter] = map[uint64]string{}
	}
	if before, ok := p.votes[voter][term]; ok && before != candidate {
		p.wrong = append(p.wrong, fmt.Sprintf("%s voted twice in term %d: for %s and for %s", voter, term, before, candidate))
	}
	p.votes[voter][term] = candidate
	p.terms[voter] = max(p.terms[voter], term)
}

func (p *promises) stored(node string, term uint64, entries []*raft.Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.terms[node] = max(p.terms[node], term)
	if p.held[node] == nil {
		p.held[node] = map[uint64]uint64{}
	}
	for _, e := range entries {
		p.held[node][e.Index] = e.Term
	}
}

// kept holds the disk of a node that comes back to what it told before. committed is
// the term of the entry that was committed at an index, covered the end of the node's
// newest snapshot. An entry that was never committed may have had to go.
func (p *promises) kept(node string, log *raftlog.Store, covered uint64, committed func(index uint64) (term uint64, ok bool)) error {
	term, err := log.GetUint64([]byte("CurrentTerm"))
	if err != nil && !errors.Is(err, raftlog.ErrKeyNotFound) {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < p.terms[node] {
		p.wrong = append(p.wrong, fmt.Sprintf("%s came back in term %d, and had answered in term %d", node, term, p.terms[node]))
	}
	voted, candidate, err := lastVote(log)
	if err != nil {
		return err
	}
	if given, ok := p.votes[node][term]; ok && (voted != term || candidate != given) {
		p.wrong = append(p.wrong, fmt.Sprintf("%s came back in term %d without its vote for %s", node, term, given))
	}
	last = max(last, covered)
	lost := uint64(0)
	for index, of := range p.held[node] {
		if is, ok := committed(index); index > last && ok && is == of {
			lost++
		}
	}
	if lost > 0 {
		p.wrong = append(p.wrong, fmt.Sprintf("%s came back without %d entries above index %d that it had stored", node, lost, last))
	}
	return nil
}

// lastVote is the vote on a node's disk; term 0: none.
func lastVote(log *raftlog.Store) (term uint64, candidate string, err error) {
	term, err = log.GetUint64([]byte("LastVoteTerm"))
	if errors.Is(err, raftlog.ErrKeyNotFound) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	name, err := log.Get([]byte("LastVoteCand"))
	return term, string(name), err
}

// overheard is a node's transport with the promises of those it calls noted.
type overheard struct {
	cluster.Transport
	promises *promises
}

func (t overheard) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := t.Transport.RequestVote(id, to, req, resp)
	if err == nil && resp.Granted {
		t.promises.vote(string(to), req.Term, string(req.Addr))
	}
	return err
}

func (t overheard) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.Transport.AppendEntries(id, to, req, resp)
	if err != nil {
		t.promises.failed.Add(1)
	}
	if err == nil && resp.Success {
		t.promises.stored(string(to), req.Term, req.Entries)
	}
	return err
}
