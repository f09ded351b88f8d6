package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/report"
)

func checkCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "check FILE...",
		Short: "Judge histories that were written before",
		Long: `Judge histories that were written before (history.jsonl): by porcupine, key by key,
and by the witness, which takes the indexes in the answers for the order of things.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if err := known(format, "text", "json"); err != nil {
				return err
			}
			wrong, empty := false, false
			for _, file := range files {
				run, err := readHistory(file)
				if err != nil {
					return err
				}
				s := report.Summarise(run)
				if format == "json" {
					if err := json.NewEncoder(c.OutOrStdout()).Encode(s); err != nil {
						return err
					}
				} else {
					fmt.Fprint(c.OutOrStdout(), spoken(file, s))
				}
				wrong, empty = wrong || s.Verdict == report.Fail, empty || s.Verdict == report.Invalid
			}
			return verdictError(wrong, empty)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	completeFormat(c)
	return c
}

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report [DIR]",
		Short: "Judge all runs of a folder anew, make their pages, and add them up",
		Long: `Judge all runs of a folder anew, make their pages, and add them up. Runs whose histories
were not kept are taken at the word of their summaries.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := defaultRuns
			if len(args) == 1 {
				dir = args[0]
			}
			return remake(dir, c.OutOrStdout())
		},
	}
}

// remake makes the pages of dir anew from the histories and summaries in it.
func remake(dir string, out io.Writer) error {
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("reading runs: %w; `jepsen sim --out` and `jepsen run` make such a folder", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "history.jsonl"))
	if err != nil {
		return err
	}
	for _, file := range files {
		run, err := readHistory(file)
		if err != nil {
			return err
		}
		folder, err := report.Write(dir, run, report.Summarise(run), nil)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, filepath.Join(folder, "index.html"))
	}
	totals, err := report.Total(dir)
	if errors.Is(err, report.ErrNoRuns) {
		return fmt.Errorf("%w; `jepsen sim --out` and `jepsen run` write them", err)
	}
	if err != nil {
		return err
	}
	if err := report.Index(dir); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%s", filepath.Join(dir, "index.html"), totals)
	return err
}

// defaultRuns is where runs are written when nothing else is said.
const defaultRuns = "jepsen/runs"

func readHistory(file string) (*history.Run, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is a folder; name a history in it, as in %s", file, filepath.Join(file, "history.jsonl")), f.Close())
	}
	defer f.Close() // read only
	run, err := history.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it was changed or cut off since it was written, or another version wrote it: make the run again, or take the file away", file, err)
	}
	return run, nil
}

// spoken is a summary for a terminal.
func spoken(name string, s *report.Summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", name, s.Verdict)
	fmt.Fprintf(&b, "  %s run, seed %d, %d nodes: %d requests", s.Kind, s.Seed, s.Nodes, s.Ops)
	for _, outcome := range []history.Outcome{history.Done, history.Refused, history.NotDone, history.Unknown} {
		if n := s.Outcomes[outcome.String()]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, outcome)
		}
	}
	fmt.Fprintf(&b, "\n  %d of them searched by porcupine on %d keys, all by the witness\n", s.Searched, s.Keys)
	if s.Undecided > 0 {
		fmt.Fprintf(&b, "  the search of %d keys did not end\n", s.Undecided)
	}
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  fault %s: %d times, %d seen to bite\n", f.Name, f.Done, f.Bit)
	}
	for _, why := range s.Invalid {
		fmt.Fprintf(&b, "  it proves nothing: %s\n", why)
	}
	for _, f := range s.Found {
		fmt.Fprintf(&b, "  WRONG: %s\n", f)
	}
	if s.Replay != "" && s.Verdict == report.Fail {
		fmt.Fprintf(&b, "  again: %s\n", s.Replay)
	}
	return b.String()
}

func verdictError(wrong, empty bool) error {
	switch {
	case wrong:
		return errFound
	case empty:
		return errInvalid
	}
	return nil
}

// known refuses a value of a flag that is none of those.
func known(value string, all ...string) error {
	for _, v := range all {
		if v == value {
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", value, strings.Join(all, ", "))
}
