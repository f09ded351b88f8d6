// Command bench measures a cluster that it starts itself: three real nodes on
// this machine, with TLS, the seal and root authentication on, as users run
// them. It prints a table and writes it, with what the machine was, to
// bench/results/.
//
//	go run ./bench                       everything, about three minutes
//	go run ./bench -only put,get -for 5s
//
// Figures of different machines, or of one machine at different times, do not
// compare; ratios taken in one run do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

type settings struct {
	only    []string
	clients []int
	length  time.Duration
	secrets int
	kills   int
	out     string
	binary  string
	pprof   int
	profile string
	dir     string // of this run, temporary
}

// options are those of a cluster that is measured, in a directory.
func (s settings) options(dir string) testprocess.Options {
	o := testprocess.Options{Binary: s.binary, Dir: dir, Nodes: 3}
	if s.pprof != 0 {
		o.Env = func(node int) []string { return []string{fmt.Sprintf("CONCLAVE_PPROF=127.0.0.1:%d", s.pprof+node)} }
	}
	return o
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == "-echo-server" {
		if err := serveEcho(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: echo server:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "-constant-server" {
		if err := serveConstant(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: constant server:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, parse()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() settings {
	var s settings
	only := flag.String("only", "echo,memory,put,get,kill,start,http,login", "which parts to run")
	flag.DurationVar(&s.length, "for", 8*time.Second, "how long each load runs")
	flag.IntVar(&s.secrets, "secrets", 100_000, "secrets for start-up and snapshot time")
	flag.IntVar(&s.kills, "kills", 20, "leader kills")
	flag.StringVar(&s.out, "out", "bench/results", "directory for the results; empty: print only")
	flag.StringVar(&s.binary, "binary", "", "conclave binary to measure; empty: build this source")
	flag.IntVar(&s.pprof, "pprof", 0, "with a -binary built with -tags profile: node i serves profiles on this port + i")
	flag.StringVar(&s.profile, "profile", "", "write a processor profile of the load generator to this file")
	s.clients = []int{1, 32, 256}
	flag.Func("clients", "concurrent clients of each load, with commas between (default 1,32,256)", func(list string) error {
		s.clients = nil
		for _, field := range strings.Split(list, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a number of clients", field)
			}
			s.clients = append(s.clients, n)
		}
		return nil
	})
	flag.Parse()
	s.only = strings.Split(*only, ",")
	return s
}

func (s settings) wants(part string) bool { return slices.Contains(s.only, part) }

// A report is what one run found.
type report struct {
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Rows    []row     `json:"rows"`
}

// A row is one measured figure with the mark that it is held against.
type row struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Detail string  `json:"detail,omitempty"`
	Mark   string  `json:"mark,omitempty"`
	Met    *bool   `json:"met,omitempty"`
}

func (r *report) add(what string, value float64, unit, detail string) *row {
	r.Rows = append(r.Rows, row{What: what, Value: value, Unit: unit, Detail: detail})
	fmt.Printf("%-34s %12.1f %-6s %s\n", what, value, unit, detail)
	return &r.Rows[len(r.Rows)-1]
}

func (r *row) atLeast(mark float64) {
	met := r.Value >= mark
	r.Mark, r.Met = fmt.Sprintf("≥ %g", mark), &met
}

func (r *row) atMost(mark float64) {
	met := r.Value <= mark
	r.Mark, r.Met = fmt.Sprintf("≤ %g", mark), &met
}

func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "conclave-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.binary == "" {
		fmt.Println("building conclave …")
		if s.binary, err = testprocess.Build(ctx, dir); err != nil {
			return err
		}
	}
	s.dir = dir
	if s.profile != "" {
		stop, err := loadProfile(s.profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	r := &report{When: time.Now().UTC(), Commit: commit(ctx), Machine: machine()}
	if s.wants("echo") {
		if err := echoCeiling(ctx, s, r); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
	}
	if err := overGRPC(ctx, s, r); err != nil {
		return err
	}
	if s.wants("http") || s.wants("login") {
		if err := overHTTP(ctx, s, r); err != nil {
			return fmt.Errorf("http: %w", err)
		}
	}
	return r.publish(s.out)
}

// overGRPC runs the parts that share one cluster, if any is wanted.
func overGRPC(ctx context.Context, s settings, r *report) (err error) {
	type part struct {
		name string
		run  func(context.Context, settings, *testprocess.Cluster, *report) error
	}
	parts := []part{{"memory", idleMemory}, {"put", puts}, {"get", gets}, {"kill", leaderKills}, {"start", startUp}}
	parts = slices.DeleteFunc(parts, func(p part) bool { return !s.wants(p.name) })
	if len(parts) == 0 {
		return nil
	}
	dir := filepath.Join(s.dir, "cluster")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c, err := testprocess.Start(ctx, s.options(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	for _, part := range parts {
		if err := part.run(ctx, s, c, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// loadProfile profiles this process until stop.
func loadProfile(path string) (stop func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// commit names the source that is measured.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func machine() string {
	model := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(strings.TrimSpace(name), ": \t")
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s %s/%s; all nodes and the load on it", model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// publish writes the report as JSON and as a table.
func (r *report) publish(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base := filepath.Join(dir, r.When.Format("2006-01-02T150405"))
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(base+".json", append(raw, '\n'), 0o644); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%s\ncommit %s\n\n", r.When.Format(time.RFC3339), r.Machine, r.Commit)
	w := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "what\tvalue\tunit\tmark\tmet\tdetail")
	for _, row := range r.Rows {
		met := ""
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(w, "%s\t%.1f\t%s\t%s\t%s\t%s\n", row.What, row.Value, row.Unit, row.Mark, met, row.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nwritten to %s.json and .txt\n", base)
	return os.WriteFile(base+".txt", []byte(text.String()), 0o644)
}
