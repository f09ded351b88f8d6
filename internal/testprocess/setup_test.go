package testprocess_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// patience bounds each wait for a condition. It is long, because the machine
// may be slow; no test waits that long when all is well.
const patience = 90 * time.Second

var binaryFlag = flag.String("binary", "", "test this conclave binary instead of building one")

// binary is the conclave binary under test.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	if binary = *binaryFlag; binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "conclave-testprocess-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary, err = testprocess.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// within returns a context for one step of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// startCluster runs a cluster for the length of a test. At the end no log may
// hold a panic.
func startCluster(t *testing.T, o testprocess.Options) *testprocess.Cluster {
	t.Helper()
	o.Binary = binary
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := testprocess.Start(within(t, patience), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		for _, n := range c.Nodes {
			quiet(t, n.LogFile)
		}
	})
	return c
}

// quiet demands that a file shows no panic and no stack trace.
func quiet(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	noTrace(t, filepath.Base(path), string(raw))
}

// traces are what a Go program prints when it breaks.
var traces = []string{"panic:", "panicked", "goroutine ", "runtime error", "fatal error:", ".go:"}

func noTrace(t *testing.T, where, text string) {
	t.Helper()
	for _, trace := range traces {
		at := strings.Index(text, trace)
		if at < 0 {
			continue
		}
		from, to := max(0, at-300), min(len(text), at+700)
		t.Errorf("%s holds %q:\n…%s…", where, trace, text[from:to])
		return
	}
}

// clientOf returns a client of some nodes, or of all, closed at the end.
func clientOf(t *testing.T, c *testprocess.Cluster, nodes ...*testprocess.Node) *client.Client {
	t.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.API)
	}
	cl, err := client.New(client.Config{Addresses: addresses, CAFile: c.CAFile(), Token: c.RootToken, AttemptTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return cl
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := poll(within(t, patience), check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// poll repeats check until it returns nil or ctx ends.
func poll(ctx context.Context, check func(ctx context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; at last: %w", context.Cause(ctx), err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// A said is what a user sees of one command.
type said struct {
	code     int
	out, err string
}

// A shell runs the command line against one node.
type shell struct {
	t     *testing.T
	env   []string
	stdin string
	dir   string
}

// shellOf speaks to one node with the root token.
func shellOf(t *testing.T, n *testprocess.Node, token client.Token) shell {
	return shell{t: t, env: []string{"CONCLAVE_ADDR=" + n.API, "CONCLAVE_CACERT=" + filepath.Join(n.DataDir, "ca.pem"), "CONCLAVE_TOKEN=" + token.Reveal()}}
}

func (s shell) with(env ...string) shell {
	s.env = append(append([]string{}, s.env...), env...)
	return s
}

func (s shell) input(text string) shell {
	s.stdin = text
	return s
}

// run runs conclave to its end. Whatever happens, it must not show a trace.
func (s shell) run(args ...string) said {
	s.t.Helper()
	return s.runFor(patience, args...)
}

func (s shell) runFor(bound time.Duration, args ...string) said {
	s.t.Helper()
	cmd := exec.CommandContext(within(s.t, bound), binary, args...)
	cmd.Env = append(withoutSettings(os.Environ()), s.env...)
	cmd.Dir = s.dir
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.stdin), &out, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		s.t.Fatalf("running conclave %s: %v", strings.Join(args, " "), err)
	}
	got := said{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
	noTrace(s.t, "conclave "+strings.Join(args, " "), got.out+got.err)
	return got
}

// noHome is where no token is stored.
const noHome = "CONCLAVE_HOME=/nonexistent/conclave"

// withoutSettings drops what a user's own environment says to conclave, and the
// token of his last login.
func withoutSettings(env []string) []string {
	out := []string{noHome}
	for _, v := range env {
		if !strings.HasPrefix(v, "CONCLAVE_") {
			out = append(out, v)
		}
	}
	return out
}

// wants demands an exit code and pieces of the message; "!x" demands that x is
// not there. A refusal always has a hint.
func (got said) wants(t *testing.T, code int, pieces ...string) {
	t.Helper()
	t.Logf("exit %d: %s", got.code, strings.TrimSpace(got.err))
	if got.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", got.code, code, got.out, got.err)
	}
	if code != 0 && !strings.Contains(got.err, "hint: ") {
		t.Errorf("no hint in %q", got.err)
	}
	for _, piece := range pieces {
		unwanted, not := strings.CutPrefix(piece, "!")
		if not && strings.Contains(got.err+got.out, unwanted) {
			t.Errorf("%q is in\n%s%s", unwanted, got.out, got.err)
		}
		if !not && !strings.Contains(got.err+got.out, piece) {
			t.Errorf("%q is not in\n%s%s", piece, got.out, got.err)
		}
	}
}
