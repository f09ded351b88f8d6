package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
)

// gossiper starts gossip on loopback and a channel that tells of changes.
func gossiper(t *testing.T, id string, key byte) (*cluster.Gossip, chan struct{}) {
	t.Helper()
	changed := make(chan struct{}, 1)
	g, err := cluster.StartGossip(cluster.GossipConfig{
		Meta: cluster.NodeMeta{ID: id, PeerAddress: id + ":8201", APIAddress: id + ":8210", Version: "test"},
		Key:  bytes.Repeat([]byte{key}, 32), Bind: "127.0.0.1:0", Local: true,
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, changed
}

// until waits for want, looking again at each change.
func until(t *testing.T, changed <-chan struct{}, what string, want func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !want() {
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// One reachable node is enough to find all, and news of a node reach those that
// never spoke to it; a node with another key finds nobody.
func TestGossipFindsAllFromOne(t *testing.T) {
	a, _ := gossiper(t, "a", 1)
	b, _ := gossiper(t, "b", 1)
	c, changed := gossiper(t, "c", 1)
	stranger, _ := gossiper(t, "x", 2)
	for _, g := range []*cluster.Gossip{b, c} {
		if err := g.Join(within(t, 10*time.Second), []string{a.Address()}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, changed, "c knows three nodes", func() bool { return len(c.Members()) == 3 })
	if at, ok := c.PeerAddress("b"); !ok || at != "b:8201" {
		t.Errorf("c finds b at %q, %v", at, ok)
	}
	err := b.UpdateMeta(within(t, 10*time.Second), func(m *cluster.NodeMeta) { m.PeerAddress, m.Unsealed = "b:9201", true })
	if err != nil {
		t.Fatal(err)
	}
	until(t, changed, "c knows b's new address", func() bool {
		at, _ := c.PeerAddress("b")
		return at == "b:9201"
	})
	if err := stranger.Join(within(t, 15*time.Second), []string{a.Address()}); err == nil {
		t.Error("a node with another key joined")
	}
	if err := b.Leave(); err != nil {
		t.Errorf("leaving: %v", err)
	}
	until(t, changed, "c knows that b left", func() bool {
		_, known := c.PeerAddress("b")
		return !known
	})
	for _, g := range []*cluster.Gossip{a, c, stranger} {
		if err := g.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

// Meta that does not fit is refused where it is set, not cut.
func TestGossipMetaIsBounded(t *testing.T) {
	g, _ := gossiper(t, "a", 1)
	defer g.Close()
	err := g.UpdateMeta(context.Background(), func(m *cluster.NodeMeta) { m.APIAddress = strings.Repeat("x", 600) })
	if !errors.Is(err, cluster.ErrGossipMeta) {
		t.Errorf("long meta: %v", err)
	}
	if _, err := cluster.StartGossip(cluster.GossipConfig{Meta: cluster.NodeMeta{ID: "a"}, Key: []byte("short"), Bind: "127.0.0.1:0"}); err == nil {
		t.Error("a short key was accepted")
	}
}

// What a leader spreads of who is no member reaches the one concerned, and
// nobody else believes it of itself.
func TestGossipTellsWhoIsDisowned(t *testing.T) {
	a, _ := gossiper(t, "a", 1)
	b, heardB := gossiper(t, "b", 1)
	ab, heardAB := gossiper(t, "ab", 1)
	for _, g := range []*cluster.Gossip{b, ab} {
		if err := g.Join(within(t, 10*time.Second), []string{a.Address()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Disown(within(t, 10*time.Second), []string{"ab", "x"}); err != nil {
		t.Fatal(err)
	}
	until(t, heardAB, "ab hears that it is no member", ab.Disowned)
	if a.Disowned() || b.Disowned() {
		t.Error("a or b believes it, too")
	}
	if err := b.Disown(within(t, 10*time.Second), []string{"b"}); err != nil {
		t.Fatal(err)
	}
	if b.Disowned() {
		t.Error("b believes its own word")
	}
	if err := a.Disown(within(t, 10*time.Second), nil); err != nil {
		t.Fatal(err)
	}
	until(t, heardAB, "it is taken back", func() bool { return !ab.Disowned() })
	until(t, heardB, "b hears of all", func() bool { return len(b.Heard()) == 3 })
	for _, g := range []*cluster.Gossip{a, b, ab} {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}
