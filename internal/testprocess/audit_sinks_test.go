package testprocess_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// A collector listens for copies of an audit log on a unix socket.
type collector struct {
	path     string
	listener net.Listener

	mu    sync.Mutex
	lines []string
	conns []net.Conn
	deaf  bool // accepts, and reads nothing
}

func listenForAudit(t *testing.T) *collector {
	t.Helper()
	c := &collector{path: filepath.Join(t.TempDir(), "siem")}
	c.listen(t)
	t.Cleanup(c.close)
	return c
}

func (c *collector) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.listener = l
	c.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			deaf := c.deaf
			c.mu.Unlock()
			if !deaf {
				go c.read(conn)
			}
		}
	}()
}

func (c *collector) read(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c.mu.Lock()
		c.lines = append(c.lines, lines.Text())
		c.mu.Unlock()
	}
}

func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.listener.Close() // twice is an error that says so
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *collector) heard() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.lines...)
}

// sinkNode runs a cluster of one node with a sink.
func sinkNode(t *testing.T, c *collector, strictness string) *testprocess.Cluster {
	t.Helper()
	config := filepath.Join(t.TempDir(), "node.hcl")
	text := fmt.Sprintf("audit {\n  sink \"siem\" {\n    type = \"socket\"\n    address = \"unix://%s\"\n    strictness = %q\n    deadline = \"300ms\"\n    buffer_kib = 64\n  }\n}\n", c.path, strictness)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startCluster(t, testprocess.Options{Nodes: 1, Args: []string{"--config", config}})
}

func auditFile(n *testprocess.Node) string { return filepath.Join(n.DataDir, "audit", "audit.log") }

// sameRecords demands that the collector has each line of the file, and no other.
func sameRecords(t *testing.T, c *collector, n *testprocess.Node) {
	t.Helper()
	eventually(t, "the collector has the file's records", func(context.Context) error {
		raw, err := os.ReadFile(auditFile(n))
		if err != nil {
			return err
		}
		if heard := strings.Join(c.heard(), "\n") + "\n"; heard != string(raw) {
			return fmt.Errorf("the file has %d bytes, the collector %d", len(raw), len(heard))
		}
		return nil
	})
}

// A required sink has each record before its request is answered; while it is gone
// or hangs, requests fail and say so; when it is back, they do not.
func TestRequiredAuditSink(t *testing.T) {
	siem := listenForAudit(t)
	c := sinkNode(t, siem, "required")
	cl, err := client.New(client.Config{Addresses: c.Addresses(), CAFile: c.CAFile(), Token: c.RootToken, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	put := func() error { // once: with an idempotency key it would be sent until it is known to be done
		_, err := cl.Secrets.Put(within(t, 10*time.Second), "app/db", client.Data{"password": client.Text("hunter2")},
			client.PutOptions{WriteOptions: client.WriteOptions{NoIdempotencyKey: true}})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, siem, c.Nodes[0])

	siem.close()
	eventually(t, "a write fails while the collector is gone", func(context.Context) error { return mustFail(put()) })
	refusedForAudit(t, put())
	if err := os.RemoveAll(siem.path); err != nil {
		t.Fatal(err)
	}
	siem.listen(t)
	eventually(t, "writes succeed when it is back", func(context.Context) error { return put() })

	siem.close()
	if err := os.RemoveAll(siem.path); err != nil {
		t.Fatal(err)
	}
	siem.deaf = true
	siem.listen(t)
	// The kernel takes what its buffer holds, and then as much for a new connection.
	for range 2000 {
		began := time.Now()
		if err = put(); err != nil {
			if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
				t.Errorf("it took %v, with a deadline of 300ms", took)
			}
			break
		}
	}
	refusedForAudit(t, err)
}

func mustFail(err error) error {
	if err == nil {
		return fmt.Errorf("it succeeded")
	}
	return nil
}

// refusedForAudit demands that an error names the audit log, and nothing secret.
func refusedForAudit(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "audit log cannot be written") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// A best-effort sink fails no request, whether it is gone or hangs, and the file has
// all the records.
func TestBestEffortAuditSink(t *testing.T) {
	siem := listenForAudit(t)
	c := sinkNode(t, siem, "best-effort")
	cl := clientOf(t, c)
	if _, err := cl.Secrets.Put(within(t, patience), "app/db", client.Data{"password": client.Text("hunter2")}, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, siem, c.Nodes[0])
	read := func(n int) {
		t.Helper()
		ctx := within(t, patience)
		for i := range n {
			if _, err := cl.Secrets.Get(ctx, "app/db", client.GetOptions{}); err != nil {
				t.Fatalf("read %d: %v", i, err)
			}
		}
	}
	before := len(recordsOf(t, c.Nodes[0]))
	siem.close()
	read(50)
	if err := os.RemoveAll(siem.path); err != nil {
		t.Fatal(err)
	}
	siem.deaf = true
	siem.listen(t)
	read(800) // more than the socket and the buffer hold
	if got := len(recordsOf(t, c.Nodes[0])) - before; got != 850 {
		t.Errorf("850 reads left %d records", got)
	}
	quietLog, err := os.ReadFile(c.Nodes[0].LogFile)
	if err != nil || !strings.Contains(string(quietLog), "sink=siem") {
		t.Errorf("the node's log does not name the sink: %v", err)
	}
}

func recordsOf(t *testing.T, n *testprocess.Node) []string {
	t.Helper()
	raw, err := os.ReadFile(auditFile(n))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// What is wrong with a sink is told with line and column, before anything starts.
func TestAuditSinksAreChecked(t *testing.T) {
	config := filepath.Join(t.TempDir(), "node.hcl")
	for text, want := range map[string]string{
		"audit {\n  sink \"a\" {\n    type = \"carrier-pigeon\"\n    strictness = \"required\"\n  }\n}":                                                                    ":4:12: audit.sink.a.type must be socket, syslog or stdout",
		"audit {\n  sink \"a\" {\n    type = \"stdout\"\n  }\n}":                                                                                                           ":3:3: audit.sink.a.strictness must be required or best-effort",
		"audit {\n  sink \"file\" {\n    type = \"stdout\"\n    strictness = \"required\"\n  }\n}":                                                                         ":3:3: audit.sink.file must have a name",
		"audit {\n  sink \"a\" {\n    type = \"socket\"\n    strictness = \"required\"\n    address = \"siem:514\"\n  }\n}":                                                ":6:15: audit.sink.a.address must be NETWORK://",
		"audit {\n  sink \"a\" {\n    type = \"stdout\"\n    strictness = \"required\"\n    deadline = \"1h\"\n  }\n}":                                                     ":6:16: audit.sink.a.deadline must be from",
		"audit {\n  sink \"a\" {\n    type = \"stdout\"\n    strictness = \"required\"\n    colour = \"blue\"\n  }\n}":                                                     ":6:5: Unsupported argument",
		"audit {\n  sink {\n    type = \"stdout\"\n  }\n}":                                                                                                                 ":3:8: Missing name for sink",
		"audit {\n  strictness = \"perhaps\"\n}":                                                                                                                           ":3:16: audit.strictness must be required or best-effort",
		"audit {\n  sink \"a\" {\n    type = \"stdout\"\n    strictness = \"required\"\n  }\n  sink \"a\" {\n    type = \"stdout\"\n    strictness = \"required\"\n  }\n}": ":7:3: audit.sink.a is there twice",
	} {
		if err := os.WriteFile(config, []byte("data_dir = \"d\"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		shell{t: t, dir: t.TempDir()}.run("server", "--config", config, "--check").wants(t, 1, config+want)
	}
}
