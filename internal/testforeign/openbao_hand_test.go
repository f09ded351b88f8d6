// Code generated from vault_hand_test.go by go generate; DO NOT EDIT.

package testforeign

import (
	"errors"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// baoHand has a client for each node. What its methods return is the next node's.
type baoHand struct {
	spread[*bao.Client]
	t *testing.T
}

// newBaoHand is a hand with the root token.
func newBaoHand(t *testing.T) *baoHand {
	t.Helper()
	h := &baoHand{t: t}
	for _, n := range cluster.Nodes {
		h.nodes = append(h.nodes, newBaoClient(t, n, rootToken(t)))
	}
	return h
}

// newBaoClient is a client of one node, which does not try again.
func newBaoClient(t *testing.T, n *testprocess.Node, token string, settings ...func(*bao.Config)) *bao.Client {
	t.Helper()
	config := bao.DefaultConfig()
	config.Address = "https://" + n.HTTP
	config.MaxRetries = 0
	if err := config.ConfigureTLS(&bao.TLSConfig{CACert: caFile(n)}); err != nil {
		t.Fatal(err)
	}
	noProxy(config.HttpClient)
	for _, set := range settings {
		set(config)
	}
	c, err := bao.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	return c
}

func (h *baoHand) sys() *bao.Sys              { return h.client().Sys() }
func (h *baoHand) logical() *bao.Logical      { return h.client().Logical() }
func (h *baoHand) tokens() *bao.TokenAuth     { return h.client().Auth().Token() }
func (h *baoHand) kv1(mount string) *bao.KVv1 { return h.client().KVv1(mount) }
func (h *baoHand) kv2(mount string) *bao.KVv2 { return h.client().KVv2(mount) }

// as is another hand, with another token.
func (h *baoHand) as(token string) *baoHand {
	h.t.Helper()
	other := newBaoHand(h.t)
	other.SetToken(token)
	return other
}

func (h *baoHand) SetWrapTTL(ttl string) {
	for _, c := range h.nodes {
		c.SetWrappingLookupFunc(func(string, string) string { return ttl })
	}
}

func baoSecret(s *bao.Secret, err error) (*secret, error) {
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
	return baoSecret(h.client().Logical().ReadWithData(path, query))
}
func (h *baoHand) List(path string) (*secret, error) {
	return baoSecret(h.client().Logical().List(path))
}
func (h *baoHand) Write(path string, data map[string]any) (*secret, error) {
	return baoSecret(h.client().Logical().Write(path, data))
}
func (h *baoHand) Patch(path string, data map[string]any) (*secret, error) {
	return baoSecret(h.client().Logical().JSONMergePatch(h.t.Context(), path, data))
}
func (h *baoHand) Delete(path string) (*secret, error) {
	return baoSecret(h.client().Logical().Delete(path))
}
func (h *baoHand) Unwrap(token string) (*secret, error) {
	return baoSecret(h.client().Logical().Unwrap(token))
}
func (h *baoHand) Status(err error) int {
	var e *bao.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}
