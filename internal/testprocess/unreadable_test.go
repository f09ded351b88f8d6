package testprocess_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// Nothing that a user wrote or was given can be read in any byte of any data
// directory, log, or recorded traffic, nor in the arguments and environment of
// a server, while nodes are unsealed and while they are sealed.
//
// What it does not cover: the memory of an unsealed node, which must hold keys,
// and that of the client. TestSealedMemory looks at a sealed node.
func TestNothingReadable(t *testing.T) {
	dir := t.TempDir()
	taps := newTaps(t, dir)
	c := startCluster(t, testprocess.Options{Nodes: 3, Dir: dir, NodeArgs: taps.advertise,
		Args: []string{"--raft-snapshot-threshold", "64", "--raft-snapshot-interval", "100ms", "--log-level", "debug"}})
	secret := newBirds(t, c)
	cl := taps.client(t, c)
	writeCanaries(t, cl, secret)
	churn(t, cl, secret, 300)

	t.Run("unsealed", func(t *testing.T) {
		awaitAgreement(t, c, 1)
		searchEverything(t, c, dir, secret)
	})

	// Restarts flush the state store; some of them make it compact.
	for range 5 {
		restart(t, c, (*testprocess.Node).Terminate)
		for _, n := range c.Nodes {
			if err := n.Unseal(within(t, patience)); err != nil {
				t.Fatal(err)
			}
		}
		churn(t, cl, secret, 100)
	}
	for _, n := range c.Nodes {
		if err := clientOf(t, c, n).Operator.Seal(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("sealed", func(t *testing.T) { searchEverything(t, c, dir, secret) })
	for _, n := range c.Nodes {
		if err := n.Terminate(); err != nil {
			t.Fatal(err)
		}
	}
	taps.close(t)
	t.Run("stopped", func(t *testing.T) {
		searchFiles(t, dir, secret)
		wantHistory(t, c)
	})
	t.Run("the search sees what is there", func(t *testing.T) { plant(t, c, dir, taps, secret) })
}

// birds are the canaries and the texts that carry them.
type birds struct {
	*testprocess.Canaries
	texts map[string]string
}

// text returns the random text of a name, the same each time.
func (b *birds) text(name string) string {
	if b.texts[name] == "" {
		b.texts[name] = strings.ToLower(rand.Text())
		b.Add(name, []byte(b.texts[name]))
	}
	return b.texts[name]
}

// newBirds begins with what the cluster gave out: the root token and the
// shares, as texts and as the bytes that these spell.
func newBirds(t *testing.T, c *testprocess.Cluster) *birds {
	t.Helper()
	b := &birds{testprocess.NewCanaries(), map[string]string{}}
	b.addToken(t, "the root token", c.RootToken.Reveal())
	for i, share := range c.Shares {
		// conclave-share-CLUSTER-GENERATION-INDEX-VALUE-CHECK: the value, without
		// the dashes between its groups, and a group that nothing else has.
		fields := strings.SplitN(share.Reveal(), "-", 6)
		if len(fields) != 6 {
			t.Fatalf("share %d has an unexpected form", i+1)
		}
		b.Add(fmt.Sprintf("share %d", i+1), []byte(fields[5]))
		b.Add(fmt.Sprintf("share %d without dashes", i+1), []byte(strings.ReplaceAll(fields[5], "-", "")))
		b.Add(fmt.Sprintf("the value of share %d", i+1), shareValue(t, share.Reveal()))
	}
	return b
}

// addToken adds a token and what follows its prefix, decoded.
func (b *birds) addToken(t *testing.T, name, token string) {
	t.Helper()
	b.Add(name, []byte(token))
	if body, ok := strings.CutPrefix(token, "hvs."); ok { // random letters, which spell nothing
		b.Add(name+", without its prefix", []byte(body))
		return
	}
	_, body, ok := strings.Cut(token, "_")
	if !ok {
		t.Fatalf("%s has an unexpected form", name)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	// A join token begins with the cluster's id and the hash of its authority,
	// which are no secrets.
	b.Add(name+", decoded", raw[max(0, len(raw)-16):])
}

// writeCanaries puts a canary into everything that a user can name or write.
func writeCanaries(t *testing.T, cl *client.Client, b *birds) {
	t.Helper()
	ctx := within(t, patience)
	path := b.text("a directory") + "/" + b.text("a path")
	_, err := cl.Secrets.Put(ctx, path, client.Data{
		b.text("a field name"): client.Text(b.text("a text value")),
		"binary":               client.Binary([]byte("\x00\xff" + b.text("a binary value"))),
		"document":             client.JSON([]byte(`{"` + b.text("a name in JSON") + `":"` + b.text("a value in JSON") + `"}`)),
	}, client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: b.text("an idempotency key")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Secrets.PutMetadata(ctx, path, client.MetadataChange{CustomMetadata: map[string]string{
		b.text("a name of custom metadata"): b.text("custom metadata")}}); err != nil {
		t.Fatal(err)
	}
	lease, err := cl.Leases.Grant(ctx, client.LeaseRequest{Prefix: b.text("a lease prefix"), TTL: time.Hour,
		Data: client.Data{b.text("a field name of a lease"): client.Text(b.text("data of a lease"))}})
	if err != nil {
		t.Fatal(err)
	}
	b.Add("a lease id", []byte(lease.ID))
	if _, err := cl.Leases.Renew(ctx, lease.ID, 2*time.Hour, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := cl.Operator.CreateJoinToken(ctx, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.addToken(t, "a join token", token.Token.Reveal())
	lookForThem(t, cl, b, path, lease.ID)
}

// lookForThem makes requests that fail, for what a log may say about them.
func lookForThem(t *testing.T, cl *client.Client, b *birds, path, lease string) {
	t.Helper()
	ctx := within(t, patience)
	for what, err := range map[string]error{
		"an absent path":     ignoreAnswer(cl.Secrets.Get(ctx, b.text("an absent path"), client.GetOptions{})),
		"an unknown version": ignoreAnswer(cl.Secrets.Get(ctx, path, client.GetOptions{Version: 99})),
		"a lost race":        ignoreAnswer(cl.Secrets.Put(ctx, path, client.Data{"v": client.Text(b.text("a refused value"))}, client.PutOptions{CAS: new(uint64(77))})),
		"a bad path":         ignoreAnswer(cl.Secrets.Get(ctx, b.text("a bad path")+"/../x", client.GetOptions{})),
		"an absent lease":    ignoreAnswer(cl.Leases.Lookup(ctx, b.text("an absent lease"), client.Consistency{})),
		"an absurd renewal":  ignoreAnswer(cl.Leases.Renew(ctx, lease, -time.Hour, client.WriteOptions{})),
	} {
		if err == nil {
			t.Errorf("%s was answered without an error", what)
		}
	}
}

func ignoreAnswer[T any](_ T, err error) error { return err }

// churn writes on, so that logs are truncated and snapshots taken.
func churn(t *testing.T, cl *client.Client, b *birds, writes int) {
	t.Helper()
	ctx := within(t, patience)
	for i := range writes {
		path := fmt.Sprintf("%s/%d", b.text("a directory of many"), i%40)
		data := client.Data{"v": client.Text(b.text("a value of many") + fmt.Sprint(i))}
		if _, err := cl.Secrets.Put(ctx, path, data, client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// searchEverything searches the files and what the system shows of the
// processes.
func searchEverything(t *testing.T, c *testprocess.Cluster, dir string, b *birds) {
	t.Helper()
	searchFiles(t, dir, b)
	for _, n := range c.Nodes {
		for _, what := range []string{"cmdline", "environ"} {
			path := fmt.Sprintf("/proc/%d/%s", n.PID(), what)
			found, err := b.SearchFile(path)
			if errors.Is(err, fs.ErrPermission) {
				continue // the system keeps it from us, so from others too
			}
			if err != nil {
				t.Error(err)
			}
			for _, f := range found {
				t.Errorf("%s of %s shows %v", what, n.Name, f)
			}
		}
	}
}

// onRecord are the names that the audit log shows, and it alone: it is there to
// tell who read what.
var onRecord = map[string]bool{"a directory": true, "a path": true, "an absent path": true, "a bad path": true,
	"a directory of many": true, "a lease prefix": true, "a lease id": true, "an absent lease": true,
	"a field name": true, "a name of custom metadata": true, "a field name of a lease": true}

// searchFiles searches all files below dir. Running nodes may remove some
// meanwhile.
func searchFiles(t *testing.T, dir string, b *birds) {
	t.Helper()
	files, size := 0, int64(0)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range b.Search([]byte(entry.Name()), 0) {
			t.Errorf("the name of %s shows %v", path, f)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		found, err := b.SearchFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range found {
			if onRecord[f.Canary] && filepath.Base(filepath.Dir(path)) == "audit" {
				continue
			}
			t.Errorf("%s shows %v", path, f)
		}
		if info, err := entry.Info(); err == nil {
			files, size = files+1, size+info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("searched %d files, %d bytes, for %d canaries", files, size, len(b.texts))
}

// wantHistory demands that there was something to search: snapshots, and a
// state store that has compacted.
func wantHistory(t *testing.T, c *testprocess.Cluster) {
	t.Helper()
	compacted := false
	for _, n := range c.Nodes {
		snapshots, err := os.ReadDir(filepath.Join(n.DataDir, "snapshots"))
		if err != nil || len(snapshots) == 0 {
			t.Errorf("%s has no snapshot: %v", n.Name, err)
		}
		compacted = levels(t, filepath.Join(n.DataDir, "state")) || compacted
	}
	if !compacted {
		t.Error("no state store has compacted")
	}
}

// levels reports whether a table lies below the level that flushes write.
func levels(t *testing.T, dir string) bool {
	t.Helper()
	deep := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if found, _ := filepath.Glob(filepath.Join(path, "MANIFEST-*")); len(found) == 0 {
			return nil
		}
		db, err := pebble.Open(path, &pebble.Options{ReadOnly: true, Logger: silence{t}})
		if err != nil {
			return err
		}
		for level, m := range db.Metrics().Levels {
			if level > 0 && m.TablesCount > 0 {
				deep = true
			}
		}
		return db.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return deep
}

type silence struct{ t *testing.T }

func (silence) Infof(string, ...any)  {}
func (silence) Errorf(string, ...any) {}

func (s silence) Fatalf(format string, args ...any) { s.t.Errorf(format, args...) }

// plant proves that the search would find what it looks for: it finds a node's
// address, which is no secret, in the Raft log, in the snapshots and in the log
// file, and a canary that somebody dropped.
func plant(t *testing.T, c *testprocess.Cluster, dir string, taps *taps, b *birds) {
	t.Helper()
	known := &birds{testprocess.NewCanaries(), map[string]string{}}
	for _, n := range c.Nodes { // of any of them: the log remembers a vote when all else was truncated
		known.Add("a peer address", []byte(taps.byNode[n.Name]["peer"].Address))
	}
	for _, place := range []string{"node1/raft", "node1/snapshots", "node1.log"} {
		seen := false
		err := filepath.WalkDir(filepath.Join(dir, place), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			found, err := known.SearchFile(path)
			seen = seen || len(found) > 0
			return err
		})
		if err != nil || !seen {
			t.Errorf("no peer address was found in %s (%v)", place, err)
		}
	}
	path := filepath.Join(c.Nodes[2].DataDir, "state", "dropped")
	if err := os.WriteFile(path, []byte("xyz"+base64.StdEncoding.EncodeToString([]byte("?"+b.texts["a text value"]+"?"))), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := b.SearchFile(path)
	if err != nil || len(found) == 0 || found[0].Canary != "a text value" {
		t.Errorf("the canary that was dropped was not found: %v, %v", found, err)
	}
}

// taps record what goes to each node: from peers, gossip and clients.
type taps struct {
	t      *testing.T
	dir    string
	byNode map[string]map[string]*testprocess.Tap // by node and kind
}

func newTaps(t *testing.T, dir string) *taps {
	return &taps{t, dir, map[string]map[string]*testprocess.Tap{}}
}

// advertise makes the taps of a node at its first start.
func (t *taps) advertise(n *testprocess.Node) []string {
	if t.byNode[n.Name] == nil {
		t.byNode[n.Name] = map[string]*testprocess.Tap{}
		for kind, address := range map[string]string{"peer": n.Peer, "gossip": n.Gossip, "api": n.API} {
			tap, err := testprocess.Record(address, filepath.Join(t.dir, n.Name+"-"+kind+".traffic"))
			if err != nil {
				t.t.Fatal(err)
			}
			t.byNode[n.Name][kind] = tap
		}
	}
	mine := t.byNode[n.Name]
	return []string{"--peer-advertise", mine["peer"].Address, "--gossip-advertise", mine["gossip"].Address}
}

// client speaks through the taps.
func (t *taps) client(test *testing.T, c *testprocess.Cluster) *client.Client {
	test.Helper()
	var addresses []string
	for _, mine := range t.byNode {
		addresses = append(addresses, mine["api"].Address)
	}
	cl, err := client.New(client.Config{Addresses: addresses, CAFile: c.CAFile(), Token: c.RootToken, AttemptTimeout: 3 * time.Second})
	if err != nil {
		test.Fatal(err)
	}
	test.Cleanup(func() {
		if err := cl.Close(); err != nil {
			test.Error(err)
		}
	})
	return cl
}

// close ends the recordings. Each must have recorded: peers and clients speak
// TLS, gossip its own cipher.
func (t *taps) close(test *testing.T) {
	test.Helper()
	var peer, gossip int64
	for node, mine := range t.byNode {
		for kind, tap := range mine {
			if err := tap.Close(); err != nil {
				test.Error(err)
			}
			test.Logf("%s %s: %d bytes of streams, %d of datagrams", node, kind, tap.Streams.Load(), tap.Datagrams.Load())
		}
		peer += mine["peer"].Streams.Load()
		gossip += mine["gossip"].Datagrams.Load()
		wantTLS(test, filepath.Join(t.dir, node+"-peer.traffic"))
	}
	if peer < 100_000 || gossip == 0 {
		test.Errorf("recorded %d bytes between peers and %d of gossip: too little to prove anything", peer, gossip)
	}
}

// wantTLS demands that a recording begins with a handshake of TLS (RFC 8446,
// 5.1: content type 22, legacy version 3.1).
func wantTLS(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if len(raw) < 3 || raw[0] != 22 || raw[1] != 3 {
		t.Errorf("%s does not begin with a TLS handshake", filepath.Base(path))
	}
}
