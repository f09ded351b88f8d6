package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/faultfs"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/real"
	"github.com/conclave-secrets/conclave/jepsen/report"
)

// realFlags are how runs of real processes are asked for.
type realFlags struct {
	options real.Options
	out     string
	format  string
	keep    bool
	total   time.Duration // soak: of all runs together
	ifAble  bool
	race    bool
	commit  string // at the start: the source may move on while a soak runs
}

func (f *realFlags) flags(c *cobra.Command, length time.Duration) {
	s := c.Flags()
	s.DurationVar(&f.options.For, "for", length, "how long the faults of a run go on")
	s.IntVar(&f.options.Nodes, "nodes", 5, "3 or 5 nodes")
	s.IntVar(&f.options.Clients, "clients", 6, "clients")
	s.Uint64Var(&f.options.Seed, "seed", 1, "what goes wrong when")
	s.StringSliceVar(&f.options.Faults, "faults", nil, "what goes wrong (default: all): "+strings.Join(real.FaultNames(), ", "))
	s.BoolVar(&f.options.PlainDisks, "plain-disks", false, "put the nodes on the machine's own disks, and leave out what goes wrong with disks")
	s.BoolVar(&f.race, "race", false, "build the binary with the race detector (slow; needs a C compiler)")
	s.StringVar(&f.options.Binary, "binary", "", "conclave binary to run (default: built from this source, with clocks that can be moved)")
	s.StringVar(&f.out, "out", defaultRuns, "folder for the pages of the runs")
	s.BoolVar(&f.keep, "keep", false, "keep the data directories of the nodes")
	s.StringVar(&f.format, "format", "text", "text or json")
	completeFormat(c)
	completeList(c, "faults", real.FaultNames)
}

func runCommand() *cobra.Command {
	var f realFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run real processes in networks of their own, under faults",
		Long: `Run the real binary, each node in a network namespace of its own, and disturb it: cut,
delay, lose, reorder and repeat packets, kill and stop processes, move clocks, seal, hand
over, cut the power, break, fill, damage and exchange disks, remove and add members. It
needs root (for namespaces, TUN devices and FUSE), touches nothing outside of what it makes,
and leaves nothing behind; the next run unmounts what one left that was killed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.run(c.Context(), c.OutOrStdout(), func(i int) bool { return i == 0 })
		},
	}
	f.flags(c, 90*time.Second)
	c.Flags().BoolVar(&f.ifAble, "if-able", false, "where this user cannot have namespaces, say so and end with 0")
	return c
}

func soakCommand() *cobra.Command {
	var f realFlags
	c := &cobra.Command{
		Use:   "soak",
		Short: "Run real processes again and again, with one seed after the other",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			end := time.Now().Add(f.total)
			return f.run(c.Context(), c.OutOrStdout(), func(int) bool { return time.Now().Before(end) })
		},
	}
	f.flags(c, 5*time.Minute)
	c.Flags().DurationVar(&f.total, "total", time.Hour, "begin no run after this time")
	return c
}

// run makes runs for as long as more wants, and tells what came of each.
func (f *realFlags) run(ctx context.Context, out io.Writer, more func(i int) bool) (err error) {
	if err := f.valid(ctx); err != nil {
		return err
	}
	if err := fabric.Available(); err != nil && f.ifAble {
		fmt.Fprintf(os.Stderr, "\n*** NOT RUN, NOTHING WAS PROVEN: %v ***\n\n", err)
		return nil
	} else if err != nil {
		return err
	}
	gone, err := faultfs.Leftovers(os.TempDir())
	if len(gone) > 0 {
		fmt.Fprintln(os.Stderr, "unmounted what a run that was killed left:", strings.Join(gone, ", "))
	}
	if err != nil {
		return err
	}
	f.commit = commit(ctx)
	work, err := os.MkdirTemp("", "conclave-jepsen-")
	if err != nil {
		return err
	}
	defer func() {
		if f.keep {
			fmt.Fprintln(os.Stderr, "data directories:", work)
			return
		}
		err = errors.Join(err, os.RemoveAll(work))
	}()
	if f.options.Binary == "" {
		fmt.Fprintln(os.Stderr, "building conclave …")
		args := []string{"-tags", real.BuildTag}
		if f.race {
			args = append(args, "-race")
		}
		if f.options.Binary, err = testprocess.Build(ctx, work, args...); err != nil {
			return err
		}
	}
	wrong, empty := false, false
	for i := 0; more(i) && ctx.Err() == nil; i++ {
		s, folder, err := f.one(ctx, i, filepath.Join(work, fmt.Sprintf("run%d", i)))
		if err != nil {
			return err
		}
		if f.format == "json" {
			err = json.NewEncoder(out).Encode(s)
		} else {
			_, err = fmt.Fprint(out, spoken(filepath.Join(folder, "index.html"), s))
		}
		if err != nil {
			return err
		}
		wrong, empty = wrong || s.Verdict == report.Fail, empty || s.Verdict == report.Invalid
	}
	if ctx.Err() != nil {
		return fmt.Errorf("given up: %w", context.Cause(ctx))
	}
	return verdictError(wrong, empty)
}

// one makes run number i.
func (f *realFlags) one(ctx context.Context, i int, dir string) (*report.Summary, string, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", err
	}
	o := f.options
	o.Seed, o.Dir = o.Seed+uint64(i), dir
	began := time.Now()
	o.Progress = func(what string) {
		fmt.Fprintf(os.Stderr, "seed %d, %6.1f s: %s\n", o.Seed, time.Since(began).Seconds(), what)
	}
	done, err := real.Run(ctx, o)
	if ctx.Err() != nil {
		// What was not mended and not read back looks like a cluster that lost it.
		return nil, "", fmt.Errorf("seed %d was given up in the middle: %w", o.Seed, errors.Join(context.Cause(ctx), err))
	}
	if err != nil {
		return nil, "", err
	}
	run := &history.Run{
		Header: history.Header{Kind: "real", Seed: o.Seed, Nodes: o.Nodes, Clients: o.Clients, Length: o.For, Commit: f.commit, Machine: machine(),
			Disks: done.Disks, Started: done.Started, Replay: f.again(o), Violated: done.Violations, Invalid: done.Invalid, Notes: done.Notes, Gaps: done.Gaps},
		Ops: done.Ops, Faults: done.Faults,
	}
	s := report.Summarise(run)
	folder, err := report.Publish(f.out, run, s, done.NodeLogs)
	return s, folder, err
}

// again is the command that makes a run of the same faults. What real processes make
// of them is another matter.
func (f *realFlags) again(o real.Options) string {
	line := fmt.Sprintf("go run ./jepsen run --seed %d --for %v --nodes %d --clients %d", o.Seed, o.For, o.Nodes, o.Clients)
	if o.PlainDisks {
		line += " --plain-disks"
	}
	if f.race {
		line += " --race"
	}
	if len(o.Faults) > 0 {
		line += fmt.Sprintf(" --faults '%s'", strings.Join(o.Faults, ","))
	}
	return line
}
