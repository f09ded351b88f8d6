package report

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

//go:embed page.html
var pageText string

//go:embed batch.html
var batchText string

//go:embed index.html
var indexText string

//go:embed style.css
var style string

var functions = template.FuncMap{
	"short": round,
	"first": firstLine,
	"rest":  func(s string) string { _, rest, _ := strings.Cut(s, "\n"); return rest },
	"lower": func(v Verdict) string { return strings.ToLower(string(v)) },
	"style": func() template.CSS { return template.CSS(style) }, // our own file
	"hours": func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Hours()) },
	"brief": func(s string) bool { return strings.Count(s, "\n") < 8 },
	"count": count,
}

var (
	page      = template.Must(template.New("page").Funcs(functions).Parse(pageText))
	batchPage = template.Must(template.New("batch").Funcs(functions).Parse(batchText))
	index     = template.Must(template.New("index").Funcs(functions).Parse(indexText))
)

func round(d time.Duration) string { return d.Round(time.Millisecond).String() }

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// count writes a number with its thousands apart.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// The files of a published run.
const (
	summaryFile = "summary.json"
	batchFile   = "batch.json"
	historyFile = "history.jsonl"
	ednFile     = "history.edn"
	pageFile    = "index.html"
)

// folderTime is how the names of folders begin.
const folderTime = "20060102T150405"

// Publish writes a run below dir, as Write does, and makes the index of dir anew.
func Publish(dir string, run *history.Run, s *Summary, logs []string) (folder string, err error) {
	folder, err = Write(dir, run, s, logs)
	return folder, errors.Join(err, Index(dir))
}

// Write writes a run below dir, in a folder of its own, and returns that folder: page, history (JSON Lines and EDN), summary, a picture of each key that is not
// linearizable, and the node logs, which are copied; those of an earlier time stay.
func Write(dir string, run *history.Run, s *Summary, logs []string) (folder string, err error) {
	folder = filepath.Join(dir, fmt.Sprintf("%s-%s-seed-%d", run.Started.UTC().Format(folderTime), run.Kind, run.Seed))
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
	t := newTeller(run)
	if err := t.draw(folder, s); err != nil {
		return "", err
	}
	return folder, errors.Join(
		writeFile(filepath.Join(folder, historyFile), func(w io.Writer) error { return history.Write(w, run) }),
		writeFile(filepath.Join(folder, ednFile), func(w io.Writer) error { return history.WriteEDN(w, run.Ops) }),
		writeJSON(filepath.Join(folder, summaryFile), s),
		writeFile(filepath.Join(folder, pageFile), func(w io.Writer) error { return page.Execute(w, t.view(s)) }),
	)
}

// draw asks porcupine for its account of each key that a finding is about, and leaves
// its pictures in the folder.
func (t *teller) draw(folder string, s *Summary) error {
	s.Pictures = nil
	for _, key := range t.keysOf(s) {
		a, ok := check.Explain(t.run.Ops, key)
		if !ok {
			continue
		}
		name := fmt.Sprintf("key-%d.html", len(s.Pictures))
		if err := writeFile(filepath.Join(folder, name), a.Draw); err != nil {
			return err
		}
		t.keys[key] = account{a.Stuck, name}
		s.Pictures = append(s.Pictures, name)
	}
	return nil
}

// view is what a run's page shows.
type view struct {
	*Summary
	Throughput, Latency template.HTML
	Moments             []moment
	Bands               []history.Fault
}

func (t *teller) view(s *Summary) *view {
	line := newTimeline(t.run)
	v := &view{Summary: s, Throughput: line.throughput(t.run.Faults), Latency: line.latency(t.run.Faults), Bands: t.run.Faults}
	for i, f := range s.Found {
		if i < mostTold {
			v.Moments = append(v.Moments, t.tell(f))
		} else {
			v.Moments = append(v.Moments, moment{What: firstLine(f), Evidence: f})
		}
	}
	return v
}

// writeFile writes a file whole or not at all: who is interrupted leaves nothing that
// an index could stumble over.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	if err = errors.Join(write(f), f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("publishing %s: %w", path, errors.Join(err, os.Remove(f.Name())))
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
