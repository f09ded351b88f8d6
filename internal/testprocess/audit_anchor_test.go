package testprocess_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// The heads of an audit log are in the ledger: who can write the file, and knows how
// to make its hashes, cannot cut it or write it anew without being named.
func TestAuditAnchors(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	n := c.Nodes[0]
	cl := clientOf(t, c)
	for i := range 12 {
		if _, err := cl.Secrets.Put(within(t, patience), fmt.Sprintf("app/%d", i), client.Data{"password": client.Text("hunter2")}, client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	sealAndUnseal(t, c) // the head is anchored at the latest when the keys go
	sh := shellOf(t, n, c.RootToken)
	sh.run("audit", "verify", auditFile(n), "--cluster").wants(t, 0, "Anchors met  1", "Faults       0")

	records := recordsOf(t, n)
	for name, damaged := range map[string]struct {
		lines []string
		fault string
	}{
		"cut off at the end":              {records[:len(records)/2], "truncated: the log ends before record"},
		"written anew with right hashes":  {rewritten(t, records, 5), "anchor: hash"},
		"one record removed, hashes made": {rewritten(t, append(append([]string{}, records[:6]...), records[7:]...), 6), "anchor: hash"},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, []byte(strings.Join(damaged.lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		sh.run("audit", "verify", path).wants(t, 0, "Faults       0") // nothing in the file says so
		sh.run("audit", "verify", path, "--cluster").wants(t, 5, damaged.fault)
	}
}

// A node that finds its log cut says so, and goes on in a file that names the break.
func TestAuditLogCutWhileTheNodeWasDown(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	n := c.Nodes[0]
	for i := range 5 {
		if _, err := clientOf(t, c).Secrets.Put(within(t, patience), fmt.Sprintf("app/%d", i), client.Data{"password": client.Text("hunter2")}, client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Terminate(); err != nil { // a clean end anchors the log, too
		t.Fatal(err)
	}
	records := recordsOf(t, n)
	if err := os.WriteFile(auditFile(n), []byte(strings.Join(records[:4], "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.Unseal(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	sh := shellOf(t, n, c.RootToken)
	sh.run("kv", "get", "app/1").wants(t, 0, "hunter2")
	sh.run("audit", "verify", auditFile(n), "--cluster").wants(t, 5, "break: the node found", "ends at record 4")
	raw, err := os.ReadFile(n.LogFile)
	if err != nil || !strings.Contains(string(raw), "log not as it was left") {
		t.Errorf("the node's log does not tell: %v", err)
	}
}

// The hash of a known value finds who sent it and who was shown it, by every way in.
func TestAuditFindsAKnownValue(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	n := c.Nodes[0]
	sh := shellOf(t, n, c.RootToken)
	sh.input("swordfish").run("kv", "put", "app/db", "password=-").wants(t, 0)
	sh.run("kv", "get", "app/db", "--reason", "TICKET-9").wants(t, 0, "swordfish")
	sh.run("read", "secret/data/app/db").wants(t, 0, "swordfish")
	sh.run("kv", "list", "app").wants(t, 0)

	got := sh.input("swordfish\n").run("audit", "query", auditFile(n), "--value")
	got.wants(t, 0, "!swordfish", "!list", "!audit-hash", "TICKET-9")
	if reads := strings.Count(got.out, "  read "); reads != 2 {
		t.Errorf("%d reads, want 2:\n%s", reads, got.out)
	}
	hash := strings.TrimSpace(sh.input("swordfish").run("audit", "hash").out)
	again := sh.run("audit", "query", auditFile(n), "--value-hash", hash)
	if again.out != got.out || !strings.HasPrefix(hash, "hmac-sha256:") {
		t.Errorf("--value-hash %s prints\n%s\n--value prints\n%s", hash, again.out, got.out)
	}
	sh.run("audit", "query", auditFile(n), "--value-hash", "swordfish").wants(t, 1, "not a hash", "!swordfish")
	if strings.Contains(strings.Join(recordsOf(t, n), "\n"), "swordfish") {
		t.Error("the value is in the log")
	}
}

func sealAndUnseal(t *testing.T, c *testprocess.Cluster) {
	t.Helper()
	n := c.Nodes[0]
	shellOf(t, n, c.RootToken).run("operator", "seal").wants(t, 0)
	if err := n.Unseal(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node serves again", func(ctx context.Context) error {
		s, err := statusOf(ctx, c, n)
		if err == nil && s.Sealed {
			err = errors.New("it is sealed")
		}
		return err
	})
}

// rewritten changes the record at the place and makes the chain right from there on,
// as whoever knows the format can.
func rewritten(t *testing.T, records []string, at int) []string {
	t.Helper()
	out := append([]string{}, records[:at]...)
	prev := between(t, records[at-1], `,"hash":"`, `"}`)
	for i, r := range records[at:] {
		body := r[:strings.LastIndex(r, `,"hash":"`)]
		_, rest, ok := strings.Cut(body, `,"prev":"`)
		if !ok {
			t.Fatal("a record has no prev")
		}
		rest = strings.Replace(rest[64:], "secret/data/app/", "secret/data/xxx/", 1)
		body = fmt.Sprintf(`{"seq":%d,"prev":"%s%s`, at+i+1, prev, rest)
		sum := sha256.Sum256([]byte(body))
		prev = hex.EncodeToString(sum[:])
		out = append(out, body+`,"hash":"`+prev+`"}`)
	}
	return out
}

func between(t *testing.T, s, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(s, from)
	got, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("no %q in a record", from)
	}
	return got
}
