package testforeign

import (
	"errors"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// vaultHand has a client for each node. What its methods return is the next node's.
type vaultHand struct {
	spread[*vault.Client]
	t *testing.T
}

// newVaultHand is a hand with the root token.
func newVaultHand(t *testing.T) *vaultHand {
	t.Helper()
	h := &vaultHand{t: t}
	for _, n := range cluster.Nodes {
		h.nodes = append(h.nodes, newVaultClient(t, n, rootToken(t)))
	}
	return h
}

// newVaultClient is a client of one node, which does not try again.
func newVaultClient(t *testing.T, n *testprocess.Node, token string, settings ...func(*vault.Config)) *vault.Client {
	t.Helper()
	config := vault.DefaultConfig()
	config.Address = "https://" + n.HTTP
	config.MaxRetries = 0
	if err := config.ConfigureTLS(&vault.TLSConfig{CACert: caFile(n)}); err != nil {
		t.Fatal(err)
	}
	noProxy(config.HttpClient)
	for _, set := range settings {
		set(config)
	}
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	return c
}

func (h *vaultHand) sys() *vault.Sys              { return h.client().Sys() }
func (h *vaultHand) logical() *vault.Logical      { return h.client().Logical() }
func (h *vaultHand) tokens() *vault.TokenAuth     { return h.client().Auth().Token() }
func (h *vaultHand) kv1(mount string) *vault.KVv1 { return h.client().KVv1(mount) }
func (h *vaultHand) kv2(mount string) *vault.KVv2 { return h.client().KVv2(mount) }

// as is another hand, with another token.
func (h *vaultHand) as(token string) *vaultHand {
	h.t.Helper()
	other := newVaultHand(h.t)
	other.SetToken(token)
	return other
}

func (h *vaultHand) SetWrapTTL(ttl string) {
	for _, c := range h.nodes {
		c.SetWrappingLookupFunc(func(string, string) string { return ttl })
	}
}

func vaultSecret(s *vault.Secret, err error) (*secret, error) {
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
	return vaultSecret(h.client().Logical().ReadWithData(path, query))
}
func (h *vaultHand) List(path string) (*secret, error) {
	return vaultSecret(h.client().Logical().List(path))
}
func (h *vaultHand) Write(path string, data map[string]any) (*secret, error) {
	return vaultSecret(h.client().Logical().Write(path, data))
}
func (h *vaultHand) Patch(path string, data map[string]any) (*secret, error) {
	return vaultSecret(h.client().Logical().JSONMergePatch(h.t.Context(), path, data))
}
func (h *vaultHand) Delete(path string) (*secret, error) {
	return vaultSecret(h.client().Logical().Delete(path))
}
func (h *vaultHand) Unwrap(token string) (*secret, error) {
	return vaultSecret(h.client().Logical().Unwrap(token))
}
func (h *vaultHand) Status(err error) int {
	var e *vault.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}
