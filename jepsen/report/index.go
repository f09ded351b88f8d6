package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrNoRuns: nothing was published in a folder.
var ErrNoRuns = errors.New("holds no runs")

// shelf is all that was published in a folder.
type shelf struct {
	runs    []published
	batches []*Batch
}

// published is a run and its folder.
type published struct {
	*Summary
	folder string
}

// read takes in the summaries of dir.
func read(dir string) (*shelf, error) {
	s := &shelf{}
	folders, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		run, batch := &Summary{}, &Batch{}
		if ok, err := readJSON(filepath.Join(dir, f.Name(), summaryFile), run); err != nil {
			return nil, err
		} else if ok {
			s.runs = append(s.runs, published{run, f.Name()})
		}
		if ok, err := readJSON(filepath.Join(dir, f.Name(), batchFile), batch); err != nil {
			return nil, err
		} else if ok {
			batch.Folder = f.Name()
			s.batches = append(s.batches, batch)
		}
	}
	return s, nil
}

// readJSON reads a file; ok is false where there is none.
func readJSON(path string, into any) (ok bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// row is a line of the index: a run of real processes, a batch of the simulation, or a
// seed of it that has a page.
type row struct {
	Verdict       Verdict
	Folder        string
	Started       time.Time
	What          string
	Length        time.Duration
	Ops, Searched int
	Faults, Bit   int
	Gap           *Gap
	Commit        string
	Wrong         []string
}

func runRow(r published) row {
	done, bit := sum(r.Faults)
	what := fmt.Sprintf("%s, seed %d", r.Kind, r.Seed)
	if r.Kind == "real" {
		what += fmt.Sprintf(", %d nodes", r.Nodes)
	}
	if r.Disks != "" {
		what += ", disks: " + r.Disks
	}
	return row{r.Verdict, r.folder, r.Started, what, r.Took, r.Ops, r.Searched, done, bit, r.Gap, r.Commit, shortList(slices.Concat(r.Found, r.Invalid))}
}

func batchRow(b *Batch) row {
	done, bit := sum(b.Faults)
	what := fmt.Sprintf("simulation, %d seeds from %d", b.Seeds, b.First)
	if b.Early != "" {
		what += ", ended early"
	}
	var wrong []string
	for _, w := range b.Found {
		for _, f := range w.Found {
			wrong = append(wrong, fmt.Sprintf("seed %d: %s", w.Seed, f))
		}
	}
	return row{b.Verdict, b.Folder, b.Started, what, b.Virtual, b.Ops, b.Searched, done, bit, nil, b.Commit, shortList(append(wrong, b.Invalid...))}
}

// shortList keeps a line of the index readable: the page of a run has the rest.
func shortList(all []string) (short []string) {
	const most, width = 3, 160
	for _, s := range all[:min(len(all), most)] {
		s = firstLine(s)
		if len(s) > width {
			s = strings.ToValidUTF8(s[:width], "") + "…"
		}
		short = append(short, s)
	}
	if n := len(all) - most; n > 0 {
		short = append(short, fmt.Sprintf("and %d more", n))
	}
	return short
}

// Index makes the page over all that was published in dir, the newest first.
func Index(dir string) error {
	s, err := read(dir)
	if err != nil {
		return fmt.Errorf("making the index of runs: %w", err)
	}
	var rows []row
	for _, r := range s.runs {
		rows = append(rows, runRow(r))
	}
	for _, b := range s.batches {
		rows = append(rows, batchRow(b))
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.Folder, b.Folder)) })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the index of runs: %w", err)
	}
	return writeFile(filepath.Join(dir, pageFile), func(w io.Writer) error {
		return index.Execute(w, struct {
			*Totals
			Rows []row
		}{s.totals(), rows})
	})
}
