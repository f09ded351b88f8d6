package raftlog

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// powerCuts copies the bbolt file before each write that reaches it: each copy
// is the disk of a machine that lost power there. (A commit of bbolt is atomic by
// its two checksummed meta pages, so the boundaries between commits are all there are.)
type powerCuts struct {
	Inner
	t    *testing.T
	path string
	cuts []string
}

func (p *powerCuts) cut() {
	to := fmt.Sprintf("%s.cut%d", p.path, len(p.cuts))
	b, err := os.ReadFile(p.path)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		p.t.Error(err)
	}
	p.cuts = append(p.cuts, to)
}

func (p *powerCuts) Set(k, v []byte) error              { p.cut(); return p.Inner.Set(k, v) }
func (p *powerCuts) SetUint64(k []byte, v uint64) error { p.cut(); return p.Inner.SetUint64(k, v) }
func (p *powerCuts) StoreLog(l *raft.Log) error         { p.cut(); return p.Inner.StoreLog(l) }
func (p *powerCuts) StoreLogs(l []*raft.Log) error      { p.cut(); return p.Inner.StoreLogs(l) }

// ask sends req to one of five servers: a real raft.Raft over store, whose
// election timers never fire.
func ask(t *testing.T, store Inner, req *raft.RequestVoteRequest) *raft.RequestVoteResponse {
	t.Helper()
	r, call := server(t, store, raft.NewInmemSnapshotStore())
	resp := call(req, nil).(*raft.RequestVoteResponse)
	must(t, r.Shutdown().Error())
	return resp
}

// server starts a raft.Raft over the stores and returns how to send it an RPC.
func server(t *testing.T, store Inner, snaps raft.SnapshotStore) (r *raft.Raft, call func(req any, body io.Reader) any) {
	t.Helper()
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "N", hclog.NewNullLogger()
	conf.HeartbeatTimeout, conf.ElectionTimeout = time.Hour, time.Hour
	_, peers := raft.NewInmemTransport("N")
	rpcs := make(chan raft.RPC)
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, store, store, snaps, &oneWay{peers, rpcs})
	must(t, err)
	return r, func(req any, body io.Reader) any {
		t.Helper()
		answer := make(chan raft.RPCResponse, 1)
		rpcs <- raft.RPC{Command: req, Reader: body, RespChan: answer}
		resp := <-answer
		must(t, resp.Error)
		return resp.Response
	}
}

// oneWay is a transport that only delivers what the test sends.
type oneWay struct {
	raft.Transport
	rpcs chan raft.RPC
}

func (o *oneWay) Consumer() <-chan raft.RPC { return o.rpcs }

func voteRequest(candidate string, term, lastIndex, lastTerm uint64) *raft.RequestVoteRequest {
	return &raft.RequestVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(candidate), Addr: []byte(candidate)},
		Term:      term, LastLogIndex: lastIndex, LastLogTerm: lastTerm,
	}
}

// tornVotes lets a voter that holds a committed entry of term 7 and once voted
// for B vote for A in term 8, cuts the power at every write on the way, and
// counts the restarts after which it votes in term 8 for B, who lacks the entry.
func tornVotes(t *testing.T, harden func(Inner) Inner) (cuts, granted int) {
	path := filepath.Join(t.TempDir(), FileName)
	bolt, err := OpenBolt(path)
	must(t, err)
	recorded := &powerCuts{Inner: bolt, t: t, path: path}
	store := harden(recorded)
	var five raft.Configuration
	for _, id := range []string{"A", "B", "C", "D", "N"} {
		five.Servers = append(five.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	must(t, store.SetUint64([]byte(keyCurrentTerm), 7))
	must(t, store.SetUint64([]byte(keyVoteTerm), 6))
	must(t, store.Set([]byte(keyVoteCand), []byte("B")))
	must(t, store.StoreLogs([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(five)},
		{Index: 2, Term: 7, Type: raft.LogCommand, Data: []byte("committed in term 7")},
	}))
	recorded.cuts = nil
	if !ask(t, store, voteRequest("A", 8, 2, 7)).Granted {
		t.Fatal("the voter refuses an up-to-date candidate: the scene is wrong")
	}
	recorded.cut()
	must(t, store.Close())
	for _, cut := range recorded.cuts {
		inner, err := OpenBolt(cut)
		must(t, err)
		restarted := harden(inner)
		if ask(t, restarted, voteRequest("B", 8, 1, 1)).Granted {
			granted++
		}
		must(t, restarted.Close())
	}
	return len(recorded.cuts), granted
}

// L4: over plain raft-boltdb a power cut between the two halves of a vote makes
// the voter elect a leader without an entry that it had acknowledged; over ours
// no cut does.
func TestTornVote(t *testing.T) {
	cuts, granted := tornVotes(t, func(inner Inner) Inner { return inner })
	if granted == 0 {
		t.Errorf("plain store: %d cuts, no wrong vote: the library no longer has the fault, or the scene is wrong", cuts)
	}
	t.Logf("plain raft-boltdb: %d power cuts, %d wrong votes", cuts, granted)
	cuts, granted = tornVotes(t, func(inner Inner) Inner { return mustNew(t, Options{Inner: inner}) })
	if granted != 0 || cuts < 3 {
		t.Errorf("hardened store: %d power cuts, %d wrong votes", cuts, granted)
	}
	t.Logf("hardened: %d power cuts, %d wrong votes", cuts, granted)
}

// L4 once more, on the store alone: whatever is found after a cut is a pair that
// was written together.
func TestVotePairAtEveryCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	bolt, err := OpenBolt(path)
	must(t, err)
	recorded := &powerCuts{Inner: bolt, t: t, path: path}
	s := mustNew(t, Options{Inner: recorded})
	for term := uint64(1); term <= 5; term++ {
		must(t, s.SetUint64([]byte(keyCurrentTerm), term))
		must(t, s.SetUint64([]byte(keyVoteTerm), term))
		recorded.cut() // between Raft's two calls
		must(t, s.Set([]byte(keyVoteCand), fmt.Appendf(nil, "candidate %d", term)))
	}
	recorded.cut()
	must(t, s.Close())
	var seen uint64
	for _, cut := range recorded.cuts {
		s := openPath(t, cut, Options{})
		term, cand := readVote(t, s)
		if term != 0 && cand != fmt.Sprintf("candidate %d", term) {
			t.Errorf("%s: term %d beside %q", cut, term, cand)
		}
		if term < seen {
			t.Errorf("%s: the vote went back from term %d to %d", cut, seen, term)
		}
		seen = term
		must(t, s.Close())
	}
	if seen != 5 {
		t.Errorf("the last vote is of term %d", seen)
	}
}

// readVote reads the vote as Raft does: two calls.
func readVote(t testing.TB, s *Store) (term uint64, candidate string) {
	t.Helper()
	term, err := s.GetUint64([]byte(keyVoteTerm))
	if err == ErrKeyNotFound {
		return 0, ""
	}
	must(t, err)
	cand, err := s.Get([]byte(keyVoteCand))
	must(t, err)
	return term, string(cand)
}
