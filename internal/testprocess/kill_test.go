package testprocess_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

var (
	killsFlag       = flag.Int("kills", 100, "how often TestKillsLoseNothing kills a node; 10 with -short")
	leaderKillsFlag = flag.Int("leader-kills", 20, "how often TestLeaderKills kills the leader; 3 with -short")
)

const (
	writersOfUnique = 4
	writersOfShared = 4
	sharedSecrets   = 2
)

// acknowledged is what writers were told. Safe for concurrent use.
type acknowledged struct {
	mu      sync.Mutex
	unique  map[string]string            // by path
	shared  map[string]map[uint64]string // by path and version
	times   []time.Time                  // of all acknowledgements, in order
	refused int                          // check-and-set lost a race
}

func newAcknowledged() *acknowledged {
	return &acknowledged{unique: map[string]string{}, shared: map[string]map[uint64]string{}}
}

func (a *acknowledged) note(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	a.times = append(a.times, time.Now())
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.times)
}

// longestGap is the longest time without an acknowledgement that began or ended
// between the two times.
func (a *acknowledged) longestGap(from, to time.Time) (longest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := 1; i < len(a.times); i++ {
		if a.times[i].Before(from) || a.times[i-1].After(to) {
			continue
		}
		longest = max(longest, a.times[i].Sub(a.times[i-1]))
	}
	return longest
}

// A load is writers that run until it is stopped. Each write is repeated by the
// client, under its key, until it is done or refused: none ends unknown.
type load struct {
	acks   *acknowledged
	cancel context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	errs   []error // guarded by mu
}

func startLoad(t *testing.T, c *testprocess.Cluster) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{acks: newAcknowledged(), cancel: cancel}
	for w := range writersOfUnique + writersOfShared {
		cl, err := client.New(client.Config{Addresses: c.Addresses(), CAFile: c.CAFile(), Token: c.RootToken,
			AttemptTimeout: 3 * time.Second, Timeout: patience, RetryFor: patience})
		if err != nil {
			t.Fatal(err)
		}
		l.group.Go(func() {
			defer func() { l.fail(cl.Close()) }()
			for n := 0; ctx.Err() == nil; n++ {
				l.fail(untilUnsealed(func() error {
					if w < writersOfUnique {
						return l.putUnique(cl, fmt.Sprintf("unique/%d/%d", w, n))
					}
					return l.putShared(cl, fmt.Sprintf("shared/%d", n%sharedSecrets), fmt.Sprintf("%d-%d", w, n))
				}))
			}
		})
	}
	return l
}

// untilUnsealed repeats what was not done because every node is sealed: after
// all were killed, the client waits for nobody to unseal one.
func untilUnsealed(do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := do()
		if !errors.Is(err, client.ErrSealed) || errors.Is(err, client.ErrUnknownOutcome) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (l *load) fail(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *load) stop() error {
	l.cancel() // only between two writes: none is cut off
	l.group.Wait()
	return errors.Join(l.errs...)
}

func (l *load) putUnique(cl *client.Client, path string) error {
	_, err := cl.Secrets.Put(context.Background(), path, client.Data{"v": client.Text(path)}, client.PutOptions{})
	if err == nil {
		l.acks.note(func() { l.acks.unique[path] = path })
	}
	return err
}

// putShared reads, and writes under check-and-set.
func (l *load) putShared(cl *client.Client, path, value string) error {
	var current uint64
	got, err := cl.Secrets.Get(context.Background(), path, client.GetOptions{})
	switch {
	case err == nil:
		current = got.Version.Number
	case !errors.Is(err, client.ErrNotFound):
		return err
	}
	w, err := cl.Secrets.Put(context.Background(), path, client.Data{"v": client.Text(value)}, client.PutOptions{CAS: &current})
	if e := client.AsError(err); e != nil && e.Reason == client.ReasonCASMismatch && e.Outcome == client.OutcomeNotDone {
		l.acks.mu.Lock()
		defer l.acks.mu.Unlock()
		l.acks.refused++
		return nil
	}
	if err != nil {
		return err
	}
	if w.Version.Number != current+1 {
		return fmt.Errorf("%s: check-and-set at version %d gave version %d", path, current, w.Version.Number)
	}
	l.acks.note(func() {
		if l.acks.shared[path] == nil {
			l.acks.shared[path] = map[uint64]string{}
		}
		if other, twice := l.acks.shared[path][w.Version.Number]; twice {
			l.fail(fmt.Errorf("%s: version %d was acknowledged to both %q and %q", path, w.Version.Number, other, value))
		}
		l.acks.shared[path][w.Version.Number] = value
	})
	return nil
}

// verify demands that every node has every acknowledged write.
func (a *acknowledged) verify(t *testing.T, c *testprocess.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		cl := clientOf(t, c, n)
		paths := make(chan string)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for path := range paths {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					got, err := cl.Secrets.Get(ctx, path, client.GetOptions{})
					cancel()
					if err != nil || string(got.Data["v"].Reveal()) != a.unique[path] || got.Version.Number != 1 {
						t.Errorf("%s: %s is %q, version %d, %v", n.Name, path, got.Data["v"].Reveal(), got.Version.Number, err)
					}
				}
			})
		}
		for path := range a.unique {
			paths <- path
		}
		close(paths)
		group.Wait()
		for path, versions := range a.shared {
			a.verifyShared(t, cl, n.Name, path, versions)
		}
	}
}

// verifyShared reads the versions that a secret still keeps. Every version was
// acknowledged to one writer, for no outcome stays unknown here.
func (a *acknowledged) verifyShared(t *testing.T, cl *client.Client, node, path string, versions map[uint64]string) {
	t.Helper()
	ctx := within(t, patience)
	m, err := cl.Secrets.GetMetadata(ctx, path, client.Consistency{})
	if err != nil {
		t.Error(err)
		return
	}
	if int(m.CurrentVersion) != len(versions) {
		t.Errorf("%s: %s is at version %d, but %d were acknowledged", node, path, m.CurrentVersion, len(versions))
	}
	for _, v := range m.Versions {
		got, err := cl.Secrets.Get(ctx, path, client.GetOptions{Version: v.Number})
		if err != nil || string(got.Data["v"].Reveal()) != versions[v.Number] {
			t.Errorf("%s: version %d of %s is %q, %v; acknowledged was %q", node, v.Number, path, got.Data["v"].Reveal(), err, versions[v.Number])
		}
	}
}

// No acknowledged write is lost, and none is done twice, whatever nodes are
// killed under the writers.
func TestKillsLoseNothing(t *testing.T) {
	kills := *killsFlag
	if testing.Short() {
		kills = min(kills, 10)
	}
	c := startCluster(t, testprocess.Options{Nodes: 3, Args: []string{"--raft-snapshot-threshold", "256", "--raft-snapshot-interval", "500ms"}})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	l := startLoad(t, c)
	for done := 0; done < kills; {
		victims := []*testprocess.Node{c.Nodes[dice.IntN(len(c.Nodes))]}
		if dice.IntN(10) == 0 {
			victims = c.Nodes // the power fails
		}
		// Somewhere in the middle of some writes, never at the same place.
		awaitWrites(t, l, l.acks.count()+dice.IntN(30))
		for _, n := range victims {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if len(victims) == 1 && dice.IntN(2) == 0 { // progress without it, or none at all
			awaitWrites(t, l, l.acks.count()+dice.IntN(30))
		}
		revive(t, victims...)
		done += len(victims)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("%d kills, %d writes acknowledged, %d refused by check-and-set", kills, l.acks.count(), l.acks.refused)
	awaitAgreement(t, c, 1)
	l.acks.verify(t, c)
}

// revive starts killed nodes and unseals them.
func revive(t *testing.T, nodes ...*testprocess.Node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if err := n.Unseal(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
}

func awaitWrites(t *testing.T, l *load, want int) {
	t.Helper()
	eventually(t, "waiting for writes", func(context.Context) error {
		l.mu.Lock()
		err := errors.Join(l.errs...)
		l.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if got := l.acks.count(); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// After a kill of the leader writers go on. The gap is printed; the bound is
// wide, because the machine may be busy. The benchmark measures.
func TestLeaderKills(t *testing.T) {
	const bound = 10 * time.Second
	kills := *leaderKillsFlag
	if testing.Short() {
		kills = min(kills, 3)
	}
	c := startCluster(t, testprocess.Options{Nodes: 3})
	l := startLoad(t, c)
	var gaps []time.Duration
	for range kills {
		awaitWrites(t, l, l.acks.count()+20)
		leader, err := c.Leader(within(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitWrites(t, l, l.acks.count()+writersOfUnique+writersOfShared+1)
		gaps = append(gaps, l.acks.longestGap(before, time.Now()))
		revive(t, leader)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	slices.Sort(gaps)
	t.Logf("writers' gap over %d kills of the leader: median %v, worst %v; all: %v", kills, gaps[len(gaps)/2], gaps[len(gaps)-1], gaps)
	if worst := gaps[len(gaps)-1]; worst > bound {
		t.Errorf("the worst gap was %v, want at most %v", worst, bound)
	}
	awaitAgreement(t, c, 1)
	l.acks.verify(t, c)
}
