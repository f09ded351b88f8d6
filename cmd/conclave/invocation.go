package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// defaultAddress is where a node on this machine listens.
const defaultAddress = "127.0.0.1:" + client.DefaultPort

// retryFor is a person's patience with a cluster that is not there; programs
// have more.
const retryFor = 3 * time.Second

// An invocation is what the global flags say, and the outside world.
type invocation struct {
	streams
	addresses   []string
	caCert      string
	tokenFile   string
	reason      string
	format      string
	timeout     time.Duration
	consistency string
	mount       string // of the kv commands
}

func (inv *invocation) addGlobalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringSliceVar(&inv.addresses, "address", nil, "gRPC `HOST:PORT` of nodes, repeated or separated by commas; operator init, unseal, seal and status speak to the first only (env CONCLAVE_ADDR; default "+defaultAddress+")")
	f.StringVar(&inv.caCert, "cacert", "", "PEM `FILE` of the authority of the nodes' certificates, ca.pem in a node's data directory (env CONCLAVE_CACERT)")
	f.StringVar(&inv.tokenFile, "token-file", "", "`FILE` with the token, which is never given on the command line itself (env CONCLAVE_TOKEN: the token; default: what 'conclave login' stored)")
	f.StringVar(&inv.reason, "reason", "", "say why: `TEXT` is recorded with each access, and a policy can require it (env CONCLAVE_REASON)")
	f.StringVar(&inv.format, "format", formatTable, "output as `FORMAT` table, json or yaml")
	f.DurationVar(&inv.timeout, "timeout", 15*time.Second, "bound of the whole command, `DURATION`")
	f.StringVar(&inv.consistency, "consistency", "linearizable", "how fresh reads must be: `LEVEL` linearizable, bounded=5s, index=N or local")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return inv.check() }
	complete(root, "format", formatTable, formatJSON, formatYAML)
	complete(root, "consistency", "linearizable", "bounded=", "index=", "local")
}

// complete offers fixed values for a flag in the shell. It panics when the
// flag does not exist, which the first test run shows.
func complete(cmd *cobra.Command, flag string, values ...string) {
	offer := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(fmt.Sprintf("completion of --%s: %v", flag, err))
	}
}

// check refuses global flags with values that mean nothing.
func (inv *invocation) check() error {
	switch inv.format {
	case formatTable, formatJSON, formatYAML:
	default:
		return usageError("Use table, json or yaml.", "unknown --format %q", inv.format)
	}
	if inv.timeout <= 0 {
		return usageError("Use a duration such as 15s.", "--timeout %v is not positive", inv.timeout)
	}
	_, err := parseConsistency(inv.consistency)
	return err
}

func parseConsistency(s string) (client.Consistency, error) {
	const allowed = "Use linearizable, bounded=DURATION (bounded=5s), index=N or local."
	level, value, _ := strings.Cut(s, "=")
	switch level {
	case "linearizable", "local":
		if value == "" && !strings.Contains(s, "=") {
			if level == "local" {
				return client.Local(), nil
			}
			return client.Linearizable(), nil
		}
	case "bounded":
		if age, err := time.ParseDuration(value); err == nil && age > 0 {
			return client.Bounded(age), nil
		}
	case "index":
		if index, err := strconv.ParseUint(value, 10, 64); err == nil {
			return client.AtLeast(index), nil
		}
	}
	return client.Consistency{}, usageError(allowed, "unknown --consistency %q", s)
}

// nodes returns the addresses by flag, environment and default, in this order.
func (inv *invocation) nodes() []string {
	if len(inv.addresses) > 0 {
		return inv.addresses
	}
	if text, ok := inv.env("CONCLAVE_ADDR"); ok && text != "" {
		return strings.Split(text, ",")
	}
	return []string{defaultAddress}
}

// why is the reason by flag and environment, in this order.
func (inv *invocation) why() string {
	if inv.reason != "" {
		return inv.reason
	}
	text, _ := inv.env("CONCLAVE_REASON")
	return text
}

// connect makes a client for the whole cluster.
func (inv *invocation) connect() (*client.Client, error) { return inv.connectTo(inv.nodes()) }

// connectAs makes a client for the whole cluster that sends the given token, and
// not the user's.
func (inv *invocation) connectAs(token client.Token) func() (*client.Client, error) {
	return func() (*client.Client, error) { return inv.connectWith(inv.nodes(), token) }
}

// connectToFirst makes a client for the first address alone, for what concerns
// one node.
func (inv *invocation) connectToFirst() (*client.Client, error) {
	return inv.connectTo(inv.nodes()[:1])
}

func (inv *invocation) connectTo(addresses []string) (*client.Client, error) {
	token, err := inv.token()
	if err != nil {
		return nil, err
	}
	return inv.connectWith(addresses, token)
}

func (inv *invocation) connectWith(addresses []string, token client.Token) (*client.Client, error) {
	level, err := parseConsistency(inv.consistency)
	if err != nil {
		return nil, err
	}
	ca := inv.caCert
	if fromEnv, ok := inv.env("CONCLAVE_CACERT"); ca == "" && ok {
		ca = fromEnv
	}
	c, err := client.New(client.Config{
		Addresses: addresses, CAFile: ca, Token: token, Reason: inv.why(), Consistency: level,
		Timeout: inv.timeout, RetryFor: retryFor,
	})
	if err != nil {
		return nil, &failure{exitUsage, err, "Check --address, --cacert, --token-file and --reason (CONCLAVE_ADDR, CONCLAVE_CACERT, CONCLAVE_TOKEN and CONCLAVE_REASON)."}
	}
	c.Secrets = c.Secrets.At(inv.mount)
	return c, nil
}

// A task is what a command does with a client.
type task func(ctx context.Context, c *client.Client) error

// withCluster runs a task with a client for the cluster; withNode with one for
// the first address. Both stop at Ctrl-C.
func (inv *invocation) withCluster(do task) error { return inv.with(inv.connect, do) }
func (inv *invocation) withNode(do task) error    { return inv.with(inv.connectToFirst, do) }

func (inv *invocation) with(connect func() (*client.Client, error), do task) (err error) {
	c, err := connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return do(ctx, c)
}
