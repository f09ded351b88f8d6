package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/conclave-secrets/conclave/jepsen/report"
	"github.com/conclave-secrets/conclave/jepsen/sim"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// simFlags are how a simulation is asked for.
type simFlags struct {
	first, seeds uint64
	hours        float64
	options      simOptions
	budget       time.Duration
	jobs         int
	out          string
	all          bool
	format       string
}

func simCommand() *cobra.Command {
	var f simFlags
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate clusters on virtual time",
		Long: `Simulate clusters of the real code, on a simulated network, disk and clock, under faults.
Each seed is one run. A seed in which something is wrong prints its replay line. With
--out, such a seed leaves a page with its history, and all seeds together a page with
their sums. Who interrupts it gets those of the seeds that were finished.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := known(f.format, "text", "json"); err != nil {
				return err
			}
			return simulate(c.Context(), f, c.OutOrStdout(), os.Stderr)
		},
	}
	c.Flags().Uint64Var(&f.first, "first", 0, "the first seed")
	c.Flags().Uint64Var(&f.seeds, "seeds", 200, "how many seeds")
	c.Flags().Float64Var(&f.hours, "hours", 0, "go on until so many hours of virtual time have passed, instead of --seeds")
	f.options.flags(c)
	c.Flags().DurationVar(&f.budget, "for", 0, "stop after this much real time (default: no limit)")
	c.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "child processes, one processor each")
	c.Flags().StringVar(&f.out, "out", "", "folder for the page of the batch, and those of seeds in which something was wrong")
	c.Flags().BoolVar(&f.all, "all", false, "with --out: pages of all seeds")
	c.Flags().StringVar(&f.format, "format", "text", "text or json")
	completeFormat(c)
	return c
}

// simOptions are the options of a run, from flags.
type simOptions struct{ sim.Options }

// noFaults is how a command line says that nothing shall go wrong.
const noFaults = "none"

func (o *simOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&o.Duration, "length", 0, "virtual time of each seed (default 5s, times --stretch and --leisure)")
	f.IntVar(&o.Stretch, "stretch", 1, "make clients, faults and timers so many times slower: hours then cost what seconds did")
	f.IntVar(&o.Leisure, "leisure", 1, "make the pauses between requests and between faults so many times longer")
	f.IntVar(&o.Nodes, "nodes", 0, "nodes (default 3, and 5 for every tenth seed)")
	f.IntVar(&o.Clients, "clients", 0, "clients (default 6)")
	f.Func("workloads", "what clients do, with commas between (default: all): "+strings.Join(workloadNames(), ", "), func(text string) error {
		for _, name := range strings.Split(text, ",") {
			if !slices.Contains(workloadNames(), name) {
				return unknownName("workload", name, workloadNames())
			}
			o.Workloads = append(o.Workloads, workload.Name(name))
		}
		return nil
	})
	f.Func("faults", "what goes wrong, with commas between, or "+noFaults+" (default: all): "+strings.Join(sim.FaultNames(), ", "), func(text string) error {
		o.Faults = []string{}
		if text == noFaults {
			return nil
		}
		for _, name := range strings.Split(text, ",") {
			if !slices.Contains(sim.FaultNames(), name) {
				return unknownName("fault", name, sim.FaultNames())
			}
			o.Faults = append(o.Faults, name)
		}
		return nil
	})
	completeList(c, "workloads", workloadNames)
	completeList(c, "faults", func() []string { return append(sim.FaultNames(), noFaults) })
}

func workloadNames() (names []string) {
	for _, w := range workload.Names() {
		names = append(names, string(w))
	}
	return names
}

// A tally adds up what the children tell.
type tally struct {
	Counts   sim.Counts
	Searched int
	Faults   []report.FaultCount
	Wrong    []report.WrongSeed
	Missing  []string // what did not happen that should have, over all seeds
	Early    string   // why not all seeds were run; "": they were
	Took     time.Duration
}

// enoughSeeds is from how many seeds on everything must have happened once.
const enoughSeeds = 100

func simulate(ctx context.Context, f simFlags, out, progress io.Writer) error {
	interrupted := ctx
	if f.budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.budget)
		defer cancel()
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	asked := f.seeds
	if f.hours > 0 {
		asked, f.seeds = 0, 1<<40
	}
	began := time.Now()
	b := &report.Batch{Folder: report.BatchFolder(began, f.first), Commit: commit(ctx), Machine: machine(), Started: began, Command: f.command(),
		First: f.first, Asked: asked, Stretch: f.options.Stretch, Leisure: f.options.Leisure}
	var (
		mu    sync.Mutex
		sum   tally
		all   sync.WaitGroup
		fails = make([]error, f.jobs)
		show  = newProgress(progress)
	)
	for i := range f.jobs {
		s := shard{First: f.first + uint64(i), Step: uint64(f.jobs), Count: (f.seeds + uint64(f.jobs-1-i)) / uint64(f.jobs),
			Options: f.options.Options, Keep: f.out, KeepAll: f.all, Commit: b.Commit, Batch: b.Folder}
		all.Go(func() {
			fails[i] = s.start(ctx, func(v *verdict) {
				mu.Lock()
				defer mu.Unlock()
				sum.add(v, s.Options)
				if len(v.Wrong) > 0 {
					w := sum.Wrong[len(sum.Wrong)-1]
					show.line(fmt.Sprintf("seed %d: %s\n  again: %s\n", w.Seed, strings.Join(w.Found, "\n  "), w.Replay))
				}
				show.update(fmt.Sprintf("%d seeds, %.1f hours of virtual time, %d requests, %d seeds with something wrong",
					sum.Counts.Seeds, sum.Counts.Virtual.Hours(), sum.Counts.Ops, len(sum.Wrong)))
				if f.hours > 0 && sum.Counts.Virtual.Hours() >= f.hours {
					enough()
				}
			})
		})
	}
	all.Wait()
	show.clear()
	sum.Took = time.Since(began)
	if sum.Counts.Seeds >= enoughSeeds {
		sum.Missing = sum.Counts.Vacuous()
	}
	if err := errors.Join(fails...); err != nil {
		return err
	}
	short := f.hours == 0 && uint64(sum.Counts.Seeds) < f.seeds || f.hours > 0 && sum.Counts.Virtual.Hours() < f.hours
	switch {
	case short && interrupted.Err() != nil:
		sum.Early = fmt.Sprintf("interrupted after %d seeds", sum.Counts.Seeds)
	case short:
		sum.Early = fmt.Sprintf("ended after %v, as was asked, and %d seeds", f.budget, sum.Counts.Seeds)
	}
	if f.out != "" {
		sum.fill(b)
		if err := report.PublishBatch(f.out, b); err != nil {
			return err
		}
	}
	if err := sum.print(out, f); err != nil {
		return err
	}
	if f.out != "" && f.format == "text" {
		fmt.Fprintf(out, "page: %s\n", filepath.Join(f.out, b.Folder, "index.html"))
	}
	err := verdictError(len(sum.Wrong) > 0, len(sum.Missing) > 0 || sum.Counts.Seeds == 0)
	if err == nil && short && interrupted.Err() != nil {
		return errors.New(sum.Early)
	}
	return err
}

// command is how the batch is run again.
func (f *simFlags) command() string {
	line := fmt.Sprintf("go run ./jepsen sim --first %d", f.first)
	if f.hours > 0 {
		line += fmt.Sprintf(" --hours %g", f.hours)
	} else {
		line += fmt.Sprintf(" --seeds %d", f.seeds)
	}
	return line + optionsLine(f.options.Options)
}

// fill puts the sums into what is published.
func (t *tally) fill(b *report.Batch) {
	b.Seeds, b.Early, b.Virtual, b.Took, b.Ops, b.Searched = t.Counts.Seeds, t.Early, t.Counts.Virtual, t.Took, t.Counts.Ops, t.Searched
	b.LeaderChanges, b.Faults, b.Found, b.Invalid = t.Counts.LeaderChanges, t.Faults, t.Wrong, t.Missing
	if b.Seeds == 0 {
		b.Invalid = append(b.Invalid, "no seed was finished")
	}
	b.Judge()
}

func (t *tally) add(v *verdict, o sim.Options) {
	t.Counts.Add(v.Counts)
	t.Searched += v.Searched
	t.Faults = report.AddFaults(t.Faults, v.Faults)
	if len(v.Wrong) > 0 {
		o.Seed = v.Seed
		w := report.WrongSeed{Seed: v.Seed, Found: v.Wrong, Replay: replayLine(o)}
		if v.Folder != "" {
			w.Page = filepath.Base(v.Folder)
		}
		t.Wrong = append(t.Wrong, w)
	}
}

func (t *tally) print(out io.Writer, f simFlags) error {
	if f.format == "json" {
		return json.NewEncoder(out).Encode(t)
	}
	fmt.Fprintf(out, "%s\n%d requests searched by porcupine, all by the witness; %v of real time\n", t.Counts.String(), t.Searched, t.Took.Round(time.Second))
	for _, w := range t.Wrong {
		fmt.Fprintf(out, "WRONG in seed %d: %s\n  again: %s\n", w.Seed, firstLine(w.Found[0]), w.Replay)
		if w.Page != "" {
			fmt.Fprintf(out, "  page: %s\n", filepath.Join(f.out, w.Page, "index.html"))
		}
	}
	for _, m := range t.Missing {
		fmt.Fprintf(out, "it proves too little: %s\n", m)
	}
	if t.Early != "" {
		fmt.Fprintln(out, t.Early)
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// replayLine is the command that runs a seed again.
func replayLine(o sim.Options) string {
	return fmt.Sprintf("go run ./jepsen replay --seed %d", o.Seed) + optionsLine(o)
}

// optionsLine are the flags of a run's options.
func optionsLine(o sim.Options) (line string) {
	add := func(flag string, value any, given bool) {
		if given {
			line += fmt.Sprintf(" --%s %v", flag, value)
		}
	}
	add("length", o.Duration, o.Duration != 0)
	add("stretch", o.Stretch, o.Stretch > 1)
	add("leisure", o.Leisure, o.Leisure > 1)
	add("nodes", o.Nodes, o.Nodes != 0)
	add("clients", o.Clients, o.Clients != 0)
	var workloads []string
	for _, w := range o.Workloads {
		workloads = append(workloads, string(w))
	}
	add("workloads", strings.Join(workloads, ","), len(workloads) > 0)
	faults := strings.Join(o.Faults, ",")
	if o.Faults != nil && faults == "" {
		faults = noFaults
	}
	add("faults", "'"+faults+"'", o.Faults != nil)
	return line
}

// commit names the source that is proved, as far as git can tell.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func machine() string {
	return fmt.Sprintf("%d processors, %s %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// progress is one line that is written over, where somebody looks at it; elsewhere a
// line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	last     time.Time
}

func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), last: time.Now()}
}

const (
	eraseLine     = "\r\x1b[K"
	progressPause = 30 * time.Second // where nobody looks
)

func (p *progress) update(text string) {
	switch {
	case p.terminal:
		fmt.Fprint(p.out, eraseLine+text)
	case time.Since(p.last) >= progressPause:
		p.last = time.Now()
		fmt.Fprintln(p.out, text)
	}
}

func (p *progress) line(text string) {
	p.clear()
	fmt.Fprint(p.out, text)
}

func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.out, eraseLine)
	}
}
