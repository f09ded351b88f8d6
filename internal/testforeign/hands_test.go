package testforeign

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/internal/testpostgres"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

var binary = flag.String("binary", "", "conclave binary to test; empty: build this source")

// cluster is started once, for all tests of the package.
var cluster *testprocess.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "testforeign")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if *binary == "" {
		if *binary, err = testprocess.Build(ctx, dir); err != nil {
			panic(err)
		}
	}
	if cluster, err = testprocess.Start(ctx, testprocess.Options{Binary: *binary, Dir: dir, Nodes: 3}); err != nil {
		panic(err)
	}
	defer func() {
		if err := errors.Join(cluster.Stop(), testpostgres.Stop(), os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	}()
	if code = m.Run(); code != 0 || !everything() {
		return code
	}
	check := undriven
	if *rewriteCalls {
		check = writeCalls
	}
	if err := check(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: the calls of %s:\n%v\n", callsFile, err)
		return 1
	}
	return 0
}

// everything tells whether all tests were asked for.
func everything() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// secret is what a client makes of an answer.
type secret struct {
	Data          map[string]any
	Warnings      []string
	Token         string
	Accessor      string
	Policies      []string
	LeaseDuration int
	Renewable     bool
	WrapToken     string
	WrapPath      string
}

// hand is a foreign client, of either project. Each call goes to the next node.
type hand interface {
	SetToken(token string)
	SetWrapTTL(ttl string)
	Read(path string, query map[string][]string) (*secret, error)
	List(path string) (*secret, error)
	Write(path string, data map[string]any) (*secret, error)
	Patch(path string, data map[string]any) (*secret, error)
	Delete(path string) (*secret, error)
	Unwrap(token string) (*secret, error)
	Status(err error) int // of an error; 0: it is none of the server's
}

// byEach runs a test with each foreign client.
func byEach(t *testing.T, test func(t *testing.T, h hand)) {
	t.Run("vault", func(t *testing.T) { test(t, newVaultHand(t)) })
	t.Run("openbao", func(t *testing.T) { test(t, newBaoHand(t)) })
}

// spread is a client for each node, of either project.
type spread[C interface{ SetToken(token string) }] struct {
	nodes []C
	next  int
}

// client is the next node's.
func (s *spread[C]) client() C {
	s.next++
	return s.nodes[s.next%len(s.nodes)]
}

func (s *spread[C]) SetToken(token string) {
	for _, c := range s.nodes {
		c.SetToken(token)
	}
}

// noProxy keeps a proxy of the environment out of the way.
func noProxy(c *http.Client) {
	if transport, ok := c.Transport.(*http.Transport); ok {
		transport.Proxy = nil
	}
}

// caFile is what clients of a node trust.
func caFile(n *testprocess.Node) string { return filepath.Join(n.DataDir, "ca.pem") }

func rootToken(t *testing.T) string {
	t.Helper()
	return cluster.RootToken.Reveal()
}
