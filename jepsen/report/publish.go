package report

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

//go:embed page.html
var pageText string

//go:embed index.html
var indexText string

var helpers = template.FuncMap{
	"short": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
	"first": func(s string) string { line, _, _ := strings.Cut(s, "\n"); return line },
	"lower": func(v Verdict) string { return strings.ToLower(string(v)) },
}

var (
	page  = template.Must(template.New("page").Funcs(helpers).Parse(pageText))
	index = template.Must(template.New("index").Funcs(helpers).Parse(indexText))
)

// The files of a published run.
const (
	summaryFile = "summary.json"
	historyFile = "history.jsonl"
	ednFile     = "history.edn"
	pageFile    = "index.html"
)

// Publish writes a run below dir, in a folder of its own, and returns that folder:
// page, history (JSON Lines and EDN), summary, a picture of each key that is not
// linearizable, and the node logs, which are copied; those of an earlier time stay. It
// makes the index of dir anew.
func Publish(dir string, run *history.Run, s *Summary, logs []string) (folder string, err error) {
	folder = filepath.Join(dir, fmt.Sprintf("%s-%s-seed-%d", run.Started.UTC().Format("20060102T150405"), run.Kind, run.Seed))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("publishing a run: %w", err)
	}
	for _, log := range logs {
		if err := copyFile(log, filepath.Join(folder, filepath.Base(log))); err != nil {
			return "", fmt.Errorf("publishing a run: %w", err)
		}
	}
	copied, err := filepath.Glob(filepath.Join(folder, "*.log"))
	if err != nil {
		return "", fmt.Errorf("publishing a run: %w", err)
	}
	s.Logs = nil
	for _, log := range copied {
		s.Logs = append(s.Logs, filepath.Base(log))
	}
	var pictures []string
	for i, key := range s.Pictures {
		name := fmt.Sprintf("key-%d.html", i)
		if err := writeFile(filepath.Join(folder, name), func(w io.Writer) error { return check.Picture(w, run.Ops, key) }); err != nil {
			return "", err
		}
		pictures = append(pictures, name)
	}
	s.Pictures = pictures
	return folder, errors.Join(
		writeFile(filepath.Join(folder, historyFile), func(w io.Writer) error { return history.Write(w, run) }),
		writeFile(filepath.Join(folder, ednFile), func(w io.Writer) error { return history.WriteEDN(w, run.Ops) }),
		writeFile(filepath.Join(folder, summaryFile), func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(s)
		}),
		writeFile(filepath.Join(folder, pageFile), func(w io.Writer) error { return page.Execute(w, newView(run, s)) }),
		Index(dir),
	)
}

// view is what a run's page shows.
type view struct {
	*Summary
	Throughput, Latency template.HTML
	Findings            []finding
	Windows             []window
	Bands               []history.Fault
}

// A finding is one thing that is wrong: what, and the evidence.
type finding struct{ What, Evidence string }

// A window is what clients saw around the ops that a finding names.
type window struct {
	Title string
	Ops   []*history.Op
}

// windowOps is how many ops are shown before and after one that is wrong.
const windowOps = 25

func newView(run *history.Run, s *Summary) *view {
	t := newTimeline(run)
	v := &view{Summary: s, Throughput: t.throughput(run.Faults), Latency: t.latency(run.Faults), Bands: run.Faults}
	for _, f := range s.Found {
		what, evidence, _ := strings.Cut(f, "\n")
		v.Findings = append(v.Findings, finding{what, evidence})
		for i, o := range run.Ops {
			if strings.Contains(f, o.String()) && len(v.Windows) < 20 {
				v.Windows = append(v.Windows, window{what, run.Ops[max(0, i-windowOps):min(len(run.Ops), i+windowOps+1)]})
				break
			}
		}
	}
	return v
}

// Index makes the page over all runs of dir, the newest first.
func Index(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", summaryFile))
	if err != nil {
		return fmt.Errorf("making the index of runs: %w", err)
	}
	type row struct {
		*Summary
		Folder string
	}
	var rows []row
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("making the index of runs: %w", err)
		}
		s := &Summary{}
		if err := json.Unmarshal(raw, s); err != nil {
			return fmt.Errorf("making the index of runs: %s: %w", file, err)
		}
		rows = append(rows, row{s, filepath.Base(filepath.Dir(file))})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.Folder, b.Folder)) })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the index of runs: %w", err)
	}
	return writeFile(filepath.Join(dir, "index.html"), func(w io.Writer) error { return index.Execute(w, rows) })
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("publishing %s: %w", path, err)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("a node's log is missing: %w", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return writeFile(to, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
}
