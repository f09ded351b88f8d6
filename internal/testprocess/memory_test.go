package testprocess_test

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// shareValue is the 32 bytes in the text of a share.
func shareValue(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := testprocess.ShareValue(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// ceremonyCopies bounds how many copies of key material one unsealing may leave
// on the heap: the text of the share is a string, and a block cipher keeps a
// copy of its key, and neither can be wiped. They lie there until the runtime
// uses the memory again. It is a known weakness; lower the bound when it shrinks.
const ceremonyCopies = 8

// What a sealed node still has in its memory. Key material is only on the heap,
// in few copies. Values and
// tokens that passed through are in buffers which nobody can wipe; how many are
// left is printed.
func TestSealedMemory(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1, Shares: 1, Threshold: 1})
	cl, n := clientOf(t, c), c.Nodes[0]
	values := testprocess.NewCanaries()
	for i := range 20 {
		text := strings.ToLower(rand.Text())
		values.Add("a value", []byte(text))
		mustPut(t, cl, fmt.Sprintf("kept/%d", i), text)
	}
	values.Add("the root token", []byte(c.RootToken.Reveal()))
	before := searchMemory(t, n, values)
	if before == 0 {
		t.Fatal("the search finds nothing in the memory of a node that has just handled it")
	}
	if err := cl.Operator.Seal(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	t.Logf("values and tokens in memory: %d unsealed, %d just sealed", before, searchMemory(t, n, values))

	// With one share of one its value is the secret itself, from which the root
	// key is derived (RFC 5869).
	secret := shareValue(t, c.Shares[0].Reveal())
	root, err := hkdf.Key(sha256.New, secret, nil, "conclave/seal/shamir/root/1", 32)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"the shared secret": secret, "the root key": root} {
		keys := testprocess.NewCanaries()
		keys.Add(name, key)
		if found := searchMemory(t, n, keys); found > ceremonyCopies {
			t.Errorf("%s is in the memory of a sealed node, %d times, want at most %d", name, found, ceremonyCopies)
		}
	}
	text := testprocess.NewCanaries()
	text.Add("the share as it was typed", []byte(c.Shares[0].Reveal()[20:]))
	t.Logf("the text of the share in memory: %d", searchMemory(t, n, text))
}

// searchMemory counts what it finds in all memory that a process can write.
func searchMemory(t *testing.T, n *testprocess.Node, c *testprocess.Canaries) (count int) {
	t.Helper()
	err := n.SearchMemory(c, func(f testprocess.Find, region string) {
		count++
		if f.Canary != "a value" && f.Canary != "the root token" {
			t.Logf("%s as %s, in %s", f.Canary, f.Form, region)
		}
	})
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("NOT TESTED, it takes root to read the memory of a node, which keeps it to itself")
	}
	if err != nil {
		t.Fatal(err)
	}
	return count
}
