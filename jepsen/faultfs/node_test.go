package faultfs_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	gosync "sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

var binaryFlag = flag.String("binary", "", "a conclave binary, instead of building one")

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// startNode founds a cluster of one node, data directory on the file system.
func startNode(t *testing.T, m mounted) (*testprocess.Cluster, *testprocess.Node) {
	t.Helper()
	binary := *binaryFlag
	if binary == "" {
		var err error
		binary, err = testprocess.Build(within(t), t.TempDir())
		must(t, err)
	}
	c, err := testprocess.Start(within(t), testprocess.Options{Binary: binary, Dir: m.at, Nodes: 1})
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })
	return c, c.Nodes[0]
}

// A real node whose power is cut again and again in the middle of writes comes
// back with every acknowledged one.
func TestNodeSurvives(t *testing.T) {
	m := mount(t, faultfs.Options{})
	c, node := startNode(t, m)
	var mu gosync.Mutex
	acknowledged := map[string]string{}
	var total faultfs.Loss
	for seed := range uint64(8) {
		verifyNode(t, c, acknowledged)
		ctx, stop := context.WithCancel(within(t))
		var group errgroup.Group
		enough := make(chan struct{}, 1000)
		for w := range 4 {
			group.Go(func() error {
				return putUntil(ctx, node, fmt.Sprintf("power/%d/%d", seed, w), func(path, value string) {
					mu.Lock()
					defer mu.Unlock()
					acknowledged[path] = value
					select {
					case enough <- struct{}{}:
					default:
					}
				})
			})
		}
		for range 20 + 7*seed {
			select {
			case <-enough:
			case <-ctx.Done():
				t.Fatal("the node takes no writes: ", group.Wait())
			}
		}
		must(t, node.Kill())
		stop()
		must(t, group.Wait())
		loss := m.cut(t, seed)
		total.Writes, total.Torn, total.Names, total.Kept = total.Writes+loss.Writes, total.Torn+loss.Torn, total.Names+loss.Names, total.Kept+loss.Kept
		must(t, node.Start(), node.Unseal(within(t)))
	}
	verifyNode(t, c, acknowledged)
	t.Logf("8 cuts, %d acknowledged writes; %+v", len(acknowledged), total)
	if len(acknowledged) < 200 || total.Writes+total.Torn == 0 {
		t.Error("too little happened")
	}
}

// putUntil writes secrets below a path until ctx ends or the node is gone.
func putUntil(ctx context.Context, node *testprocess.Node, below string, done func(path, value string)) error {
	cl, err := node.Client()
	if err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		path, value := fmt.Sprintf("%s/%d", below, i), fmt.Sprint("value of ", below, i)
		// A write without an answer may have happened or not, and none counts.
		if _, err := cl.Secrets.Put(ctx, path, client.Data{"v": client.Text(value)}, client.PutOptions{}); err == nil {
			done(path, value)
		}
	}
	return cl.Close()
}

func verifyNode(t *testing.T, c *testprocess.Cluster, acknowledged map[string]string) {
	t.Helper()
	cl, err := c.Client()
	must(t, err)
	for _, path := range slices.Sorted(maps.Keys(acknowledged)) {
		got, err := cl.Secrets.Get(within(t), path, client.GetOptions{})
		if err != nil {
			t.Fatalf("acknowledged %s: %v", path, err)
		}
		if v := string(got.Data["v"].Reveal()); v != acknowledged[path] {
			t.Fatalf("%s holds %q, acknowledged was %q", path, v, acknowledged[path])
		}
	}
	must(t, cl.Close())
}

// A node whose disk fails a sync never acknowledges a write that the disk then
// does not have; and it stops, as it must.
func TestNodeWithAFailingSync(t *testing.T) {
	m := mount(t, faultfs.Options{})
	c, node := startNode(t, m)
	acknowledged := map[string]string{}
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	go func() {
		<-node.Exited()
		stop()
	}()
	err := putUntil(ctx, node, "eio", func(path, value string) {
		if acknowledged[path] = value; len(acknowledged) == 20 {
			must(t, m.Set(faultfs.Rule{Name: "eio", Ops: faultfs.Sync, Errno: syscall.EIO}))
		}
	})
	must(t, err)
	if len(acknowledged) != 20 || m.Counts()["eio"] == 0 || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		t.Errorf("%d acknowledged, %v, %v", len(acknowledged), m.Counts(), context.Cause(ctx))
	}
	must(t, node.Kill())
	m.Clear()
	m.cut(t, 5)
	must(t, node.Start(), node.Unseal(within(t)))
	verifyNode(t, c, acknowledged)
}
