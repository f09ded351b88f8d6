package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-secrets/conclave/jepsen/sim"
)

func mutantsCommand() *cobra.Command {
	var (
		only   []string
		budget int
		format string
		list   bool
	)
	c := &cobra.Command{
		Use:   "mutants",
		Short: "Plant known bugs and see that each is caught",
		Long: `Plant known bugs, one at a time, in simulated clusters, and see that each is caught: it is
the test of the tests. A mutant that gets away within its budget of seeds makes the command fail.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := known(format, "text", "json"); err != nil {
				return err
			}
			chosen, err := choose(only)
			if err != nil {
				return err
			}
			if list {
				for _, m := range chosen {
					fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", m.Name, m.Breaks)
				}
				return nil
			}
			return hunt(c.Context(), chosen, budget, format, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&only, "only", nil, "only the one of this name; may be given again")
	c.Flags().IntVar(&budget, "seeds", 200, "how many seeds each may take")
	c.Flags().StringVar(&format, "format", "text", "text or json")
	completeFormat(c)
	complete(c, "only", func(string) (names []string) {
		for _, m := range sim.Mutants() {
			names = append(names, m.Name)
		}
		return names
	})
	c.Flags().BoolVar(&list, "list", false, "list them, and what each breaks")
	return c
}

func choose(only []string) ([]sim.Mutant, error) {
	all := sim.Mutants()
	if only == nil {
		return all, nil
	}
	var chosen []sim.Mutant
	for _, name := range only {
		i := slices.IndexFunc(all, func(m sim.Mutant) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no mutant is called %q; `jepsen mutants --list` has them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// A catch is what became of a mutant.
type catch struct {
	Name, Breaks string
	Caught       bool
	Seeds        int    // that it took
	By           string // the first line of what was found
	Took         time.Duration
}

// hunt runs the mutants, as many at once as there are processors.
func hunt(ctx context.Context, mutants []sim.Mutant, budget int, format string, out io.Writer) error {
	show := newProgress(os.Stderr)
	catches, err := huntAll(ctx, mutants, budget, func(done int) { show.update(fmt.Sprintf("%d of %d mutants", done, len(mutants))) })
	show.clear()
	if err != nil {
		return err
	}
	if format == "json" {
		if err := json.NewEncoder(out).Encode(catches); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "mutant\tcaught\tseeds\tby")
		for _, c := range catches {
			caught := map[bool]string{true: "yes", false: "NO"}[c.Caught]
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", c.Name, caught, c.Seeds, shortened(c.By))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	away := slices.DeleteFunc(slices.Clone(catches), func(c catch) bool { return c.Caught })
	return verdictError(len(away) > 0, false)
}

func huntAll(ctx context.Context, mutants []sim.Mutant, budget int, told func(done int)) ([]catch, error) {
	catches := make([]catch, len(mutants))
	var (
		mu   sync.Mutex
		done int
		all  errgroup.Group
	)
	all.SetLimit(runtime.NumCPU())
	for i, m := range mutants {
		all.Go(func() error {
			var err error
			catches[i], err = pursue(ctx, m, budget)
			mu.Lock()
			defer mu.Unlock()
			done++
			told(done)
			return cmp.Or(err, ctx.Err())
		})
	}
	err := all.Wait()
	return catches, err
}

// pursue runs seeds with one mutant until it is caught. A process that dies of a mutant
// has caught it only where any finding does: where one checker is meant, that one must
// speak.
func pursue(ctx context.Context, m sim.Mutant, budget int) (catch, error) {
	began := time.Now()
	c := catch{Name: m.Name, Breaks: m.Breaks}
	ctx, caught := context.WithCancel(ctx)
	defer caught()
	err := shard{Mutant: m.Name, Step: 1, Count: uint64(budget)}.start(ctx, func(v *verdict) {
		if c.Caught {
			return // what the child did before it was ended
		}
		c.Seeds += v.Counts.Seeds
		if len(v.Wrong) > 0 && strings.Contains(v.Wrong[0], m.By) {
			c.Caught, c.By = true, v.Wrong[0]
			caught()
		}
	})
	c.Took = time.Since(began)
	return c, err
}

// shortened keeps a table readable.
func shortened(s string) string {
	if s = strings.TrimSuffix(firstLine(s), ":"); len(s) > 100 {
		s = s[:100] + "…"
	}
	return s
}
