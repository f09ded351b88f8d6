package testprocess_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// Requests that cannot be carried out are refused by name, with a hint and the
// documented exit code, and change nothing.
func TestBadRequests(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	cl := clientOf(t, c)
	mustPut(t, cl, "app/db", "kept")
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sh := shellOf(t, c.Nodes[0], c.RootToken)
	for _, test := range []struct {
		name string
		sh   shell
		args []string
		code int
		says []string
	}{
		{"oversized value", sh, []string{"kv", "put", "a", "v=@" + big}, 1, []string{"1048576"}},
		{"value over the limit of a message", sh, []string{"kv", "put", "a", "v=@" + huge}, 1, []string{"too large", "limits.max_value_bytes"}},
		{"oversized path", sh, []string{"kv", "put", strings.Repeat("p", 1025), "v=x"}, 1, []string{"1024"}},
		{"empty path", sh, []string{"kv", "put", "", "v=x"}, 1, []string{"empty"}},
		{"path of a slash", sh, []string{"kv", "get", "/"}, 1, []string{"path"}},
		{"empty segment", sh, []string{"kv", "put", "a//b", "v=x"}, 1, []string{"empty"}},
		{"dots", sh, []string{"kv", "put", "a/../b", "v=x"}, 1, []string{".."}},
		{"one dot", sh, []string{"kv", "put", "a/./b", "v=x"}, 1, []string{"."}},
		{"control character", sh, []string{"kv", "put", "a/\x07b", "v=x"}, 1, []string{"control", "!\x07"}},
		{"newline", sh, []string{"kv", "get", "a\nb"}, 1, []string{"control"}},
		{"invalid UTF-8 in a path", sh, []string{"kv", "put", "a/\xff", "v=x"}, 1, []string{"UTF-8"}},
		{"invalid UTF-8 in a field name", sh, []string{"kv", "put", "a", "\xff=x"}, 1, []string{"UTF-8"}},
		{"invalid UTF-8 in a lease prefix", sh, []string{"lease", "grant", "a\xff", "--ttl", "1m"}, 1, []string{"UTF-8"}},
		{"dots in a lease prefix", sh, []string{"lease", "grant", "a/../b", "--ttl", "1m"}, 1, []string{".."}},
		{"invalid UTF-8 in an idempotency key", sh, []string{"kv", "put", "a", "v=x", "--idempotency-key", "\xff"}, 1, []string{"UTF-8"}},
		{"unknown secret", sh, []string{"kv", "get", "app/none"}, 4, []string{"app/none"}},
		{"unknown version", sh, []string{"kv", "get", "app/db", "--version", "7"}, 4, []string{"7"}},
		{"version to destroy is unknown", sh, []string{"kv", "destroy", "app/db", "--versions", "7"}, 4, []string{"7"}},
		{"version to roll back to is unknown", sh, []string{"kv", "rollback", "app/db", "--version", "7"}, 4, []string{"7"}},
		{"check-and-set mismatch", sh, []string{"kv", "put", "app/db", "v=x", "--cas", "9"}, 5, []string{"version 9", "current one is 1"}},
		{"secret must not exist", sh, []string{"kv", "put", "app/db", "v=x", "--cas", "0"}, 5, []string{"current one is 1"}},
		{"unknown lease", sh, []string{"lease", "lookup", "jobs/none/abcdef"}, 4, []string{"jobs/none"}},
		{"unknown owner of a lease", sh, []string{"lease", "grant", "jobs", "--ttl", "1m", "--owner", "jobs/none/abcdef"}, 4, []string{"owner"}},
		{"unknown member", sh, []string{"operator", "remove", "nobody"}, 4, []string{"member"}},
		{"the only voter", sh, []string{"operator", "transfer"}, 5, []string{"voter"}},
		{"init twice", sh, []string{"operator", "init"}, 5, []string{"belongs to a cluster already"}},
		{"wrong token", sh.with("CONCLAVE_TOKEN=hvs.wrong"), []string{"kv", "get", "app/db"}, 3, []string{"token", "!hvs.wrong"}},
		{"no token", sh.with("CONCLAVE_TOKEN="), []string{"kv", "get", "app/db"}, 3, []string{"token"}},
		{"no token for a seal", sh.with("CONCLAVE_TOKEN="), []string{"operator", "seal"}, 3, []string{"token"}},
		{"a token with a line end", sh.with("CONCLAVE_TOKEN=a\nb"), []string{"kv", "get", "app/db"}, 1, []string{"token", "!a\nb"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.sh.t = t
			test.sh.run(test.args...).wants(t, test.code, append(test.says, "error: ")...)
		})
	}
	wantValue(t, cl, "app/db", "kept")
	names, err := cl.Secrets.List(within(t, patience), "", client.ListOptions{})
	if err != nil || len(names.Names) != 1 {
		t.Errorf("the root lists %q, %v: something was written", names.Names, err)
	}
}

// A share that cannot be right is refused at once, by what is wrong with it and
// by its number; the ceremony goes on with the right ones.
func TestBadShares(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1, Shares: 5, Threshold: 3})
	other := startCluster(t, testprocess.Options{Nodes: 1, Shares: 5, Threshold: 3})
	mustPut(t, clientOf(t, c), "kept", "v")
	n := c.Nodes[0]
	if err := n.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node answers", func(ctx contextOf) error { _, err := statusOf(ctx, c, n); return err })
	sh := shellOf(t, n, c.RootToken)
	share := func(i int) string { return c.Shares[i].Reveal() }
	give := func(name, text string, code int, says ...string) {
		t.Run(name, func(t *testing.T) {
			sh.t = t
			got := sh.input(text+"\n").run("operator", "unseal")
			got.wants(t, code, says...)
			if secret := strings.Split(text, "-"); len(secret) > 6 && strings.Contains(got.err+got.out, secret[6]) {
				t.Errorf("the share is shown in %q", got.err+got.out)
			}
		})
	}
	give("the first", share(0), 0, "1 of 3 shares (1)")
	give("repeated", share(0), 1, "share 1", "already")
	give("garbled: a letter", garble(share(1)), 1, "garbled")
	give("garbled: cut off", share(1)[:40], 1, "garbled")
	give("garbled: no share at all", "swordfish", 1, "garbled", "!swordfish")
	give("garbled: the root token", c.RootToken.Reveal(), 1, "garbled")
	give("foreign", other.Shares[1].Reveal(), 1, "another cluster")
	give("wrong generation", respell(t, share(1), func(raw []byte) { raw[8] = 2 }), 1, "generation 2")
	give("wrong value", respell(t, share(1), func(raw []byte) { raw[10] ^= 1 }), 1, "share 2")
	give("an index that was never made", respell(t, share(1), func(raw []byte) { raw[9] = 77 }), 1, "share 77")
	give("index 0", respell(t, share(1), func(raw []byte) { raw[9] = 0 }), 1, "share")
	give("upper case and spaces", strings.ToUpper(strings.ReplaceAll(share(1), "-", " - ")), 0, "2 of 3 shares (1, 2)")
	give("the last", share(4), 0, "unsealed")
	give("one too many", share(2), 0, "unsealed")
	wantValue(t, clientOf(t, c), "kept", "v")
}

// A founding that makes no sense founds nothing.
func TestBadFounding(t *testing.T) {
	n := emptyNode(t)
	for _, test := range []struct {
		shares, threshold int
		says              string
	}{{3, 4, "4 of 3"}, {3, 1, "1 of 3"}, {256, 3, "3 of 256"}, {0, 0, "0 of 0"}, {5, 0, "0 of 5"}, {-1, 3, "3 of -1"}} {
		shellOf(t, n, client.Token{}).run("operator", "init", "--shares", fmt.Sprint(test.shares), "--threshold", fmt.Sprint(test.threshold)).
			wants(t, 1, test.says)
		// Whoever asks the API himself is told too.
		cl, err := n.Client()
		if err != nil {
			t.Fatal(err)
		}
		_, err = cl.Operator.Init(within(t, patience), client.InitRequest{Shares: test.shares, Threshold: test.threshold})
		if e := client.AsError(err); e == nil || e.Reason != client.ReasonInvalid || e.Outcome != client.OutcomeNotDone {
			t.Errorf("%d of %d: got %v, want an invalid request", test.threshold, test.shares, err)
		}
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	}
	shellOf(t, n, client.Token{}).run("operator", "init", "--shares", "1", "--threshold", "1", "--age-recipient", "age1nonsense").wants(t, 1, "age")
	// Before it belongs to a cluster a node says so to everybody.
	for _, args := range [][]string{{"kv", "get", "a"}, {"operator", "unseal"}, {"operator", "seal"}, {"operator", "members"}, {"operator", "join-token"}} {
		shellOf(t, n, client.NewToken("t")).input("conclave-share-x\n").run(args...).wants(t, 6, "belongs to no cluster")
	}
	shellOf(t, n, client.Token{}).run("operator", "init", "--shares", "1", "--threshold", "1").wants(t, 0, "Share 1:")
}
