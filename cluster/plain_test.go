package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// plain is the bare library on the simulated network: what each fault test
// compares with, so that it shows a fault and not only our care.
type plain struct {
	id   string
	raft *raft.Raft
	disk *clustertest.Disk
	reg  *register
}

// register is a state machine that holds the last value applied.
type register struct {
	mu    sync.Mutex
	value string
}

func (r *register) Apply(l *raft.Log) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value = string(l.Data)
	return nil
}

func (r *register) get() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value
}
func (r *register) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("not needed here") }
func (r *register) Restore(io.ReadCloser) error         { return errors.New("not needed here") }

func plainCluster(t testing.TB, n *clustertest.Network, voters, nonvoters int, lease time.Duration) []*plain {
	t.Helper()
	var members raft.Configuration
	for i := range voters + nonvoters {
		id := fmt.Sprintf("n%d", i)
		s := raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)}
		if i >= voters {
			s.Suffrage = raft.Nonvoter
		}
		members.Servers = append(members.Servers, s)
	}
	var all []*plain
	for _, s := range members.Servers {
		all = append(all, startPlain(t, string(s.ID), n.Transport(string(s.ID)), &members, lease))
	}
	return all
}

func startPlain(t testing.TB, id string, via raft.Transport, members *raft.Configuration, lease time.Duration) *plain {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(id), hclog.NewNullLogger()
	c.LeaderLeaseTimeout = lease
	p := &plain{id: id, disk: clustertest.NewDisk(), reg: &register{}}
	snapshots := raft.NewInmemSnapshotStore()
	if members != nil {
		if err := raft.BootstrapCluster(c, p.disk, p.disk, snapshots, via, *members); err != nil {
			t.Fatal(err)
		}
	}
	r, err := raft.NewRaft(c, p.reg, p.disk, p.disk, snapshots, via)
	if err != nil {
		t.Fatal(err)
	}
	p.raft = r
	return p
}

func stopPlain(n *clustertest.Network, all []*plain) {
	var group sync.WaitGroup
	for _, p := range all {
		n.Kill(p.id)
		group.Go(func() { _ = p.raft.Shutdown().Error() })
	}
	group.Wait()
}

func plainLeader(all []*plain, not *plain) *plain {
	for {
		for _, p := range all {
			if p != not && p.raft.State() == raft.Leader {
				return p
			}
		}
		<-time.After(time.Millisecond)
	}
}

// spy notes which of the library's wishes reach the transport.
type spy struct {
	raft.Transport
	raft.WithPreVote
	mu                  sync.Mutex
	heartbeat, pipeline int
}

func (s *spy) SetHeartbeatHandler(f func(raft.RPC)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeat++
}

func (s *spy) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pipeline++
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (s *spy) counts() (heartbeat, pipeline int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heartbeat, s.pipeline
}

func timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
