package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Ports follow the layout of the help, and free ones are free.
func TestPorts(t *testing.T) {
	p := layoutPorts(8200, 3)[2]
	if p.api() != "127.0.0.1:8410" || p.peer() != "127.0.0.1:8401" || p.gossip() != "127.0.0.1:8402" {
		t.Errorf("got %s, %s, %s", p.api(), p.peer(), p.gossip())
	}
	layout, err := choosePorts(0, 5)
	if err != nil {
		t.Fatal(err)
	}
	if len(layout) != 5 || portsFree(layout) != nil {
		t.Errorf("got %v, not free", layout)
	}
}

// A port in use is named, with the flag that changes it.
func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	err = portsFree([]devPorts{{n - apiOffset}})
	want := "port " + listener.Addr().String() + " is in use"
	if err == nil || err.Error() != want || exitCode(err) != exitServer || hint(err) == "" {
		t.Errorf("got %v (hint %q), want %q", err, hint(err), want)
	}
}

// The state is private, whole, and found again.
func TestDevHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	h, err := openDevHome(devRequest{dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if h.known || h.temporary {
		t.Errorf("a new directory is %+v", h)
	}
	state := devState{ClusterID: "c", Nodes: layoutPorts(9000, 3), Shares: []string{"s"}, Threshold: 1, RootToken: "t"}
	if err := h.save(state); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, devStateFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	again, err := openDevHome(devRequest{dir: dir, nodes: 3, nodesSet: true, port: 9000, portSet: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(h.state, again.state); d != "" || !again.known {
		t.Errorf("known %v, %s", again.known, d)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a kept directory: %v", err)
	}
}

// A temporary directory is private and goes away with all it holds.
func TestDevHomeTemporary(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	h, err := openDevHome(devRequest{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(h.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v, want mode 0700", info, err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// A child gets the join token, but neither our settings nor our credentials.
func TestChildEnvironment(t *testing.T) {
	got := childEnvironment([]string{"PATH=/bin", "CONCLAVE_TOKEN=root", "CONCLAVE_LOG_LEVEL=debug"}, "j")
	if d := cmp.Diff([]string{"PATH=/bin", "CONCLAVE_JOIN_TOKEN=j"}, got); d != "" {
		t.Error(d)
	}
}

// What is told of a node's end is what is not everyday, each thing once, and
// what it was when it came last.
func TestLastWords(t *testing.T) {
	const at = "time=2026-01-01T00:00:00.000Z "
	var log strings.Builder
	for i := range 10 {
		fmt.Fprintf(&log, at+"level=WARN msg=\"no heartbeat\" part=gossip try=%d\n", i)
		log.WriteString(at + "level=INFO msg=served\n")
	}
	log.WriteString(at + "level=WARN msg=\"no heartbeat\" part=gossip try=10 repeated=90 within=10s\n")
	log.WriteString(at + "level=WARN msg=\"failed to heartbeat to\" part=cluster part=raft peer=p\n")
	log.WriteString(at + "level=ERROR msg=\"a \\\"disk\\\" failed\" n=1\n" + at + "level=DEBUG msg=x\n\n")
	log.WriteString("error: running the node: it broke\nhint: Do something.\n")
	want := []string{
		at + "level=WARN msg=\"no heartbeat\" part=gossip try=10 within=10s (repeated 99 times)",
		at + "level=ERROR msg=\"a \\\"disk\\\" failed\" n=1",
		"error: running the node: it broke",
		"hint: Do something.",
	}
	if d := cmp.Diff(want, lastWords([]byte(log.String()))); d != "" {
		t.Error(d)
	}
	if got := lastWords([]byte(at + "level=INFO msg=served\n")); len(got) != 0 {
		t.Errorf("a quiet log says %q", got)
	}
	if got := lastWords([]byte(strings.Repeat("a\nb\nc\nd\ne\nf\ng\nh\n", 3))); len(got) != logTailLines || got[5] != "h (repeated 2 times)" {
		t.Errorf("got %q", got)
	}
}

// Only the end of a long log is read, from a line's beginning.
func TestLastBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := lastBytes(path); got != nil {
		t.Errorf("no file: %q", got)
	}
	line := strings.Repeat("x", 99) + "\n"
	for _, lines := range []int{1, 10_000} {
		if err := os.WriteFile(path, []byte(strings.Repeat(line, lines)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := string(lastBytes(path))
		if len(got) == 0 || len(got) > logTailBytes || len(got)%len(line) != 0 {
			t.Errorf("%d lines: %d bytes", lines, len(got))
		}
	}
}

// The logs of several nodes come out line by line, each with its node's name.
func TestNamedLines(t *testing.T) {
	var out bytes.Buffer
	shared := &oneAtATime{to: &out}
	a, b := &namedLines{name: "node-1", to: shared}, &namedLines{name: "node-2", to: shared}
	for _, step := range []struct {
		w    *namedLines
		text string
	}{{a, "one\ntw"}, {b, "x"}, {a, "o\n"}, {b, "y\nz\n"}, {a, "never ended"}} {
		if n, err := step.w.Write([]byte(step.text)); err != nil || n != len(step.text) {
			t.Errorf("writing %q: %d, %v", step.text, n, err)
		}
	}
	if want := "node-1: one\nnode-1: two\nnode-2: xy\nnode-2: z\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}
