package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func startNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = filepath.Join(t.TempDir(), "data")
	}
	for _, l := range []*ListenConfig{&cfg.API.ListenConfig, &cfg.Peer, &cfg.Gossip} {
		if l.Address == "" {
			l.Address = "127.0.0.1:0"
		}
	}
	cfg.HTTP.Address = "127.0.0.1:0"
	cfg.Raft.PromoteAfter = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := Start(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// restarted is the configuration with which a node that was closed starts anew: at
// its peers' address. While another takes effect, hashicorp/raft 1.7.3 reads it
// without its lock (replication.go, updateLastAppended), and the race detector says
// so. What it reads there is the id, which stays the same.
func restarted(n *Node) Config {
	return Config{DataDir: n.cfg.DataDir, Peer: ListenConfig{Address: n.listeners.peer.Addr().String()}}
}

// A node is founded and unsealed, another joins it by token and catches up, and
// a restarted one is who it was. Under the race detector this watches the order
// in which the rooms open.
func TestFoundJoinRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	first := startNode(t, Config{})
	made, err := first.Init(ctx, &conclavev1.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Init(ctx, &conclavev1.InitRequest{Shares: 1, Threshold: 1}); err == nil {
		t.Error("a member was initialised again")
	}
	unseal := func(n *Node) {
		t.Helper()
		for {
			r, err := n.Unseal(ctx, &conclavev1.UnsealRequest{Share: made.Shares[0]})
			if err == nil && !r.Sealed {
				return
			}
			select {
			case <-time.After(10 * time.Millisecond): // it has yet to receive the seal's configuration
			case <-ctx.Done():
				t.Fatalf("unsealing: %v", err)
			}
		}
	}
	unseal(first)
	rooms, err := first.Rooms()
	if err != nil {
		t.Fatal(err)
	}
	token, err := rooms.Admission.CreateJoinToken(ctx, callerOf(made.RootToken), &conclavev1.CreateJoinTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	join := JoinConfig{Addresses: []string{first.APIAddress()}, Token: JoinToken(token.Token)}
	second := startNode(t, Config{DataDir: dir, Join: join})
	unseal(second)
	members, err := second.Members(ctx, callerOf(made.RootToken))
	if err != nil || len(members.Members) != 2 {
		t.Errorf("members: %v %v, want two", members, err)
	}
	id := second.id.NodeID
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, restarted(second))
	if again.id.NodeID != id || !again.id.member() {
		t.Errorf("restarted as %s, member %v; it was %s", again.id.NodeID, again.id.member(), id)
	}
	for _, d := range []string{first.cfg.DataDir, dir} {
		info, err := os.Stat(filepath.Join(d, identityFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("identity file: %v %v, want mode 0600", info, err)
		}
	}
}

func callerOf(token string) core.Caller { return core.Caller{Token: redact.New([]byte(token))} }
