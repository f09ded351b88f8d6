package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/conclave-secrets/conclave/client"
)

// Shares of a development cluster: the usual five, of which three unseal.
const (
	devShares    = 5
	devThreshold = 3
)

// probeInterval is the pause between two looks at a node that comes up.
const probeInterval = 20 * time.Millisecond

// A devCluster is the children of one "conclave dev".
type devCluster struct {
	inv      *invocation
	home     *devHome
	nodes    []*devNode
	launcher *launcher
	logs     io.Writer // nil unless --verbose

	died chan *devNode // each node that ended, in any way
}

func newDevCluster(inv *invocation, r devRequest, home *devHome) (*devCluster, error) {
	ports := home.state.Nodes
	var err error
	if home.known {
		err = portsFree(ports)
	} else {
		ports, err = choosePorts(r.port, r.nodes)
	}
	if err != nil {
		return nil, err
	}
	d := &devCluster{inv: inv, home: home, launcher: newLauncher(), died: make(chan *devNode, len(ports))}
	if r.verbose {
		d.logs = &oneAtATime{to: inv.err}
	}
	for i, p := range ports {
		d.nodes = append(d.nodes, newDevNode(home, i, p))
	}
	return d, nil
}

// start brings the cluster up: when it returns, every node is unsealed and a
// voter.
func (d *devCluster) start(ctx context.Context) error {
	if d.home.known {
		if err := forEach(ctx, d.nodes, d.startKnown); err != nil {
			return err
		}
		return d.awaitVoters(ctx)
	}
	first := d.nodes[0]
	if err := d.startFirst(ctx, first); err != nil {
		return err
	}
	if err := forEach(ctx, d.nodes[1:], d.startJoining); err != nil {
		return err
	}
	return d.awaitVoters(ctx)
}

// forEach works on nodes at the same time; the first failure ends the others.
func forEach(ctx context.Context, nodes []*devNode, do func(context.Context, *devNode) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		all.Go(func() error { return do(ctx, n) })
	}
	return all.Wait()
}

func (d *devCluster) startKnown(ctx context.Context, n *devNode) error {
	if err := n.start(d.launcher, "", "", d.logs, d.died); err != nil {
		return err
	}
	return d.unseal(ctx, n)
}

// startFirst makes the cluster. The state is saved before anything else
// happens: from init on, the shares exist nowhere else.
func (d *devCluster) startFirst(ctx context.Context, n *devNode) error {
	if err := n.start(d.launcher, "", "", d.logs, d.died); err != nil {
		return err
	}
	err := d.until(ctx, n, "answering", func(ctx context.Context, c *client.Client) (bool, error) {
		_, err := c.Status(ctx)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	c, err := d.dial(n)
	if err != nil {
		return err
	}
	made, err := c.Operator.Init(ctx, client.InitRequest{Shares: devShares, Threshold: devThreshold})
	if err := errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("initialising %s: %w", n.name, err)
	}
	state := devState{ClusterID: made.ClusterID, Threshold: made.Threshold, RootToken: made.RootToken.Reveal()}
	for _, s := range made.Shares {
		state.Shares = append(state.Shares, s.Reveal())
	}
	for _, each := range d.nodes {
		state.Nodes = append(state.Nodes, each.ports)
	}
	if err := d.home.save(state); err != nil {
		return err
	}
	return d.unseal(ctx, n)
}

func (d *devCluster) startJoining(ctx context.Context, n *devNode) error {
	first := d.nodes[0]
	var token client.JoinToken
	err := d.until(ctx, first, "handing out a join token", func(ctx context.Context, c *client.Client) (bool, error) {
		var err error
		token, err = c.Operator.CreateJoinToken(ctx, time.Hour)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	if err := n.start(d.launcher, first.ports.api(), token.Token.Reveal(), d.logs, d.died); err != nil {
		return err
	}
	return d.unseal(ctx, n)
}

// unseal gives shares until the node is open. A node that is not ready for
// them, because it has yet to join or to receive the keyring, is asked again.
func (d *devCluster) unseal(ctx context.Context, n *devNode) error {
	return d.until(ctx, n, "unsealing", func(ctx context.Context, c *client.Client) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil || !s.Initialized {
			return false, err
		}
		if !s.Sealed {
			return true, nil
		}
		for _, share := range d.home.state.Shares[:d.home.state.Threshold] {
			ceremony, err := c.Operator.Unseal(ctx, client.NewShare(share))
			if e := client.AsError(err); e != nil && e.Reason == client.ReasonShareRepeated {
				continue
			}
			if err != nil {
				return false, err
			}
			if !ceremony.Sealed {
				return true, nil
			}
		}
		return false, nil
	})
}

// awaitVoters waits until the cluster knows every node as an unsealed voter.
func (d *devCluster) awaitVoters(ctx context.Context) error {
	return d.until(ctx, d.nodes[0], "gathering all voters", func(ctx context.Context, c *client.Client) (bool, error) {
		members, _, err := c.Operator.Members(ctx)
		if err != nil {
			return false, err
		}
		ready := 0
		for _, m := range members {
			if m.Voter && m.Alive && !m.Sealed {
				ready++
			}
		}
		if ready < len(d.nodes) {
			return false, fmt.Errorf("%d of %s are unsealed voters", ready, count(len(d.nodes), "node"))
		}
		return true, nil
	})
}

// dial makes a client for one node. Its ca.pem is read anew each time, because
// it changes when the node joins or is initialised.
func (d *devCluster) dial(n *devNode) (*client.Client, error) {
	return client.New(client.Config{
		Addresses: []string{n.ports.api()}, CAFile: n.caFile(),
		Token:   client.NewToken(d.home.state.RootToken),
		Timeout: 10 * time.Second, AttemptTimeout: 3 * time.Second, RetryFor: -1,
	})
}

// until asks a node again and again until probe says so, the node ends, or ctx
// does.
func (d *devCluster) until(ctx context.Context, n *devNode, what string, probe func(context.Context, *client.Client) (bool, error)) error {
	var last error
	for {
		c, err := d.dial(n)
		if err == nil {
			var done bool
			done, err = probe(ctx, c)
			if err := c.Close(); err != nil {
				return fmt.Errorf("closing the connection to %s: %w", n.name, err)
			}
			if done {
				return nil
			}
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-n.exited:
			return n.failure("ended while " + what)
		case <-ctx.Done():
			if last != nil {
				what += " (" + last.Error() + ")"
			}
			return n.failure("took too long " + what)
		case <-time.After(probeInterval):
		}
	}
}

// environment is what a client of the cluster needs.
func (d *devCluster) environment() []string {
	var addresses []string
	for _, n := range d.nodes {
		addresses = append(addresses, n.ports.api())
	}
	return []string{
		"CONCLAVE_ADDR=" + strings.Join(addresses, ","),
		"CONCLAVE_CACERT=" + d.nodes[0].caFile(),
		"VAULT_ADDR=https://" + d.nodes[0].ports.http(),
		"VAULT_CACERT=" + d.nodes[0].caFile(),
		"CONCLAVE_TOKEN=" + d.home.state.RootToken,
		"CONCLAVE_HOME=" + filepath.Join(d.home.dir, "home"), // a login in here is not the user's own
		"VAULT_TOKEN=" + d.home.state.RootToken,
	}
}

// stop ends all nodes, at the same time.
func (d *devCluster) stop() error {
	err := forEach(context.Background(), d.nodes, func(_ context.Context, n *devNode) error { return n.stop() })
	close(d.launcher.requests)
	return err
}

// childOfUser is our environment with that of the cluster.
func (d *devCluster) childOfUser() []string { return append(os.Environ(), d.environment()...) }
