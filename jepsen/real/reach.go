package real

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// dialFrom connects from a host of the fabric.
func (r *run) dialFrom(host int) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		return r.fabric.Hosts[host].DialContext(ctx, "tcp", address)
	}
}

// prepare makes what a run needs once the cluster is there.
func (r *run) prepare() error {
	r.canary = "canary" + rand.Text()
	r.world = workload.NewWorld(r.asked(), watch{r})
	for _, n := range r.cluster.Nodes {
		c, err := client.New(client.Config{Addresses: []string{n.API}, CAFile: r.cluster.CAFile(), Token: r.cluster.RootToken,
			Timeout: -1, AttemptTimeout: time.Minute, RetryFor: -1, DialTimeout: time.Second, Dial: r.dialFrom(r.operatorHost())})
		if err != nil {
			return fmt.Errorf("making a client of the operator: %w", err)
		}
		r.askers = append(r.askers, c)
	}
	return r.nemesis.choose()
}

// statusOf asks a node about itself, from the operator's host.
func (r *run) statusOf(ctx context.Context, node int) (client.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return r.askers[node].Status(ctx)
}

// leader is the node that says that it leads, in the highest term; -1: none says so.
func (r *run) leader(ctx context.Context) int {
	type said struct {
		node int
		client.NodeStatus
	}
	answers := make(chan said, len(r.askers))
	for i := range r.askers {
		go func() {
			s, err := r.statusOf(ctx, i)
			if err != nil {
				s = client.NodeStatus{} // it leads nobody
			}
			answers <- said{i, s}
		}()
	}
	best := said{node: -1}
	for range r.askers {
		if s := <-answers; s.Role == "leader" && s.Term >= best.Term {
			best = s
		}
	}
	return best.node
}

// awaitLeader is leader, but waits for one.
func (r *run) awaitLeader(ctx context.Context) int {
	for ctx.Err() == nil {
		if node := r.leader(ctx); node >= 0 {
			return node
		}
		pause(ctx, 50*time.Millisecond)
	}
	return -1
}

func (r *run) node(i int) *testprocess.Node { return r.cluster.Nodes[i] }

func pause(ctx context.Context, d time.Duration) { workload.Pause(ctx, d) }
