package testprocess_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// statusOf asks one node about itself.
func statusOf(ctx context.Context, c *testprocess.Cluster, n *testprocess.Node) (s client.NodeStatus, err error) {
	cl, err := n.Client()
	if err != nil {
		return s, err
	}
	defer func() {
		if e := cl.Close(); err == nil {
			err = e
		}
	}()
	return cl.Status(ctx)
}

// awaitAgreement waits until every node has applied the same index with the
// same state hash, and returns that index. Two hashes at one index fail at once.
func awaitAgreement(t *testing.T, c *testprocess.Cluster, least uint64, nodes ...*testprocess.Node) (index uint64) {
	t.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	eventually(t, "waiting for equal states", func(ctx context.Context) error {
		hashes, indexes := map[uint64]string{}, []string{}
		for _, n := range nodes {
			s, err := statusOf(ctx, c, n)
			if err != nil {
				return err
			}
			indexes = append(indexes, fmt.Sprint(n.Name, " at ", s.AppliedIndex))
			if other, ok := hashes[s.AppliedIndex]; ok && other != s.StateHash {
				t.Fatalf("two states at index %d: %s and %s", s.AppliedIndex, other, s.StateHash)
			}
			hashes[s.AppliedIndex] = s.StateHash
			index = s.AppliedIndex
		}
		if len(hashes) != 1 || index < least {
			return fmt.Errorf("%s; wanted %d or more", strings.Join(indexes, ", "), least)
		}
		return nil
	})
	return index
}

// mustPut writes one field and returns the version.
func mustPut(t *testing.T, cl *client.Client, path, value string) client.Written {
	t.Helper()
	w, err := cl.Secrets.Put(within(t, patience), path, client.Data{"v": client.Text(value)}, client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// wantValue reads one field, linearizably.
func wantValue(t *testing.T, cl *client.Client, path, want string) {
	t.Helper()
	got, err := cl.Secrets.Get(within(t, patience), path, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if v := string(got.Data["v"].Reveal()); v != want {
		t.Errorf("%s holds %q, want %q", path, v, want)
	}
}
