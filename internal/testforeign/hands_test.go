package testforeign

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"os"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"

	vault "github.com/hashicorp/vault/api"

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
	path := *binary
	if path == "" {
		if path, err = testprocess.Build(ctx, dir); err != nil {
			panic(err)
		}
	}
	if cluster, err = testprocess.Start(ctx, testprocess.Options{Binary: path, Dir: dir, Nodes: 3}); err != nil {
		panic(err)
	}
	defer func() {
		if err := errors.Join(cluster.Stop(), os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	}()
	return m.Run()
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

type vaultHand struct {
	spread[*vault.Client]
	t *testing.T
}

func newVaultHand(t *testing.T) *vaultHand {
	h := &vaultHand{t: t}
	for _, n := range cluster.Nodes {
		config := vault.DefaultConfig()
		config.Address = "https://" + n.HTTP
		config.MaxRetries = 0
		if err := config.ConfigureTLS(&vault.TLSConfig{CACert: cluster.CAFile()}); err != nil {
			t.Fatal(err)
		}
		noProxy(config.HttpClient)
		c, err := vault.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		h.nodes = append(h.nodes, c)
	}
	h.SetToken(rootToken(t))
	return h
}

// noProxy keeps a proxy of the environment out of the way.
func noProxy(c *http.Client) {
	if transport, ok := c.Transport.(*http.Transport); ok {
		transport.Proxy = nil
	}
}

func rootToken(t *testing.T) string {
	t.Helper()
	return cluster.RootToken.Reveal()
}

func (h *vaultHand) SetWrapTTL(ttl string) {
	for _, c := range h.nodes {
		c.SetWrappingLookupFunc(func(string, string) string { return ttl })
	}
}

func fromVault(s *vault.Secret, err error) (*secret, error) {
	if s == nil || err != nil {
		return nil, err
	}
	out := &secret{Data: s.Data, Warnings: s.Warnings, LeaseDuration: s.LeaseDuration, Renewable: s.Renewable}
	if a := s.Auth; a != nil {
		out.Token, out.Accessor, out.Policies, out.LeaseDuration, out.Renewable = a.ClientToken, a.Accessor, a.Policies, a.LeaseDuration, a.Renewable
	}
	if w := s.WrapInfo; w != nil {
		out.WrapToken, out.WrapPath = w.Token, w.CreationPath
	}
	return out, nil
}

func (h *vaultHand) Read(path string, query map[string][]string) (*secret, error) {
	return fromVault(h.client().Logical().ReadWithData(path, query))
}
func (h *vaultHand) List(path string) (*secret, error) {
	return fromVault(h.client().Logical().List(path))
}
func (h *vaultHand) Write(path string, data map[string]any) (*secret, error) {
	return fromVault(h.client().Logical().Write(path, data))
}
func (h *vaultHand) Patch(path string, data map[string]any) (*secret, error) {
	return fromVault(h.client().Logical().JSONMergePatch(h.t.Context(), path, data))
}
func (h *vaultHand) Delete(path string) (*secret, error) {
	return fromVault(h.client().Logical().Delete(path))
}
func (h *vaultHand) Unwrap(token string) (*secret, error) {
	return fromVault(h.client().Logical().Unwrap(token))
}
func (h *vaultHand) Status(err error) int {
	var e *vault.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

type baoHand struct {
	spread[*bao.Client]
	t *testing.T
}

func newBaoHand(t *testing.T) *baoHand {
	h := &baoHand{t: t}
	for _, n := range cluster.Nodes {
		config := bao.DefaultConfig()
		config.Address = "https://" + n.HTTP
		config.MaxRetries = 0
		if err := config.ConfigureTLS(&bao.TLSConfig{CACert: cluster.CAFile()}); err != nil {
			t.Fatal(err)
		}
		noProxy(config.HttpClient)
		c, err := bao.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		h.nodes = append(h.nodes, c)
	}
	h.SetToken(rootToken(t))
	return h
}

func (h *baoHand) SetWrapTTL(ttl string) {
	for _, c := range h.nodes {
		c.SetWrappingLookupFunc(func(string, string) string { return ttl })
	}
}

func fromBao(s *bao.Secret, err error) (*secret, error) {
	if s == nil || err != nil {
		return nil, err
	}
	out := &secret{Data: s.Data, Warnings: s.Warnings, LeaseDuration: s.LeaseDuration, Renewable: s.Renewable}
	if a := s.Auth; a != nil {
		out.Token, out.Accessor, out.Policies, out.LeaseDuration, out.Renewable = a.ClientToken, a.Accessor, a.Policies, a.LeaseDuration, a.Renewable
	}
	if w := s.WrapInfo; w != nil {
		out.WrapToken, out.WrapPath = w.Token, w.CreationPath
	}
	return out, nil
}

func (h *baoHand) Read(path string, query map[string][]string) (*secret, error) {
	return fromBao(h.client().Logical().ReadWithData(path, query))
}
func (h *baoHand) List(path string) (*secret, error) { return fromBao(h.client().Logical().List(path)) }
func (h *baoHand) Write(path string, data map[string]any) (*secret, error) {
	return fromBao(h.client().Logical().Write(path, data))
}
func (h *baoHand) Patch(path string, data map[string]any) (*secret, error) {
	return fromBao(h.client().Logical().JSONMergePatch(h.t.Context(), path, data))
}
func (h *baoHand) Delete(path string) (*secret, error) {
	return fromBao(h.client().Logical().Delete(path))
}
func (h *baoHand) Unwrap(token string) (*secret, error) {
	return fromBao(h.client().Logical().Unwrap(token))
}
func (h *baoHand) Status(err error) int {
	var e *bao.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}
