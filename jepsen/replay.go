package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/jepsen/report"
	"github.com/conclave-secrets/conclave/jepsen/sim"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// replayFlags are what a replay wants beside the options of the run.
type replayFlags struct {
	options simOptions
	times   int
	shrink  bool
	trace   bool
	out     string
}

func replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay (--seed N | FILE)",
		Short: "Run a simulated seed again, and make what fails smaller",
		Long: `Run a simulated seed again: one that is named, or that of a history (history.jsonl).
A seed fixes what is sent and what goes wrong, but not every choice of the scheduler, so it
is run a few times until something is wrong again. --shrink then leaves out faults, kinds
of requests, clients and time for as long as something still goes wrong.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == c.Flags().Changed("seed") {
				return fmt.Errorf("name a seed (--seed) or a history, one of them")
			}
			if len(args) == 1 {
				if err := f.options.fromFile(args[0]); err != nil {
					return err
				}
			}
			return replay(c.Context(), f, c.OutOrStdout())
		},
	}
	c.Flags().Uint64Var(&f.options.Seed, "seed", 0, "the seed")
	f.options.flags(c)
	c.Flags().IntVar(&f.times, "times", 5, "run it at most so often")
	c.Flags().BoolVar(&f.trace, "trace", false, "print what the nodes log")
	c.Flags().BoolVar(&f.shrink, "shrink", false, "look for a smaller run in which something is wrong, too")
	c.Flags().StringVar(&f.out, "out", defaultRuns, "folder for the page of the run")
	return c
}

// fromFile takes the options of a run from its history.
func (o *simOptions) fromFile(file string) error {
	run, err := readHistory(file)
	if err != nil {
		return err
	}
	if run.Kind != "sim" {
		return fmt.Errorf("%s is of real processes, which no seed repeats; again: %s", file, run.Replay)
	}
	if err := json.Unmarshal(run.Options, &o.Options); err != nil {
		return fmt.Errorf("%s does not say how it was run: %w", file, err)
	}
	o.Seed = run.Seed
	return nil
}

func replay(ctx context.Context, f replayFlags, out io.Writer) error {
	v, err := tryAgain(ctx, shard{Options: f.options.Options, Keep: f.out, Trace: f.trace}, f.times, func(n int, v *verdict) {
		fmt.Fprintf(out, "run %d: %d requests, history %s, %d findings\n", n, v.Counts.Ops, v.Fingerprint, len(v.Wrong))
	})
	if err != nil {
		return err
	}
	if v == nil {
		fmt.Fprintf(out, "nothing was wrong in %d runs\n", f.times)
		return nil
	}
	smallest := f.options.Options
	if f.shrink {
		if smallest, err = shrink(ctx, smallest, f.times, out); err != nil {
			return err
		}
		if v, err = tryAgain(ctx, shard{Options: smallest, Keep: f.out}, 4*f.times, func(int, *verdict) {}); err != nil {
			return err
		}
	}
	if v != nil {
		for _, w := range v.Wrong {
			fmt.Fprintf(out, "WRONG: %s\n", w)
		}
		fmt.Fprintf(out, "page: %s/index.html\n", v.Folder)
	}
	fmt.Fprintf(out, "again: %s\n", replayLine(smallest))
	return errFound
}

// tryAgain runs the seed of s until something is wrong, at most so many times; nil:
// nothing was.
func tryAgain(ctx context.Context, s shard, times int, told func(int, *verdict)) (*verdict, error) {
	s.First, s.Step, s.Count, s.Commit = s.Options.Seed, 1, 1, commit(ctx)
	for n := 1; n <= times && ctx.Err() == nil; n++ {
		var got *verdict
		if err := s.start(ctx, func(v *verdict) { got = v }); err != nil {
			return nil, err
		}
		if got == nil {
			return nil, fmt.Errorf("seed %d gave no verdict", s.First)
		}
		if told(n, got); len(got.Wrong) > 0 {
			if got.Folder != "" {
				return got, report.Index(s.Keep)
			}
			return got, nil
		}
	}
	return nil, ctx.Err()
}

// shrink leaves out one thing after the other for as long as something still goes
// wrong, and returns what is left. Each attempt is run a few times, since a seed does
// not always repeat; what fails in none of them counts as right.
func shrink(ctx context.Context, o sim.Options, times int, out io.Writer) (sim.Options, error) {
	if o.Faults == nil {
		o.Faults = sim.FaultNames()
	}
	if o.Workloads == nil {
		o.Workloads = workload.Names()
	}
	for again := true; again; {
		again = false
		for _, smaller := range reductions(o) {
			v, err := tryAgain(ctx, shard{Options: smaller.options}, times, func(int, *verdict) {})
			if err != nil {
				return o, err
			}
			if v != nil {
				fmt.Fprintf(out, "still wrong %s: %s\n", smaller.what, firstLine(v.Wrong[0]))
				o, again = smaller.options, true
				break
			}
		}
	}
	return o, nil
}

type reduction struct {
	what    string
	options sim.Options
}

// shortest is the shortest run that is worth a try.
const shortest = 250 * time.Millisecond

// reductions are the runs that are one step smaller than o, the largest steps first.
func reductions(o sim.Options) (all []reduction) {
	add := func(what string, change func(*sim.Options)) {
		smaller := o
		change(&smaller)
		all = append(all, reduction{what, smaller})
	}
	if len(o.Faults) > 0 {
		add("without any fault", func(s *sim.Options) { s.Faults = []string{} })
	}
	if n := len(o.Faults); n > 1 {
		add("with half of the faults", func(s *sim.Options) { s.Faults = slices.Clone(o.Faults[:n/2]) })
		add("with the other half of the faults", func(s *sim.Options) { s.Faults = slices.Clone(o.Faults[n/2:]) })
		for i, name := range o.Faults {
			add("without "+name, func(s *sim.Options) { s.Faults = slices.Delete(slices.Clone(o.Faults), i, i+1) })
		}
	}
	if len(o.Workloads) > 1 {
		for i, name := range o.Workloads {
			add("without "+string(name), func(s *sim.Options) { s.Workloads = slices.Delete(slices.Clone(o.Workloads), i, i+1) })
		}
	}
	if o.Clients != 1 {
		add("with fewer clients", func(s *sim.Options) { s.Clients = max(1, o.Clients/2) })
	}
	if length := cmp.Or(o.Duration, sim.DefaultDuration*time.Duration(max(1, o.Stretch)*max(1, o.Leisure))); length > 2*shortest {
		add("in half of the time", func(s *sim.Options) { s.Duration = length / 2 })
	}
	return all
}
