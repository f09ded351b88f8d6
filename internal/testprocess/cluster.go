// Package testprocess runs clusters of real processes on loopback, for tests
// and benchmarks: the real binary, real disks, real TLS, real kill -9.
//
// It starts only processes of its own and ends only those, by their id. It
// never touches a running cluster of somebody else. Start at Start.
package testprocess

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// Options says what cluster to run.
type Options struct {
	Binary string   // the conclave binary; see Build
	Dir    string   // an empty directory that the caller removes
	Nodes  int      // 1, 3 or 5
	Args   []string // more arguments of every server
	// NodeArgs gives more arguments of one server. They come last, so they win.
	NodeArgs func(n *Node) []string
	// Env gives more variables of the environment of the node with this index.
	Env func(node int) []string
	// Shares and Threshold of the founding. Zero: 3 and 2.
	Shares, Threshold int

	// DataDir is the data directory of the node with this index, which the node makes.
	// Nil: below Dir.
	DataDir func(node int) string
	// Host is the IP address of the node with this index, whose ports are then
	// APIPort and its neighbours. Nil: loopback, with ports that are free.
	Host func(node int) string
	// Spawn starts the process of a node. Nil: cmd.Start.
	Spawn func(node int, cmd *exec.Cmd) error
	// Dial is how this process reaches the nodes. Nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// The ports of nodes that have a host to themselves.
const (
	HTTPPort   = 8200
	PeerPort   = 8201
	GossipPort = 8202
	APIPort    = 8210
)

// Cluster is a running cluster.
type Cluster struct {
	Nodes     []*Node
	RootToken client.Token
	Shares    []client.Share

	opts Options
	ca   string // the authority's certificate in a file of our own; empty: not founded
}

// Node is one process of a Cluster.
type Node struct {
	Name    string
	DataDir string
	LogFile string
	API     string // HOST:PORT
	Peer    string
	Gossip  string
	HTTP    string

	cluster *Cluster
	index   int
	mu      sync.Mutex
	process *exec.Cmd     // guarded by mu; nil while the node is down
	exited  chan struct{} // guarded by mu; closed when process has ended
}

// Build compiles the conclave binary into dir and returns its path. Extra
// arguments go to go build.
func Build(ctx context.Context, dir string, args ...string) (string, error) {
	path := filepath.Join(dir, "conclave")
	args = append(append([]string{"build", "-o", path}, args...), "github.com/conclave-secrets/conclave/cmd/conclave")
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building conclave: %w\n%s", err, out)
	}
	return path, nil
}

// Start founds a cluster, joins and unseals all its nodes, and returns when all
// of them vote.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	if o.Shares == 0 {
		o.Shares, o.Threshold = 3, 2
	}
	c = &Cluster{opts: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
			c = nil
		}
	}()
	for range o.Nodes {
		if _, err := c.AddNode(); err != nil {
			return c, err
		}
	}
	if err := c.found(ctx); err != nil {
		return c, err
	}
	for _, n := range c.Nodes[1:] {
		if err := c.Join(ctx, n); err != nil {
			return c, err
		}
	}
	return c, c.AwaitVoters(ctx, o.Nodes)
}

// Empty makes a cluster that was not founded, of one node that was not started.
func Empty(o Options) (*Cluster, error) {
	c := &Cluster{opts: o}
	_, err := c.AddNode()
	return c, err
}

// AddNode makes a node that belongs to the cluster but was not started yet; see
// Join. Not to be called while another goroutine uses the cluster.
func (c *Cluster) AddNode() (*Node, error) {
	addresses, err := c.addresses(len(c.Nodes))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("node%d", len(c.Nodes)+1)
	dataDir := filepath.Join(c.opts.Dir, name)
	if f := c.opts.DataDir; f != nil {
		dataDir = f(len(c.Nodes))
	}
	n := &Node{Name: name, cluster: c, index: len(c.Nodes),
		DataDir: dataDir, LogFile: filepath.Join(c.opts.Dir, name+".log"),
		API: addresses[0], Peer: addresses[1], Gossip: addresses[2], HTTP: addresses[3]}
	c.Nodes = append(c.Nodes, n)
	return n, nil
}

// addresses are those of API, peers, gossip and HTTP of one node.
func (c *Cluster) addresses(node int) (all []string, err error) {
	if c.opts.Host == nil {
		return freeAddresses(4)
	}
	for _, port := range []int{APIPort, PeerPort, GossipPort, HTTPPort} {
		all = append(all, net.JoinHostPort(c.opts.Host(node), strconv.Itoa(port)))
	}
	return all, nil
}

func (c *Cluster) found(ctx context.Context) error {
	first := c.Nodes[0]
	if err := first.Start(); err != nil {
		return err
	}
	return first.with(ctx, "founding", func(cl *client.Client) error {
		if len(c.Shares) == 0 {
			made, err := cl.Operator.Init(ctx, client.InitRequest{Shares: c.opts.Shares, Threshold: c.opts.Threshold})
			if err != nil {
				return err
			}
			c.Shares, c.RootToken = made.Shares, made.RootToken
			return c.keepAuthority(made.CAPEM)
		}
		return nil
	}, first.Unseal)
}

// keepAuthority keeps the authority's certificate apart from any node, for a node's
// disk may be lost.
func (c *Cluster) keepAuthority(pem []byte) error {
	path := filepath.Join(c.opts.Dir, "ca.pem")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the authority's certificate: %w", err)
	}
	_, err = f.Write(pem)
	if err = errors.Join(err, f.Sync(), f.Close(), vfs.SyncDir(vfs.Default, c.opts.Dir)); err != nil {
		return fmt.Errorf("keeping the authority's certificate: %w", err)
	}
	c.ca = path
	return nil
}

// Join starts a node on an empty data directory with a join token of any other
// node, and unseals it.
func (c *Cluster) Join(ctx context.Context, n *Node) error {
	var token client.JoinToken
	err := c.throughOthers(ctx, n, "making a join token", func(cl *client.Client) (err error) {
		token, err = cl.Operator.CreateJoinToken(ctx, time.Hour)
		return err
	})
	if err != nil {
		return err
	}
	var addresses []string
	for _, other := range c.others(n) {
		addresses = append(addresses, other.API)
	}
	if err := n.start([]string{"--join", strings.Join(addresses, ",")}, []string{"CONCLAVE_JOIN_TOKEN=" + token.Token.Reveal()}); err != nil {
		return err
	}
	return n.Unseal(ctx)
}

// Remove takes a member out of the cluster, through any node but n. A member that
// is none is removed already.
func (c *Cluster) Remove(ctx context.Context, n *Node, id string) error {
	return c.throughOthers(ctx, n, "removing a member", func(cl *client.Client) error {
		members, _, err := cl.Operator.Members(ctx)
		if err != nil || !slices.ContainsFunc(members, func(m client.Member) bool { return m.ID == id }) {
			return err
		}
		return cl.Operator.RemoveMember(ctx, id)
	})
}

// others are the nodes but n that run.
func (c *Cluster) others(n *Node) (running []*Node) {
	for _, other := range c.Nodes {
		if other != n && other.PID() != 0 {
			running = append(running, other)
		}
	}
	return running
}

// throughOthers does something through one node after the other until it is done.
func (c *Cluster) throughOthers(ctx context.Context, n *Node, what string, do func(*client.Client) error) error {
	last := errors.New("no other node runs")
	for ctx.Err() == nil {
		for _, other := range c.others(n) {
			if last = other.try(do); last == nil {
				return nil
			}
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s for %s: %w: %w", what, n.Name, context.Cause(ctx), last)
}

// Start starts the node's process on what its data directory holds.
func (n *Node) Start() error { return n.start(nil, nil) }

func (n *Node) start(args, env []string) error {
	log, err := os.OpenFile(n.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", n.Name, err)
	}
	args = append([]string{"server", "--data-dir", n.DataDir, "--node-name", n.Name,
		"--api-address", n.API, "--peer-address", n.Peer, "--gossip-address", n.Gossip, "--http-address", n.HTTP,
		"--raft-promote-after", "100ms"}, append(n.cluster.opts.Args, args...)...)
	if f := n.cluster.opts.NodeArgs; f != nil {
		args = append(args, f(n)...)
	}
	cmd := exec.Command(n.cluster.opts.Binary, args...)
	cmd.Env = append(os.Environ(), env...)
	if f := n.cluster.opts.Env; f != nil {
		cmd.Env = append(cmd.Env, f(n.index)...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	spawn := cmd.Start
	if f := n.cluster.opts.Spawn; f != nil {
		spawn = func() error { return f(n.index, cmd) }
	}
	if err := spawn(); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", n.Name, err), log.Close())
	}
	exited := make(chan struct{})
	n.mu.Lock()
	n.process, n.exited = cmd, exited
	n.mu.Unlock()
	go func() {
		// How it ended is in its log; a killed process always ends "badly".
		_ = cmd.Wait()
		_ = log.Close()
		close(exited)
	}()
	return nil
}

// PID is the node's process id, 0 while it is down.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Process.Pid
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL) }

// Terminate asks the process to end and waits until it is gone.
func (n *Node) Terminate() error { return n.end(syscall.SIGTERM) }

// Signal sends a signal to the process and does not wait.
func (n *Node) Signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return fmt.Errorf("%s is down", n.Name)
	}
	return n.process.Process.Signal(s)
}

func (n *Node) end(s syscall.Signal) error {
	n.mu.Lock()
	p, exited := n.process, n.exited
	n.process = nil
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	if err := p.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", n.Name, err)
	}
	<-exited
	return nil
}

// Exited is closed when the node's process has ended, for whatever reason.
func (n *Node) Exited() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exited
}

// Client returns a client of this node only. The caller closes it.
func (n *Node) Client() (*client.Client, error) { return n.cluster.client([]string{n.API}, n) }

// Client returns a client of all nodes. The caller closes it.
func (c *Cluster) Client() (*client.Client, error) { return c.client(c.Addresses(), c.Nodes[0]) }

// Addresses are the API addresses of all nodes.
func (c *Cluster) Addresses() []string {
	var all []string
	for _, n := range c.Nodes {
		all = append(all, n.API)
	}
	return all
}

// CAFile is what clients of the cluster trust.
func (c *Cluster) CAFile() string { return c.caFile(c.Nodes[0]) }

// caFile is what clients of a node trust: a node that was not founded has an
// authority to itself.
func (c *Cluster) caFile(n *Node) string {
	if c.ca != "" {
		return c.ca
	}
	return filepath.Join(n.DataDir, "ca.pem")
}

func (c *Cluster) client(addresses []string, n *Node) (*client.Client, error) {
	return client.New(client.Config{Addresses: addresses, CAFile: c.caFile(n),
		Token: c.RootToken, AttemptTimeout: 3 * time.Second, Dial: c.opts.Dial})
}

// retryPause is the time between two attempts to reach a node that starts.
const retryPause = 20 * time.Millisecond

// with runs steps against the node until all succeed or ctx ends; its first
// client sees the node's certificate as it is then.
func (n *Node) with(ctx context.Context, what string, do func(*client.Client) error, then ...func(context.Context) error) error {
	var last error
	for ctx.Err() == nil {
		if last = n.try(do); last == nil {
			for _, f := range then {
				if err := f(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		select {
		case <-n.Exited():
			return fmt.Errorf("%s %s: its process has ended: %w%s", what, n.Name, last, n.logTail())
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s %s: %w: %w%s", what, n.Name, context.Cause(ctx), last, n.logTail())
}

func (n *Node) try(do func(*client.Client) error) (err error) {
	c, err := client.New(client.Config{Addresses: []string{n.API}, CAFile: n.cluster.caFile(n),
		Token: n.cluster.RootToken, AttemptTimeout: 3 * time.Second, RetryFor: -1, Dial: n.cluster.opts.Dial})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return do(c)
}

// logTail returns the end of the node's log, for error messages.
func (n *Node) logTail() string {
	raw, err := os.ReadFile(n.LogFile)
	if err != nil || len(raw) == 0 {
		return ""
	}
	if len(raw) > 2000 {
		raw = raw[len(raw)-2000:]
	}
	return "\n--- end of the log of " + n.Name + " ---\n" + string(raw)
}

// errNotYet asks for another attempt.
var errNotYet = errors.New("not yet")

// Unseal gives the node shares until it is open, as soon as it can take them.
func (n *Node) Unseal(ctx context.Context) error {
	return n.with(ctx, "unsealing", func(c *client.Client) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if !s.Initialized {
			return errNotYet
		}
		if !s.Sealed {
			return nil
		}
		for _, share := range n.cluster.Shares[:n.cluster.opts.Threshold] {
			done, err := c.Operator.Unseal(ctx, share)
			if e := client.AsError(err); e != nil && e.Reason == client.ReasonShareRepeated {
				continue
			}
			if err != nil {
				return err
			}
			if !done.Sealed {
				return nil
			}
		}
		return errNotYet
	})
}

// AwaitVoters returns when want members are alive, unsealed voters.
func (c *Cluster) AwaitVoters(ctx context.Context, want int) error {
	return c.Nodes[0].with(ctx, "gathering voters at", func(cl *client.Client) error {
		members, _, err := cl.Operator.Members(ctx)
		if err != nil {
			return err
		}
		ready := 0
		for _, m := range members {
			if m.Voter && m.Alive && !m.Sealed {
				ready++
			}
		}
		if ready < want {
			return fmt.Errorf("%w: %d of %d vote unsealed", errNotYet, ready, want)
		}
		return nil
	})
}

// Leader returns the node that leads, as soon as the given node knows one.
func (c *Cluster) Leader(ctx context.Context) (leader *Node, err error) {
	for ctx.Err() == nil {
		for _, n := range c.Nodes {
			if n.PID() == 0 {
				continue
			}
			var role string
			if err = n.try(func(cl *client.Client) error {
				s, err := cl.Status(ctx)
				role = s.Role
				return err
			}); err == nil && role == "leader" {
				return n, nil
			}
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("finding the leader: %w: %w", context.Cause(ctx), err)
}

// Stop kills every process that still runs.
func (c *Cluster) Stop() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Kill())
	}
	return errors.Join(errs...)
}
