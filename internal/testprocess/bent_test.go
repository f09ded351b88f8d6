package testprocess_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

type contextOf = context.Context

// garble changes one letter of the share's value.
func garble(share string) string {
	at := len(share) / 2
	letter := byte('a')
	if share[at] == 'a' {
		letter = 'b'
	}
	if share[at] == '-' {
		at++
	}
	return share[:at] + string(letter) + share[at+1:]
}

// respell changes the binary form of a share and makes its checksum right
// again: what is left is a share that only the commitments can refuse.
func respell(t *testing.T, share string, change func([]byte)) string {
	t.Helper()
	fields := strings.Split(share, "-")
	if len(fields) < 7 {
		t.Fatal("the share has an unexpected form")
	}
	cluster, err := hex.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	raw := append([]byte{1}, cluster...)
	raw = append(raw, 0, 0, 0, 1, fields[4][0]-'0')
	raw = append(raw, shareValue(t, share)...)
	change(raw)
	sum := sha256.Sum256(append([]byte("conclave/share/1"), raw...))
	return base64.RawURLEncoding.EncodeToString(append(raw, sum[:5]...))
}

// emptyNode runs one node that belongs to no cluster.
func emptyNode(t *testing.T) *testprocess.Node {
	t.Helper()
	c, err := testprocess.Empty(testprocess.Options{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	n := c.Nodes[0]
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		quiet(t, n.LogFile)
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the empty node answers", func(ctx context.Context) error {
		_, err := statusOf(ctx, c, n)
		return err
	})
	return n
}
