package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

// nemesis does the damage: one goroutine to the network and the clocks, one to
// the processes, so that the two overlap. Everything it chooses is of the seed.
type nemesis struct {
	sim     *testcluster.Sim
	options Options
	began   time.Time
	busy    []atomic.Int64 // requests under way, by node

	mu        sync.Mutex
	active    int           // guarded by mu; faults at work
	ended     time.Duration // guarded by mu; when the last one ended
	done      map[string]int
	inFlight  int // partitions that cut off a node with requests under way
	failed    []error
	proof     int64           // guarded by mu; of the process fault at work
	bit       map[string]int  // guarded by mu; how often a fault that can miss did not
	lingering []string        // guarded by mu; new members that could not be removed
	faults    []history.Fault // guarded by mu
}

func newNemesis(s *testcluster.Sim, o Options) *nemesis {
	return &nemesis{sim: s, options: o, began: time.Now(), busy: make([]atomic.Int64, len(s.Replicas)), done: map[string]int{}, bit: map[string]int{}}
}

// aftermath is how long after a fault the cluster may still be finding itself:
// an election, and calls that time out.
const aftermath = 1200 * time.Millisecond // times the stretch

// track counts a request under way at a node; call the result at its end.
func (n *nemesis) track(node int) func() {
	n.busy[node].Add(1)
	return func() { n.busy[node].Add(-1) }
}

// disturbedSince tells whether a fault was at work since t.
func (n *nemesis) disturbedSince(t time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.active > 0 || n.ended > 0 && t < n.ended+n.options.slow(aftermath)
}

func (n *nemesis) counts() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.done)
}

// fault is something that goes wrong for a while.
type fault struct {
	name string
	do   func(n *nemesis, rng *rand.Rand, hold func())
}

// prove says that the process fault at work did something, times as often.
func (n *nemesis) prove(times int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proof += times
}

// cuts names the faults that prove themselves by calls that fail.
var cuts = []string{"leader cut off", "node cut off", "halves", "one-way cut", "lost messages", "leader killed", "leader without power", "node killed", "blackout"}

// canMiss names the faults that may do nothing, and what they do otherwise.
var canMiss = map[string]string{
	"failing disk": "halts for a failing disk", "full disk": "halts for a full disk", "hanging disk": "halts for a hanging disk",
	"new member": "new voters", "member without a vote": "votes taken away", "keys rotated": "new data keys",
}

var networkFaults = []fault{
	{"leader cut off", func(n *nemesis, rng *rand.Rand, hold func()) { n.isolate(n.leaderOr(rng), hold) }},
	{"node cut off", func(n *nemesis, rng *rand.Rand, hold func()) { n.isolate(rng.IntN(len(n.sim.Replicas)), hold) }},
	{"halves", (*nemesis).halves},
	{"one-way cut", (*nemesis).oneWay},
	{"slow messages", (*nemesis).slow},
	{"lost messages", (*nemesis).lossy},
	{"repeated messages", func(n *nemesis, _ *rand.Rand, hold func()) {
		n.sim.Network.SetDuplicates(0.5)
		hold()
		n.sim.Network.SetDuplicates(0)
	}},
	{"wrong clock", (*nemesis).skew},
}

var processFaults = []fault{
	{"leader killed", func(n *nemesis, rng *rand.Rand, hold func()) { n.kill(n.leaderOr(rng), testcluster.Killed, rng, hold) }},
	{"leader without power", func(n *nemesis, rng *rand.Rand, hold func()) {
		n.kill(n.leaderOr(rng), testcluster.PowerCut, rng, hold)
	}},
	{"node killed", func(n *nemesis, rng *rand.Rand, hold func()) {
		n.kill(rng.IntN(len(n.sim.Replicas)), testcluster.Killed, rng, hold)
	}},
	{"blackout", (*nemesis).blackout},
	{"leadership handed over", (*nemesis).transfer},
	{"node sealed", (*nemesis).seal},
	{"snapshot", (*nemesis).snapshot},
	{"slow disk", (*nemesis).slowDisk},
	{"rotten log", (*nemesis).rot},
}

// FaultNames returns the names of all faults.
func FaultNames() (names []string) {
	for _, f := range slices.Concat(networkFaults, processFaults, diskFaults, memberFaults) {
		names = append(names, f.name)
	}
	return names
}

func (n *nemesis) disturbNetwork(ctx context.Context) { n.disturb(ctx, networkFaults, 1) }

func (n *nemesis) disturbProcesses(ctx context.Context) {
	n.disturb(ctx, slices.Concat(processFaults, diskFaults, memberFaults), 2)
}

// disturb does one fault after the other, with pauses, until ctx ends.
func (n *nemesis) disturb(ctx context.Context, faults []fault, use uint64) {
	rng := dice(n.options.Seed, use)
	faults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !slices.Contains(n.options.Faults, f.name) })
	if len(faults) == 0 {
		return
	}
	most := 1500 * time.Millisecond
	if n.options.Seed%4 == 3 { // a quarter of the seeds hardly comes to rest
		most = 200 * time.Millisecond
	}
	for {
		pause(ctx, n.options.leisurely(100*time.Millisecond+time.Duration(rng.Int64N(int64(most)))))
		if ctx.Err() != nil {
			return
		}
		f := faults[rng.IntN(len(faults))]
		began, failed := n.begin(f.name)
		f.do(n, rng, func() {
			pause(ctx, n.options.slow(200*time.Millisecond+time.Duration(rng.Int64N(int64(900*time.Millisecond)))))
		})
		n.end(f.name, began, failed)
	}
}

func (n *nemesis) begin(name string) (at time.Duration, failed int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active++
	n.done[name]++
	return time.Since(n.began), n.sim.FailedCalls()
}

func (n *nemesis) end(name string, began time.Duration, failed int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active--
	n.ended = time.Since(n.began)
	proof := history.Proof{What: "carried out", Count: 1}
	if slices.Contains(cuts, name) {
		proof = history.Proof{What: "calls between nodes without an answer", Count: n.sim.FailedCalls() - failed}
	}
	if what, ok := canMiss[name]; ok {
		proof = history.Proof{What: what, Count: n.proof}
		n.bit[what] += int(n.proof)
		n.proof = 0
	}
	n.faults = append(n.faults, history.Fault{Name: name, Began: began, Ended: n.ended, Proofs: []history.Proof{proof}})
}

// alone tells whether only one fault is at work.
func (n *nemesis) alone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.active == 1
}

func (n *nemesis) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = append(n.failed, err)
}

// leaderOr returns the leader's place, or that of any node when there is none.
func (n *nemesis) leaderOr(rng *rand.Rand) int {
	other := rng.IntN(len(n.sim.Replicas))
	if i := slices.Index(n.sim.Replicas, n.sim.Leader()); i >= 0 {
		return i
	}
	return other
}

func (n *nemesis) isolate(node int, hold func()) { n.partition([]int{node}, hold) }

func (n *nemesis) halves(rng *rand.Rand, hold func()) {
	n.partition(rng.Perm(len(n.sim.Replicas))[:len(n.sim.Replicas)/2], hold)
}

// strike waits a moment for a request to be under way at one of the nodes: what
// goes wrong between requests finds little. It tells whether one is.
func (n *nemesis) strike(nodes []int) bool {
	for range 1000 {
		for _, i := range nodes {
			if n.busy[i].Load() > 0 {
				return true
			}
		}
		pause(context.Background(), 100*time.Microsecond)
	}
	return false
}

// partition cuts the nodes of one side off from all others.
func (n *nemesis) partition(side []int, hold func()) {
	busy := n.strike(side)
	for i, a := range n.sim.Replicas {
		if !slices.Contains(side, i) {
			continue
		}
		for j, b := range n.sim.Replicas {
			if !slices.Contains(side, j) {
				n.sim.Network.Cut(a.ID, b.ID)
			}
		}
	}
	if busy {
		n.mu.Lock()
		n.inFlight++
		n.mu.Unlock()
	}
	hold()
	n.sim.Network.Heal()
}

func (n *nemesis) oneWay(rng *rand.Rand, hold func()) {
	from := n.leaderOr(rng)
	to := (from + 1 + rng.IntN(len(n.sim.Replicas)-1)) % len(n.sim.Replicas)
	if rng.IntN(2) == 0 {
		from, to = to, from
	}
	n.sim.Network.CutOneWay(n.sim.Replicas[from].ID, n.sim.Replicas[to].ID)
	hold()
	n.sim.Network.Heal()
}

// slow delays what one node sends and is sent, or everything, by up to a
// quarter of a second, each message by another amount.
func (n *nemesis) slow(rng *rand.Rand, hold func()) {
	victim, everybody := n.sim.Replicas[n.leaderOr(rng)].ID, rng.IntN(3) == 0
	n.sim.Links.Slow(victim, everybody, n.options.slow(5*time.Millisecond+time.Duration(rng.Int64N(int64(250*time.Millisecond)))))
	hold()
	n.sim.Links.Quick()
}

func (n *nemesis) lossy(rng *rand.Rand, hold func()) {
	n.sim.Links.Lose(0.02 + 0.25*rng.Float64())
	hold()
	n.sim.Links.Lose(0)
}

// skew sets a wall clock wrong, by up to an hour. It is not set right again:
// log time must not care.
func (n *nemesis) skew(rng *rand.Rand, _ func()) {
	r := n.sim.Replicas[n.leaderOr(rng)]
	r.Clock.Skew(time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour)
}

// kill ends a node and brings it back, sealed at first.
func (n *nemesis) kill(node int, how testcluster.Death, rng *rand.Rand, hold func()) {
	r := n.sim.Replicas[node]
	n.strike([]int{node})
	r.Kill(how)
	hold()
	if rng.IntN(2) == 0 {
		hold() // long enough away to need a snapshot
	}
	n.revive(r, hold)
}

func (n *nemesis) revive(r *testcluster.Replica, hold func()) {
	if err := r.Start(); err != nil {
		n.fail(err)
		return
	}
	hold()
	n.unseal(r)
}

func (n *nemesis) unseal(r *testcluster.Replica) {
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(2*time.Second))
	defer cancel()
	err := r.Unseal(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) { // calm tries again
		n.fail(err)
	}
}

// blackout cuts the power of every node at one moment.
func (n *nemesis) blackout(_ *rand.Rand, hold func()) {
	for _, r := range n.sim.Replicas {
		n.sim.Network.Vanish(r.ID)
	}
	for _, r := range n.sim.Replicas {
		r.Kill(testcluster.PowerCut)
	}
	hold()
	for _, r := range n.sim.Replicas {
		if err := r.Start(); err != nil {
			n.fail(err)
			return
		}
	}
	for _, r := range n.sim.Replicas {
		n.unseal(r)
	}
}

// transfer has the leader step down in good order. It may well fail.
func (n *nemesis) transfer(rng *rand.Rand, _ func()) {
	p := n.sim.Replicas[n.leaderOr(rng)].Process()
	if p == nil { // it could not start again: calm will say so
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(3*time.Second))
	defer cancel()
	if err := p.Node.StepDown(ctx); err != nil {
		return // no leader, or nobody to take over: that is the weather
	}
}

func (n *nemesis) seal(rng *rand.Rand, hold func()) {
	r := n.sim.Replicas[n.leaderOr(rng)]
	if err := r.Seal(); err != nil {
		n.fail(err)
		return
	}
	hold()
	n.unseal(r)
}

func (n *nemesis) snapshot(rng *rand.Rand, _ func()) {
	p := n.sim.Replicas[rng.IntN(len(n.sim.Replicas))].Process()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(10*time.Second))
	defer cancel()
	if err := p.Node.Snapshot(ctx); err != nil {
		n.fail(fmt.Errorf("taking a snapshot: %w", err))
	}
}

// slowDisk has every write of one log take long, at times so long that the node
// must stop speaking as a leader.
func (n *nemesis) slowDisk(rng *rand.Rand, hold func()) {
	r := n.sim.Replicas[n.leaderOr(rng)]
	most := 300 * time.Millisecond
	if rng.IntN(3) == 0 {
		most = 3 * time.Second
	}
	r.SlowDisk(n.options.slow(time.Millisecond + time.Duration(rng.Int64N(int64(most)))))
	hold()
	r.SlowDisk(0)
}

// rot restarts a node after a bit of its log has flipped in an entry that it
// had applied. While the network is bad too, the node only restarts: if nobody
// could be asked for long, the entry would be gone everywhere.
func (n *nemesis) rot(rng *rand.Rand, hold func()) {
	r := n.sim.Replicas[rng.IntN(len(n.sim.Replicas))]
	r.Kill(testcluster.Killed)
	if n.alone() {
		r.Rot(rng.Uint64N(8))
	}
	n.revive(r, hold)
}

// calm ends all faults and brings every node back, unsealed.
func (n *nemesis) calm() error {
	n.sim.Network.Heal()
	n.sim.Links.Lose(0)
	n.sim.Network.SetDuplicates(0)
	n.sim.Links.Quick()
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(time.Minute))
	defer cancel()
	errs := n.failed
	for _, r := range n.sim.Replicas {
		if r.Process() == nil {
			errs = append(errs, fmt.Errorf("%s is down", r.ID))
			continue
		}
		errs = append(errs, r.Unseal(ctx))
	}
	return errors.Join(errs...)
}
