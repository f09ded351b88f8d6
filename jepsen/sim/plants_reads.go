package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// What is planted in the confirmation of reads: a leader that asks whether it still
// leads, and takes for an answer what is none.

// acceptances are the messages that others accepted of one leader, by their number in
// the order of sending. For concurrent use.
type acceptances struct {
	mu      sync.Mutex
	sent    uint64
	newest  map[string]uint64 // by who accepted: the newest message, by its number
	count   map[string]uint64 // … how many came back
	changed chan struct{}     // closed and made anew
}

func newAcceptances() *acceptances {
	return &acceptances{newest: map[string]uint64{}, count: map[string]uint64{}, changed: make(chan struct{})}
}

func (a *acceptances) send() (number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent++
	return a.sent
}

func (a *acceptances) accept(by string, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.newest[by] = max(a.newest[by], number)
	a.count[by]++
	close(a.changed)
	a.changed = make(chan struct{})
}

// countingTransport keeps the acceptances of what a node sends, which may be late.
type countingTransport struct {
	cluster.Transport
	accepted *acceptances
	late     func() time.Duration
}

func (t countingTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	number := t.accepted.send()
	err := t.Transport.AppendEntries(id, to, req, resp)
	if len(req.Entries) == 0 {
		<-time.After(t.late())
	}
	if err == nil && resp.Success {
		t.accepted.accept(string(to), number)
	}
	return err
}

// countedReads has a leader confirm reads by a count of its own.
type countedReads struct {
	core.Ledger
	process  *testcluster.Process
	accepted *acceptances
	// counts tells whether a member counts; fresh whether only acceptances of messages
	// that were sent after the read began do.
	counts func(cluster.Member) bool
	fresh  bool
}

func (l countedReads) ReadIndex(ctx context.Context) (uint64, error) {
	if !l.process.Node.IsLeader() {
		return l.Ledger.ReadIndex(ctx)
	}
	index, err := localReads{l.Ledger}.ReadIndex(ctx)
	if err != nil {
		return 0, err
	}
	go func() { _, _ = l.Ledger.ReadIndex(ctx) }() // sends the messages; what it finds is not asked for
	l.accepted.mu.Lock()
	sent, count := l.accepted.sent, maps.Clone(l.accepted.count)
	l.accepted.mu.Unlock()
	for {
		l.accepted.mu.Lock()
		changed := l.accepted.changed
		enough := l.enough(func(id string) bool {
			if l.fresh {
				return l.accepted.newest[id] > sent
			}
			return l.accepted.count[id] > count[id]
		})
		l.accepted.mu.Unlock()
		if enough {
			return index, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("confirming a read: %w", context.Cause(ctx))
		}
	}
}

// enough tells whether as many accepted as voters are a quorum. The node itself, whose
// messages go to others only, is one of them.
func (l countedReads) enough(accepted func(id string) bool) bool {
	voters, yes := 0, 1
	for _, m := range l.process.Node.Members() {
		if m.Voter {
			voters++
		}
		if l.counts(m) && accepted(m.ID) {
			yes++
		}
	}
	return yes > voters/2
}

// weather is what it takes for a count of acceptances to show: a leader that is stuck in
// its disk for so long that others elect one, answers that take their time, and members
// whom others do not reach. Zero: never.
type weather struct {
	stuck  int // one write in so many takes up to 1.8 s: less than what makes the leader silent
	late   int // one answer in so many takes up to 1.5 s
	remote bool
}

var (
	lateAnswers     = weather{stuck: 40, late: 4}
	remoteNewcomers = weather{stuck: 8, remote: true}
)

type dicedWeather struct {
	weather
	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

// nowAndThen is up to most, once in so many times.
func (w *dicedWeather) nowAndThen(once int, most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if once == 0 || w.rng.IntN(once) != 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(most)))
}

// stuckLog is a disk whose writes take long now and then.
type stuckLog struct {
	*raftlog.Memory
	stuck func() time.Duration
}

func (l stuckLog) StoreLogs(logs []*raft.Log) error {
	<-time.After(l.stuck())
	return l.Memory.StoreLogs(logs)
}

// remoteMembers lets only one of the founders reach members that came later.
type remoteMembers struct{ cluster.Transport }

func (t remoteMembers) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if strings.HasPrefix(string(to), "late") && t.LocalAddr() != "n0" {
		<-time.After(10 * time.Millisecond)
		return clustertest.ErrLost
	}
	return t.Transport.AppendEntries(id, to, req, resp)
}

// onCounts plants a count of acceptances in the weather in which it shows.
func onCounts(counts func(cluster.Member) bool, fresh bool, w weather, faults ...string) func(*Options) {
	return func(o *Options) {
		w := &dicedWeather{weather: w, rng: dice(o.Seed, 9)}
		var mu sync.Mutex
		all := map[*testcluster.Process]*acceptances{}
		of := func(p *testcluster.Process) *acceptances {
			mu.Lock()
			defer mu.Unlock()
			if all[p] == nil {
				all[p] = newAcceptances()
			}
			return all[p]
		}
		o.seams.Transport = func(p *testcluster.Process, t cluster.Transport) cluster.Transport {
			if w.remote {
				t = remoteMembers{t}
			}
			return countingTransport{t, of(p), func() time.Duration { return w.nowAndThen(w.late, 1500*time.Millisecond) }}
		}
		o.seams.Ledger = func(p *testcluster.Process, l core.Ledger) core.Ledger {
			return countedReads{l, p, of(p), counts, fresh}
		}
		o.seams.Log = func(m *raftlog.Memory) raftlog.Inner {
			return stuckLog{m, func() time.Duration { return w.nowAndThen(w.stuck, 1800*time.Millisecond) }}
		}
		o.Faults, o.Duration = faults, 20*time.Second
	}
}

func votes(m cluster.Member) bool { return m.Voter }

func anybody(cluster.Member) bool { return true }
