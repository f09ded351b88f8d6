// Command jepsen proves what Conclave promises, or shows where it does not: on
// simulated clusters and on real processes it records what clients see while
// messages, disks, processes and clocks fail, and judges it. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes: what a script must tell apart.
const (
	exitFound   = 1 // something is wrong, or a mutant got away
	exitUsage   = 2 // it could not be done, or was interrupted
	exitInvalid = 3 // too little happened to prove anything
)

var (
	errFound   = errors.New("something is wrong")
	errInvalid = errors.New("too little happened for this to prove anything")
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == shardCommand {
		runShard(os.Args[2:], runSeed)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errFound):
		os.Exit(exitFound)
	case errors.Is(err, errInvalid):
		os.Exit(exitInvalid)
	default:
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(exitUsage)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "jepsen",
		Short: "Prove what the cluster promises, under faults",
		Long: `Prove what the cluster promises, under faults.

The simulation (sim) runs whole clusters of the real code on virtual time; run and
soak start real processes in networks of their own. What clients saw is judged by
two oracles, and written to a folder with a page for each run.

Exit codes: 0 all is well, 1 something is wrong, 2 it could not be done,
or was interrupted, 3 too little happened to prove anything.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(), soakCommand(), simCommand(), replayCommand(), checkCommand(), reportCommand(), mutantsCommand())
	return root
}
