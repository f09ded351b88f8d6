package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// startTimeout bounds the coming up of a development cluster. It takes a
// second or two; a loaded machine gets its time.
const startTimeout = 60 * time.Second

// A devRequest is what the flags of "conclave dev" say.
type devRequest struct {
	nodes    int
	port     int
	dir      string
	verbose  bool
	command  []string // empty: run until a signal
	nodesSet bool     // the flags were given
	portSet  bool
}

func devCommand(inv *invocation) *cobra.Command {
	var r devRequest
	cmd := &cobra.Command{
		Use:   "dev [-- COMMAND ARG...]",
		Short: "Run a cluster on this machine, for development",
		Long: `Run a cluster on this machine, for development: real processes with TLS on
loopback, initialised and unsealed. Ctrl-C stops it.

Without --dir everything is removed at the end or, when 'conclave dev' was
killed, by the next one. With --dir the data stays and the next 'conclave dev
--dir DIR' finds it again and unseals it: DIR/dev.json then holds the shares and
the root token, so never keep real secrets there.

With '-- COMMAND' the command runs with CONCLAVE_ADDR, CONCLAVE_CACERT and
CONCLAVE_TOKEN set; the cluster stops when it ends, and its exit code is passed
on.

Node i (from 0) listens on port+100*i+10 (gRPC), +1 (peers) and +2 (gossip).`,
		Example: `  conclave dev
  conclave dev --nodes 1 --dir ./dev-data
  conclave dev --port 0 -- ./integration-test.sh`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usageError("Write the command after '--': conclave dev -- "+args[0], "%s takes no argument before '--'", cmd.CommandPath())
			}
			r.command = args
			r.nodesSet, r.portSet = cmd.Flags().Changed("nodes"), cmd.Flags().Changed("port")
			return inv.dev(r)
		},
	}
	cmd.Flags().IntVar(&r.nodes, "nodes", 3, "`N` nodes: 1, 3 or 5")
	cmd.Flags().IntVar(&r.port, "port", 8200, "first `PORT`; 0 picks free ones")
	cmd.Flags().StringVar(&r.dir, "dir", "", "keep the data in `DIR`")
	cmd.Flags().BoolVar(&r.verbose, "verbose", false, "show the logs of the nodes on standard error too")
	complete(cmd, "nodes", "1", "3", "5")
	return cmd
}

// dev runs a cluster until a signal, the end of the command or the death of a
// node.
func (inv *invocation) dev(r devRequest) (err error) {
	switch r.nodes {
	case 1, 3, 5:
	default:
		return usageError("An odd number survives most for its size.", "--nodes %d is not 1, 3 or 5", r.nodes)
	}
	home, err := openDevHome(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.close()) }()

	stopRequested, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	cluster, err := newDevCluster(inv, r, home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()

	starting, cancel := context.WithTimeout(stopRequested, startTimeout)
	defer cancel()
	if err := cluster.start(starting); err != nil {
		if stopRequested.Err() != nil {
			return exitWith(128 + int(syscall.SIGINT)) // asked to stop, so not a failure to tell
		}
		return err
	}
	if len(r.command) > 0 {
		stop() // from here on signals are the command's
		return cluster.runCommand(r.command)
	}
	if err := cluster.announce(); err != nil {
		return err
	}
	select {
	case <-stopRequested.Done():
		return nil
	case dead := <-cluster.died:
		return dead.failure("ended unexpectedly")
	}
}

// announce tells what runs where and what to try.
func (d *devCluster) announce() error {
	var b strings.Builder
	fmt.Fprintf(&b, "Conclave: a development cluster of %s. Never keep real secrets in it.\n\n", count(len(d.nodes), "node"))
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  %s   gRPC %s   log %s\n", n.name, n.ports.api(), n.logPath)
	}
	fmt.Fprintf(&b, "\nRoot token:  %s\n", d.home.state.RootToken)
	for i, share := range d.home.state.Shares {
		fmt.Fprintf(&b, "Share %d:     %s\n", i+1, share)
	}
	fmt.Fprintf(&b, "Any %d of the shares unseal a node.\n", d.home.state.Threshold)
	program := programName()
	fmt.Fprintf(&b, "\nTry in another terminal:\n\n")
	for _, v := range d.environment() {
		fmt.Fprintf(&b, "  export %s\n", v)
	}
	fmt.Fprintf(&b, "\n  %s kv put app/db user=app password=s3cret\n  %s kv get app/db\n  %s operator members\n\n", program, program, program)
	if d.home.temporary {
		b.WriteString("Ctrl-C stops it and removes everything.\n")
	} else {
		fmt.Fprintf(&b, "Ctrl-C stops it; 'conclave dev --dir %s' finds it again.\n", d.home.dir)
	}
	if _, err := fmt.Fprint(d.inv.out, b.String()); err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	return nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// programName is how the user calls this binary: by name, or by "go run" when
// that built it just now.
func programName() string {
	self, err := os.Executable()
	if err == nil && strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/conclave"
	}
	return "conclave"
}
