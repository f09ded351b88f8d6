package clustertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
)

// Replica is one simulated node: what it keeps over restarts, and the Node while
// it runs. Id and address are the same.
type Replica struct {
	ID        string
	Ledger    *Ledger
	Log       *Disk
	Snapshots *raft.InmemSnapshotStore
	Node      *cluster.Node // nil while the replica is down
	Config    cluster.Config

	rand *seededReader

	mu    sync.Mutex
	fatal error
}

// Fatal is what the node halted for, or nil.
func (r *Replica) Fatal() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fatal
}

// Cluster is a set of replicas on one Network. Use it inside a synctest bubble.
type Cluster struct {
	T        testing.TB
	Network  *Network
	Replicas []*Replica
	change   func(*cluster.Config)
	seed     uint64
}

// New starts a cluster of voters named n0, n1, …. change, when set, may alter
// each node's configuration. The cluster closes when Close is called, which a
// synctest bubble must do before its function returns.
func New(t testing.TB, seed uint64, voters int, change func(*cluster.Config)) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Network: NewNetwork(seed), change: change, seed: seed}
	var first []cluster.Peer
	for i := range voters {
		id := fmt.Sprintf("n%d", i)
		first = append(first, cluster.Peer{ID: id, Address: id})
	}
	for i := range voters {
		c.Start(c.Add(first[i].ID, first))
	}
	return c
}

// Add makes a replica with empty disks that is not started. With voters it
// bootstraps, without it waits to be taken in.
func (c *Cluster) Add(id string, voters []cluster.Peer) *Replica {
	r := &Replica{ID: id, Ledger: NewLedger(), Log: NewDisk(), Snapshots: raft.NewInmemSnapshotStore()}
	// It goes on over restarts: a process never draws the same session twice.
	r.rand = &seededReader{rng: rand.New(rand.NewPCG(c.seed, uint64(len(c.Replicas))))}
	r.Config = cluster.Config{ID: id, Bootstrap: len(voters) > 0, Voters: voters}
	c.Replicas = append(c.Replicas, r)
	return r
}

// Start brings r up from what it has kept.
func (c *Cluster) Start(r *Replica) {
	c.T.Helper()
	cfg := r.Config
	cfg.Machine, cfg.Log, cfg.Stable, cfg.Snapshots = r.Ledger, r.Log, r.Log, r.Snapshots
	cfg.Transport = c.Network.Transport(r.ID)
	cfg.Rand = r.rand
	cfg.Fatal = func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fatal = err
	}
	if c.change != nil {
		c.change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n, err := cluster.Start(ctx, cfg)
	if err != nil {
		c.T.Fatalf("starting %s: %v", r.ID, err)
	}
	r.Node = n
}

// Kill ends r as kill -9 would: nothing it still owes is answered. Its disks
// and its ledger stay for Start.
func (c *Cluster) Kill(r *Replica) {
	c.Network.Kill(r.ID)
	c.stop(r)
}

func (c *Cluster) stop(r *Replica) {
	if r.Node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Node.Close(ctx); err != nil {
		c.T.Errorf("closing %s: %v", r.ID, err)
	}
	r.Node = nil
}

// Close stops everything and waits until messages under way have ended.
func (c *Cluster) Close() {
	for _, r := range c.Replicas {
		c.Network.Kill(r.ID)
	}
	var all sync.WaitGroup
	for _, r := range c.Replicas {
		all.Go(func() { c.stop(r) })
	}
	all.Wait()
}

// Leader waits until one of the running replicas, but none of not, leads.
func (c *Cluster) Leader(not ...*Replica) *Replica {
	c.T.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Millisecond) {
	next:
		for _, r := range c.Replicas {
			for _, x := range not {
				if r == x {
					continue next
				}
			}
			if r.Node != nil && r.Node.IsLeader() {
				return r
			}
		}
	}
	c.T.Fatal("no leader within a minute")
	return nil
}

// Follower returns a running replica that is not the leader.
func (c *Cluster) Follower() *Replica {
	leader := c.Leader()
	for _, r := range c.Replicas {
		if r != leader && r.Node != nil {
			return r
		}
	}
	c.T.Fatal("no follower")
	return nil
}

type seededReader struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (s *seededReader) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p {
		p[i] = byte(s.rng.Uint32())
	}
	return len(p), nil
}

// Disk is a log and stable store in memory whose writes can hang or fail.
type Disk struct {
	*raft.InmemStore
	mu    sync.Mutex
	until time.Time
	err   error
}

// NewDisk returns an empty, healthy disk.
func NewDisk() *Disk { return &Disk{InmemStore: raft.NewInmemStore()} }

// Stall makes every write hang for d from now.
func (d *Disk) Stall(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(t)
}

// FailWith makes every later write fail with err, until nil.
func (d *Disk) FailWith(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *Disk) write(do func() error) error {
	d.mu.Lock()
	until, err := d.until, d.err
	d.mu.Unlock()
	if wait := time.Until(until); wait > 0 {
		<-time.After(wait)
	}
	if err != nil {
		return err
	}
	return do()
}

// StoreLog implements raft.LogStore.
func (d *Disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (d *Disk) StoreLogs(ls []*raft.Log) error {
	return d.write(func() error { return d.InmemStore.StoreLogs(ls) })
}

// DeleteRange implements raft.LogStore.
func (d *Disk) DeleteRange(from, to uint64) error {
	return d.write(func() error { return d.InmemStore.DeleteRange(from, to) })
}

// Set implements raft.StableStore.
func (d *Disk) Set(key, value []byte) error {
	return d.write(func() error { return d.InmemStore.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (d *Disk) SetUint64(key []byte, value uint64) error {
	return d.write(func() error { return d.InmemStore.SetUint64(key, value) })
}
