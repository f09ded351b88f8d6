package testprocess_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// startPatience bounds the wait for a server that should have refused to start.
const startPatience = 30 * time.Second

// serve runs a server that must not come up, and returns what it says.
func (s shell) serve(dir string, args ...string) said {
	s.t.Helper()
	base := []string{"server", "--data-dir", dir, "--api-address", "127.0.0.1:0", "--peer-address", "127.0.0.1:0", "--gossip-address", "127.0.0.1:0"}
	return s.runFor(startPatience, append(base, args...)...)
}

// A node whose join token is used up, too old, of another cluster or garbled
// does not come up, says which, and never repeats it; nothing joins.
func TestBadJoin(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	other := startCluster(t, testprocess.Options{Nodes: 1})
	token := func(c *testprocess.Cluster, ttl time.Duration) string {
		j, err := clientOf(t, c).Operator.CreateJoinToken(within(t, patience), ttl)
		if err != nil {
			t.Fatal(err)
		}
		return j.Token.Reveal()
	}
	used := token(c, time.Hour)
	spend(t, c, used)
	short := token(c, time.Millisecond)
	garbled := []byte(token(c, time.Hour))
	// In the secret, and to another letter of the alphabet: the token still reads as one.
	if at := &garbled[len(garbled)-8]; *at == 'A' {
		*at = 'B'
	} else {
		*at = 'A'
	}
	for _, test := range []struct {
		name, token, join string
		says              []string
	}{
		{"used", used, c.Nodes[0].API, []string{"used already, by node n", "at 20", "conclave operator remove", "!expired"}},
		{"expired", short, c.Nodes[0].API, []string{"has expired at 20", "conclave operator join-token", "!used already"}},
		{"foreign", token(other, time.Hour), c.Nodes[0].API, []string{"does not belong to the cluster of the join token"}},
		{"foreign, the other way", token(c, time.Hour), other.Nodes[0].API, []string{"does not belong to the cluster of the join token"}},
		{"garbled", string(garbled), c.Nodes[0].API, []string{"not known", "conclave operator join-token"}},
		{"cut off", used[:30], c.Nodes[0].API, []string{"garbled or cut off"}},
		{"none", "", c.Nodes[0].API, []string{"there is no join token"}},
		{"nobody there", token(c, time.Hour), "127.0.0.1:1", []string{"127.0.0.1:1", "refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sh := shell{t: t, env: []string{"CONCLAVE_JOIN_TOKEN=" + test.token}}
			got := sh.serve(newDir(t), "--join", test.join)
			got.wants(t, 2, test.says...)
			if test.token != "" && strings.Contains(got.err, test.token) {
				t.Error("the token is shown")
			}
		})
	}
	members, _, err := clientOf(t, c).Operator.Members(within(t, patience))
	if err != nil || len(members) != 2 { // the first, and the one that spent the token
		t.Errorf("%d members, %v, want 2", len(members), err)
	}
}

// newDir is a directory that is yet to be made, whatever the umask.
func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }

// spend lets a node join with a token, and ends it.
func spend(t *testing.T, c *testprocess.Cluster, token string) {
	t.Helper()
	cmd := exec.Command(binary, "server", "--data-dir", newDir(t), "--join", c.Nodes[0].API,
		"--api-address", "127.0.0.1:0", "--peer-address", "127.0.0.1:0", "--gossip-address", "127.0.0.1:0")
	cmd.Env = append(withoutSettings(os.Environ()), "CONCLAVE_JOIN_TOKEN="+token)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the first node joins", func(ctx context.Context) error {
		members, _, err := clientOf(t, c).Operator.Members(ctx)
		if err == nil && len(members) < 2 {
			err = errors.New("not yet")
		}
		return err
	})
}

// A data directory or address that cannot be used is named.
func TestBadPlace(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	n := c.Nodes[0]
	sh := shell{t: t}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, test := range []struct {
		name string
		got  func() said
		says []string
	}{
		{"directory in use", func() said { return sh.serve(n.DataDir) }, []string{n.DataDir, "in use"}},
		{"API port in use", func() said { return sh.serve(newDir(t), "--api-address", n.API) }, []string{n.API, "address already in use", "api.address"}},
		{"peer port in use", func() said { return sh.serve(newDir(t), "--peer-address", n.Peer) }, []string{n.Peer, "address already in use", "peer.address"}},
		{"gossip port in use", func() said { return sh.serve(newDir(t), "--gossip-address", n.Gossip) }, []string{n.Gossip, "address already in use", "gossip.address"}},
		{"gossip UDP port in use", func() said { return sh.serve(newDir(t), "--gossip-address", udp.LocalAddr().String()) },
			[]string{udp.LocalAddr().String(), "address already in use", "gossip.address"}},
		{"an address of another machine", func() said { return sh.serve(newDir(t), "--api-address", "192.0.2.1:8210") }, []string{"192.0.2.1:8210", "api.address"}},
		{"a file as directory", func() said { return sh.serve(file) }, []string{file}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sh.t = t
			test.got().wants(t, 2, test.says...)
		})
	}
	t.Run("a certificate that is none", func(t *testing.T) {
		sh.t = t
		sh.serve(newDir(t), "--api-tls-cert-file", file, "--api-tls-key-file", file).wants(t, 1, "api.tls_cert_file")
	})
	wantValueOf(t, c)
}

func wantValueOf(t *testing.T, c *testprocess.Cluster) {
	t.Helper()
	cl := clientOf(t, c)
	mustPut(t, cl, "after/all", "this")
	wantValue(t, cl, "after/all", "this")
}

// A data directory that is of a newer format, or put together from two, is
// refused before anything in it changes.
func TestForeignData(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	other := startCluster(t, testprocess.Options{Nodes: 1})
	for _, each := range []*testprocess.Cluster{c, other} {
		mustPut(t, clientOf(t, each), "kept", "v")
		if err := each.Nodes[0].Terminate(); err != nil {
			t.Fatal(err)
		}
	}
	mine, theirs := c.Nodes[0].DataDir, other.Nodes[0].DataDir
	take := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, name)), copyTree(filepath.Join(theirs, name), filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name string
		bend func(*testing.T, string)
		says []string
	}{
		{"identity of a newer format", editIdentity("format", 2), []string{"format 2", "newer version"}},
		{"identity that is no JSON", func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, "identity.json"), "{") }, []string{"damaged identity"}},
		{"identity without a key", editIdentity("private_key", nil), []string{"incomplete identity"}},
		{"no identity", remove("identity.json"), []string{"no identity.json"}},
		{"identity of another cluster", take("identity.json"), []string{"another cluster"}},
		{"state of another cluster", take("state"), []string{"another cluster"}},
		{"log of another cluster", take("raft"), []string{"another cluster"}},
		{"a rotten owner of the state", rotOwner("state"), []string{"damaged file state/owner", "remove that one file", "!another cluster"}},
		{"a rotten owner of the log", rotOwner("raft"), []string{"damaged file raft/owner", "remove that one file", "!another cluster"}},
		{"a directory that others can write to", func(t *testing.T, dir string) { chmod(t, dir, 0o770) }, []string{"can be written to by others", "chmod 700"}},
		{"a key that others can write to", func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "identity.json"), 0o666) },
			[]string{"can be written to by others", "chmod 600", "identity.json"}},
		{"log and snapshots gone", func(t *testing.T, dir string) { remove("raft")(t, dir); remove("snapshots")(t, dir) }, []string{"lost part of its log"}},
		{"state store of a newer format", newerPebble, []string{"state"}},
		{"log of a newer format", newerBolt, []string{"log"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := copyTree(mine, dir); err != nil {
				t.Fatal(err)
			}
			chmod(t, dir, 0o700)
			test.bend(t, dir)
			shell{t: t}.serve(dir).wants(t, 2, append(test.says, dir)...)
		})
	}
	t.Run("the original still starts", func(t *testing.T) {
		revive(t, c.Nodes[0])
		wantValue(t, clientOf(t, c), "kept", "v")
	})
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// rotOwner flips a bit in the file that says whose a directory is.
func rotOwner(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name, "owner")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[3] ^= 1
		overwrite(t, path, string(raw))
	}
}

// A directory that others could only read is closed to them, with a line in the
// log, and used.
func TestLooseDirectory(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	n := c.Nodes[0]
	mustPut(t, clientOf(t, c), "kept", "v")
	if err := n.Terminate(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(n.DataDir, "identity.json")
	chmod(t, n.DataDir, 0o755)
	chmod(t, key, 0o644)
	revive(t, n)
	wantValue(t, clientOf(t, c), "kept", "v")
	for path, want := range map[string]fs.FileMode{n.DataDir: 0o700, key: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want mode %v", path, info, err, want)
		}
	}
	log, err := os.ReadFile(n.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(log, []byte("closed to them now")); got != 2 {
		t.Errorf("the log says %d times that something was closed, want 2", got)
	}
}

// editIdentity sets one field of the identity file.
func editIdentity(field string, value any) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, "identity.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		all[field] = value
		if raw, err = json.Marshal(all); err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, string(raw))
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newerPebble renames the marker file in which Pebble keeps the version of its
// format: marker.format-version.COUNTER.VERSION.
func newerPebble(t *testing.T, dir string) {
	t.Helper()
	renamed := 0
	err := filepath.WalkDir(filepath.Join(dir, "state"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(entry.Name(), "marker.format-version.") {
			return err
		}
		renamed++
		parts := strings.Split(entry.Name(), ".")
		parts[3] = "999"
		return os.Rename(path, filepath.Join(filepath.Dir(path), strings.Join(parts, ".")))
	})
	if err != nil || renamed == 0 {
		t.Fatalf("renamed %d markers, %v", renamed, err)
	}
}

// newerBolt sets the version in both meta pages of the log's file. Their
// checksums no longer hold either: a newer format is as unreadable as a damaged
// one to bolt, and must be refused just the same.
func newerBolt(t *testing.T, dir string) {
	t.Helper()
	magic := []byte{0xed, 0xda, 0x0c, 0xed}
	changed := 0
	files, err := filepath.Glob(filepath.Join(dir, "raft", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := bytes.Index(raw, magic); at >= 0 && at < 16<<10; {
			raw[at+4]++
			changed++
			next := bytes.Index(raw[at+8:], magic)
			if next < 0 {
				break
			}
			at += 8 + next
		}
		overwrite(t, path, string(raw))
	}
	if changed < 2 {
		t.Fatalf("changed %d meta pages", changed)
	}
}

func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o600)
}

// Without a quorum nothing is done, and the caller is told why in time; with it
// back, all goes on.
func TestNoLeader(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3})
	mustPut(t, clientOf(t, c), "kept", "v")
	awaitAgreement(t, c, 1)
	left := c.Nodes[2]
	for _, n := range c.Nodes[:2] {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	// What it orders before it notices may still be done later: that is not asked.
	eventually(t, "the node that is left knows no leader", func(ctx context.Context) error {
		s, err := statusOf(ctx, c, left)
		if err == nil && s.LeaderID != "" {
			err = errors.New("it does still")
		}
		return err
	})
	sh := shellOf(t, left, c.RootToken)
	sh.run("kv", "get", "kept", "--timeout", "4s").wants(t, 6, "no ", "!unknown")
	sh.run("kv", "put", "lost", "v=x", "--timeout", "4s").wants(t, 6, "no leader", "!unknown")
	sh.run("lease", "grant", "jobs", "--ttl", "1m", "--timeout", "4s").wants(t, 6, "no leader", "!unknown")
	sh.run("operator", "join-token", "--timeout", "4s").wants(t, 6, "no leader")
	sh.run("operator", "remove", "nabc", "--timeout", "4s").wants(t, 6, "no ")
	sh.run("kv", "get", "kept", "--consistency", "local", "--field", "v").wants(t, 0, "v")
	sh.run("operator", "members").wants(t, 0, "follower")
	sh.run("status").wants(t, 0, "none")
	for _, n := range c.Nodes[:2] {
		revive(t, n)
	}
	cl := clientOf(t, c)
	wantValue(t, cl, "kept", "v")
	if _, err := cl.Secrets.Get(within(t, patience), "lost", client.GetOptions{}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("the write that was not done: got %v, want ErrNotFound", err)
	}
}

// When the disk is nearly full writes are refused with a clear error and reads
// go on; with room again writes do too. Nothing is lost.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	const size = "size=200m" // a little more than what a node wants to keep free
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		t.Skipf("NOT TESTED, a small file system cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// The audit log lies elsewhere: without room for its record no answer leaves.
	c := startCluster(t, testprocess.Options{Nodes: 1, Dir: dir, Args: []string{"--audit-file", filepath.Join(t.TempDir(), "audit.log")}})
	cl := clientOf(t, c)
	mustPut(t, cl, "kept", "v")
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast, 64<<20)
	sh := shellOf(t, c.Nodes[0], c.RootToken)
	eventually(t, "writes are refused", func(ctx context.Context) error {
		_, err := cl.Secrets.Put(ctx, "other", client.Data{"v": client.Text("x")}, client.PutOptions{})
		if e := client.AsError(err); e == nil || e.Reason != client.ReasonDiskFull || e.Outcome != client.OutcomeNotDone {
			return errors.Join(errors.New("they are not"), err)
		}
		return nil
	})
	sh.run("kv", "put", "other", "v=x").wants(t, 2, "nearly full", "MiB")
	wantValue(t, cl, "kept", "v")

	t.Run("to the last byte", func(t *testing.T) {
		fill(t, filepath.Join(dir, "rest"), 1<<30)
		sh.t = t
		sh.run("kv", "put", "other", "v=x").wants(t, 2, "nearly full")
		wantValue(t, cl, "kept", "v")
		if err := c.Nodes[0].Terminate(); err != nil {
			t.Fatal(err)
		}
	})
	if err := errors.Join(os.Remove(ballast), os.Remove(filepath.Join(dir, "rest"))); err != nil {
		t.Fatal(err)
	}
	revive(t, c.Nodes[0])
	wantValue(t, cl, "kept", "v")
	mustPut(t, cl, "after", "v")
}

// fill writes a file of up to size bytes, as much as there is room for.
func fill(t *testing.T, path string, size int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1<<20)
	for written := 0; written < size; {
		n, err := f.Write(piece)
		written += n
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
