package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Many nodes that join at the same moment all get in. The library refuses a
// change right behind another, and whoever is refused has spent his token.
func TestJoiningAtOnce(t *testing.T) {
	f := foundCluster(t)
	_, m := f.first.current()
	for round := range 3 {
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				c := cluster.Change{Kind: cluster.ChangeAdd, ID: fmt.Sprintf("n%d-%d", round, i), Address: fmt.Sprintf("127.0.0.1:%d", 1+100*round+i)}
				if err := m.change(f.ctx, c); err != nil {
					t.Errorf("round %d, node %d: %v", round, i, err)
				}
			})
		}
		all.Wait()
	}
	if got := len(m.node.Members()); got != 1+3*10 {
		t.Errorf("%d members, want all 31", got)
	}
}

// A node that comes with the address of a member is told which member that is,
// and keeps its token for when that one was removed.
func TestJoinWithAddressOfAnother(t *testing.T) {
	f := foundCluster(t)
	second := f.join()
	f.join()
	f.eventually("three voters", func() error { // so that two are a quorum without the lost one
		_, m := f.first.current()
		voters := 0
		for _, other := range m.node.Members() {
			if other.Voter {
				voters++
			}
		}
		if voters < 3 {
			return errNotYet
		}
		return nil
	})
	rooms, err := f.first.Rooms()
	if err != nil {
		t.Fatal(err)
	}
	token, err := rooms.Admission.CreateJoinToken(f.ctx, callerOf(f.made.RootToken), &conclavev1.CreateJoinTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	address := second.listeners.peer.Addr().String()
	lost := second.id.NodeID
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	again := func() error { // on the same port, with an empty directory
		cfg := Config{DataDir: t.TempDir() + "/data", Peer: ListenConfig{Address: address}, Gossip: ListenConfig{Address: "127.0.0.1:0"},
			HTTP: HTTPConfig{Address: "off"},
			API:  APIConfig{ListenConfig: ListenConfig{Address: "127.0.0.1:0"}},
			Join: JoinConfig{Addresses: []string{f.first.APIAddress()}, Token: JoinToken(token.Token)}}
		n, err := Start(f.ctx, cfg, f.first.logger)
		if err == nil {
			t.Cleanup(func() {
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		return err
	}
	var refused *JoinError
	if err := again(); !errors.As(err, &refused) || !strings.Contains(refused.Problem, lost) || !strings.Contains(refused.Hint, "conclave operator remove "+lost) {
		t.Errorf("got %v, want that member %s has the address", err, lost)
	}
	f.eventually("the lost node is removed", func() error {
		err := f.first.RemoveMember(f.ctx, callerOf(f.made.RootToken), lost)
		var e *core.Error
		if errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_NOT_FOUND {
			return nil
		}
		return err
	})
	if err := again(); err != nil {
		t.Errorf("after the removal, with the same token: %v", err)
	}
}

// A change that never works ends with its own error, when the caller's time does
// at the latest.
func TestChangeEnds(t *testing.T) {
	f := foundCluster(t)
	_, m := f.first.current()
	ctx, cancel := context.WithTimeout(f.ctx, 300*time.Millisecond)
	defer cancel()
	err := m.change(ctx, cluster.Change{Kind: 99})
	if err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("got %v, want that the kind is not known", err)
	}
}
