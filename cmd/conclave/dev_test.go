package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
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

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := lastLines(path, 2); got != "" {
		t.Errorf("no file: %q", got)
	}
	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastLines(path, 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}
