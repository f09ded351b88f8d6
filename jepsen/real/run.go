package real

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// Options says how a run goes. Zero means the stated default.
type Options struct {
	Binary  string        // the conclave binary; required
	Dir     string        // an empty directory that the caller removes; required
	Nodes   int           // 3 or 5; default 5
	For     time.Duration // of the faults; default a minute
	Seed    uint64
	Clients int      // default 6
	Faults  []string // names, see FaultNames; nil: all that are possible
	// PlainDisks puts the nodes on the machine's own disks, without the faults of disks.
	PlainDisks bool
	Progress   func(string) // told of each fault; may be nil
}

func (o *Options) fill() {
	if o.Nodes == 0 {
		o.Nodes = 5
	}
	if o.For == 0 {
		o.For = time.Minute
	}
	if o.Clients == 0 {
		o.Clients = 6
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
}

// An Outcome is what is left of a run. It is the caller's.
type Outcome struct {
	Seed       uint64
	Took       time.Duration
	Started    time.Time
	Ops        []*history.Op
	Faults     []history.Fault
	Violations []string        // what was found while it ran and in what the nodes left; see Judge
	Invalid    []string        // why the run proves nothing, which is neither pass nor fail
	Notes      []string        // what else a reader should know
	Gaps       []time.Duration // how long no write was acknowledged around each kill of a leader
	NodeLogs   []string        // paths below Options.Dir
	Counts     Counts
	Disks      string // what the nodes lay on: "fuse", or "" for the machine's own
}

// Run runs a cluster under faults. Its error says that the run could not be made;
// what was wrong with the cluster is in the Outcome, and in what Judge finds.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	o.fill()
	r, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	out := r.play(ctx)
	return out, r.close()
}

// run is a run under way.
type run struct {
	options  Options
	fabric   *fabric.Fabric
	cluster  *testprocess.Cluster
	nemesis  *nemesis
	began    time.Time
	world    *workload.World
	canary   string               // in every value
	paced    [pacers]atomic.Int64 // writes of each pacer
	overHTTP atomic.Int64
	lives    []atomic.Int64
	lifeSum  atomic.Int64
	askers   []*client.Client
	stalled  atomic.Int64  // answers that the audit log fails, with no fault on a disk
	patience time.Duration // for one attempt
	disks    []*disk       // by node
	badUntil atomic.Int64  // on the clock of the ops: until when disks were bad
	noDisks  error         // why disks cannot be broken; nil: they can

	mu     sync.Mutex
	found  []string          // guarded by mu; violations
	notes  []string          // guarded by mu
	hashes map[uint64]string // guarded by mu; state hashes by index
	// guarded by mu; data directories of nodes that were replaced
	retired []string
	// How far any clock was ever ahead of ours.
	jumped, drifted time.Duration // guarded by mu
}

// begin makes network and cluster.
func begin(ctx context.Context, o Options) (r *run, err error) {
	if o.Binary == "" || o.Dir == "" || o.Nodes < 3 {
		return nil, errors.New("running real processes: a binary, a directory and three nodes or more are needed")
	}
	r = &run{options: o, lives: make([]atomic.Int64, o.Nodes), hashes: map[uint64]string{}, patience: 1500 * time.Millisecond}
	if r.nemesis, err = newNemesis(r); err != nil {
		return nil, err
	}
	// Behind the nodes are a host for the clients and one for the operator, whom no
	// fault hits.
	r.fabric, err = fabric.New(fabric.Options{Hosts: o.Nodes + 2, Seed: o.Seed, Ports: map[uint16]fabric.Class{
		testprocess.PeerPort: fabric.Peer, testprocess.GossipPort: fabric.Gossip, testprocess.APIPort: fabric.Client, testprocess.HTTPPort: fabric.Client}})
	if err != nil {
		return nil, fmt.Errorf("running real processes: %w", err)
	}
	if err := r.mountDisks(); err != nil {
		return nil, errors.Join(fmt.Errorf("running real processes: %w", err), r.close())
	}
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r.cluster, err = testprocess.Start(starting, testprocess.Options{
		Binary: o.Binary, Dir: o.Dir, Nodes: o.Nodes,
		Args:    []string{"--raft-snapshot-threshold", strconv.Itoa(snapshotEvery), "--raft-snapshot-interval", "500ms"},
		DataDir: r.dataDir,
		Host:    func(node int) string { return r.fabric.Hosts[node].Address.String() },
		Spawn:   r.spawn,
		Env:     func(node int) []string { return []string{clockVariable + "=" + r.clockFile(node)} },
		Dial:    r.dialFrom(r.operatorHost()),
	})
	if err == nil {
		err = r.prepare()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *run) clientHost() int   { return r.options.Nodes }
func (r *run) operatorHost() int { return r.options.Nodes + 1 }

// spawn starts a node's process on its host. Each process has a number of its own.
func (r *run) spawn(node int, cmd *exec.Cmd) error {
	err := r.fabric.Hosts[node].Start(cmd)
	r.lives[node].Store(r.lifeSum.Add(1))
	return err
}

func (r *run) report(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *run) now() time.Duration { return time.Since(r.began) }

// play lets clients and faults loose, mends everything, and judges what is left.
func (r *run) play(ctx context.Context) *Outcome {
	r.began = time.Now()
	out := &Outcome{Seed: r.options.Seed, Started: r.began}
	if r.noDisks == nil {
		out.Disks = "fuse"
	}
	working, stop := context.WithTimeout(ctx, r.options.For)
	defer stop()
	var clients sync.WaitGroup
	for i := range r.options.Clients {
		clients.Go(func() { r.newWorker(i).work(working) })
	}
	for i := range pacers {
		clients.Go(func() { r.newPacer(i).work(working) })
	}
	r.nemesis.work(working)
	stop()
	clients.Wait()
	r.lookBack(ctx)
	r.converge(ctx)
	r.checkProcesses(ctx)
	r.leave(ctx)
	r.sum(ctx, out)
	return out
}

// leave ends the processes in good order and looks at what they leave behind.
func (r *run) leave(ctx context.Context) {
	for i, n := range r.cluster.Nodes {
		r.checkAlive(i)
		if err := n.Terminate(); err != nil {
			r.report("ending: %v", err)
		}
	}
	if err := r.closeDisks(); err != nil {
		r.report("ending: %v", err)
	}
	r.checkFiles(ctx)
	r.checkCoverage(ctx)
}

func (r *run) logs() (paths []string) {
	for i := range r.options.Nodes {
		paths = append(paths, filepath.Join(r.options.Dir, fmt.Sprintf("node%d.log", i+1)))
	}
	return paths
}

func (r *run) close() error {
	var errs []error
	for _, c := range r.askers {
		errs = append(errs, c.Close())
	}
	if r.cluster != nil {
		errs = append(errs, r.cluster.Stop())
	}
	errs = append(errs, r.closeDisks())
	return errors.Join(append(errs, r.fabric.Close())...)
}
