package testprocess_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// linearizable is how afterDamage reads.
var linearizable = client.GetOptions{}

func jsonDecode(text string, into any) error { return json.Unmarshal([]byte(text), into) }

// One flipped bit in any file of a stopped node: it refuses to start and says
// what is damaged, or it mends itself and agrees with the others. It never
// serves anything else, and the cluster loses nothing.
func TestFlippedBits(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3, Args: []string{"--raft-snapshot-threshold", "32", "--raft-snapshot-interval", "100ms"}})
	cl := clientOf(t, c)
	values := map[string]string{}
	for i := range 150 {
		path := fmt.Sprintf("kept/%d", i%50)
		values[path] = fmt.Sprint("value ", i)
		mustPut(t, cl, path, values[path])
	}
	awaitAgreement(t, c, 1)
	victim := c.Nodes[2]
	if err := victim.Terminate(); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if err := copyTree(victim.DataDir, whole); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 2))
	flips := 3
	if testing.Short() {
		flips = 1
	}
	for _, file := range dataFiles(t, whole) {
		for range flips {
			if err := errors.Join(os.RemoveAll(victim.DataDir), copyTree(whole, victim.DataDir), os.RemoveAll(victim.LogFile)); err != nil {
				t.Fatal(err)
			}
			at := flipBit(t, filepath.Join(victim.DataDir, file), dice)
			t.Logf("%s, bit %d: %s", file, at, afterDamage(t, c, victim, values))
			if err := victim.Kill(); err != nil {
				t.Fatal(err)
			}
			quiet(t, victim.LogFile)
		}
	}
	for path, value := range values {
		wantValue(t, cl, path, value)
	}
}

// dataFiles lists the files of state, log and snapshots that hold anything.
func dataFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, part := range []string{"state", "raft", "snapshots"} {
		err := filepath.WalkDir(filepath.Join(dir, part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err != nil || info.Size() == 0 {
				return err
			}
			name, err := filepath.Rel(dir, path)
			names = append(names, name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// flipBit flips one bit, of the part that holds something: files of a log are
// mostly empty pages.
func flipBit(t *testing.T, path string, dice *rand.Rand) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := dice.IntN(len(raw))
	for tries := 0; raw[at] == 0 && tries < 1000; tries++ {
		at = dice.IntN(len(raw))
	}
	bit := dice.IntN(8)
	raw[at] ^= 1 << bit
	overwrite(t, path, string(raw))
	return at*8 + bit
}

// afterDamage starts the node, and waits until it has ended with an explanation
// or serves exactly what the others do.
func afterDamage(t *testing.T, c *testprocess.Cluster, n *testprocess.Node, values map[string]string) string {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 30*time.Second)
	err := n.Unseal(ctx)
	if err == nil {
		cl := clientOf(t, c, n)
		for path, want := range values {
			got, rerr := cl.Secrets.Get(ctx, path, linearizable)
			if rerr != nil {
				err = rerr
				break
			}
			if v := string(got.Data["v"].Reveal()); v != want {
				t.Errorf("%s serves %q for %s, want %q", n.Name, v, path, want)
			}
		}
	}
	if err == nil {
		awaitAgreement(t, c, 1)
		return "serves and agrees"
	}
	select {
	case <-n.Exited():
		log, rerr := os.ReadFile(n.LogFile)
		if rerr != nil {
			t.Fatal(rerr)
		}
		_, message, explained := strings.Cut(string(log), "error: ")
		if !explained || !strings.Contains(message, "hint: ") {
			t.Errorf("it ended without an explanation:\n%s", log)
		}
		return "ended: " + strings.TrimSpace(message)
	case <-within(t, 20*time.Second).Done():
		t.Errorf("it met damage and runs on: %v", err)
		return "runs on"
	}
}
