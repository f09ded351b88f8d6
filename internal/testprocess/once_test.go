package testprocess_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// One idempotency key is one write, however often, through whatever nodes and
// in whatever order it arrives; another request under the key is refused.
func TestExactlyOnce(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3})
	var through []*client.Client
	for _, n := range c.Nodes {
		through = append(through, clientOf(t, c, n))
	}
	const copies = 4 // through each node
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		path, key := fmt.Sprintf("once/%d", round), fmt.Sprintf("key-%d", round)
		versions := make([]uint64, copies*len(through))
		errs := make([]error, len(versions))
		var group sync.WaitGroup
		ctx := within(t, patience)
		for i := range versions {
			group.Go(func() {
				w, err := through[i%len(through)].Secrets.Put(ctx, path, client.Data{"v": client.Text("once")},
					client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: key}})
				versions[i], errs[i] = w.Version.Number, err
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			if v != 1 {
				t.Errorf("%s: versions %v, want 1 only", path, versions)
				break
			}
		}
		got, err := through[0].Secrets.Get(ctx, path, client.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Version.Number != 1 {
			t.Errorf("%s ended at version %d, want 1", path, got.Version.Number)
		}
	}

	t.Run("another request under the same key", func(t *testing.T) {
		for i, cl := range through {
			_, err := cl.Secrets.Put(within(t, patience), "once/0", client.Data{"v": client.Text("twice")},
				client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: "key-0"}})
			if e := client.AsError(err); e == nil || e.Reason != client.ReasonIdempotencyMismatch || !errors.Is(err, client.ErrConflict) {
				t.Errorf("through %s: got %v, want an idempotency mismatch", c.Nodes[i].Name, err)
			}
		}
		wantValue(t, through[1], "once/0", "once")
	})

	t.Run("the key outlives a kill of the leader and a restart of all", func(t *testing.T) {
		restart(t, c, (*testprocess.Node).Kill)
		for _, n := range c.Nodes {
			if err := n.Unseal(within(t, patience)); err != nil {
				t.Fatal(err)
			}
		}
		w, err := through[2].Secrets.Put(within(t, patience), "once/0", client.Data{"v": client.Text("once")},
			client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: "key-0"}})
		if err != nil || w.Version.Number != 1 {
			t.Errorf("got version %d, %v, want 1", w.Version.Number, err)
		}
	})
}

// A refusal is final although others write all the time: it is confirmed once,
// not until nobody writes any more.
func TestRefusalUnderLoad(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3})
	through := clientOf(t, c)
	mustPut(t, through, "taken", "first")
	l := startLoad(t, c)
	refusals := 200
	if testing.Short() {
		refusals = 30
	}
	for _, n := range c.Nodes {
		cl := clientOf(t, c, n)
		for range refusals {
			_, err := cl.Secrets.Put(within(t, patience), "taken", client.Data{"v": client.Text("second")}, client.PutOptions{CAS: new(uint64)})
			if e := client.AsError(err); e == nil || e.Reason != client.ReasonCASMismatch || e.CurrentVersion != 1 {
				t.Fatalf("through %s: got %v, want a mismatch at version 1", n.Name, err)
			}
		}
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	wantValue(t, through, "taken", "first")
}
