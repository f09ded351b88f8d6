package testforeign

import (
	"net/http"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

// An answer is wrapped where the client's function says so, described to who has its
// token, wrapped anew, and given out once, to the token itself or to who names it.
func TestVaultWrapping(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	need[*vault.Secret](t)(h.logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}}))
	wrapping := newVaultHand(t)
	for _, c := range wrapping.nodes {
		did(t, c.SetWrappingLookupFunc)(func(operation, p string) string {
			if operation == http.MethodGet && p == path {
				return "90s"
			}
			return ""
		})
		if did(t, c.CurrentWrappingLookupFunc)() == nil {
			t.Error("the function is not kept")
		}
	}
	wrap := func() *vault.SecretWrapInfo {
		t.Helper()
		s := need[*vault.Secret](t)(wrapping.logical().Read(path))
		if s.Data != nil || s.WrapInfo == nil || s.WrapInfo.TTL != 90 || s.WrapInfo.CreationPath != path || s.WrapInfo.CreationTime.IsZero() || s.WrapInfo.Accessor == "" {
			t.Fatalf("wrapped %+v %+v", s, s.WrapInfo)
		}
		return s.WrapInfo
	}
	opened := func(s *vault.Secret, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if inner, _ := s.Data["data"].(map[string]any); inner["k"] != "v" {
			t.Errorf("unwrapped %v", s.Data)
		}
	}
	const gone = "wrapping token is not valid or does not exist"

	// By who names it.
	w := wrap()
	look := need[*vault.Secret](t)(h.logical().Write("sys/wrapping/lookup", map[string]any{"token": w.Token}))
	if look.Data["creation_path"] != path || number(look.Data["creation_ttl"]) != "90" || look.Data["creation_time"] == nil {
		t.Errorf("looked up %v", look.Data)
	}
	opened(did(t, h.logical().Unwrap)(w.Token))
	_, err := h.logical().Unwrap(w.Token)
	denied(t, h, err, http.StatusBadRequest, gone)

	// By itself, in both ways that the client has: as the token of the request, and
	// as that of a client that had none.
	w = wrap()
	if look = need[*vault.Secret](t)(h.as(w.Token).logical().Read("sys/wrapping/lookup")); look.Data["creation_path"] != path {
		t.Errorf("looked up %v", look.Data)
	}
	opened(h.as(w.Token).logical().Unwrap(""))
	_, err = h.as(w.Token).logical().Unwrap("")
	denied(t, h, err, http.StatusBadRequest, gone)
	w = wrap()
	opened(h.as("").logical().Unwrap(w.Token))

	// Wrapped anew the first token opens nothing.
	w = wrap()
	s := need[*vault.Secret](t)(h.logical().Write("sys/wrapping/rewrap", map[string]any{"token": w.Token}))
	if s.WrapInfo == nil || s.WrapInfo.Token == w.Token || s.WrapInfo.TTL != 90 || s.WrapInfo.CreationPath != path {
		t.Fatalf("rewrapped %+v", s.WrapInfo)
	}
	_, err = h.logical().Unwrap(w.Token)
	denied(t, h, err, http.StatusBadRequest, gone)
	opened(h.logical().Unwrap(s.WrapInfo.Token))

	// What somebody sends is wrapped, which the client asks for by itself.
	s = need[*vault.Secret](t)(h.logical().Write("sys/wrapping/wrap", map[string]any{"a": "b"}))
	if s = need[*vault.Secret](t)(h.logical().Unwrap(s.WrapInfo.Token)); s.Data["a"] != "b" {
		t.Errorf("unwrapped %v", s.Data)
	}
	// A login is wrapped with its accessor outside, so that it can be revoked unseen.
	h.SetWrapTTL("1m")
	s = need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}}))
	h.SetWrapTTL("")
	if s.Auth != nil || s.WrapInfo.WrappedAccessor == "" || s.WrapInfo.CreationPath != "auth/token/create" {
		t.Fatalf("wrapped %+v %+v", s.Auth, s.WrapInfo)
	}
	inner := need[*vault.Secret](t)(h.logical().Unwrap(s.WrapInfo.Token))
	if inner.Auth == nil || inner.Auth.Accessor != s.WrapInfo.WrappedAccessor {
		t.Errorf("unwrapped %+v", inner.Auth)
	}
	// An error is not wrapped, and a TTL that is none is refused.
	h.SetWrapTTL("1m")
	_, err = h.sys().MountConfig("nosuch")
	denied(t, h, err, http.StatusBadRequest, "No secret engine mount at nosuch/")
	h.SetWrapTTL("soon")
	_, err = h.logical().Read(path)
	denied(t, h, err, http.StatusBadRequest, "X-Vault-Wrap-TTL")
}

// A wrapped answer that nobody read in time is gone.
func TestVaultWrappingEnds(t *testing.T) {
	t.Parallel()
	h := newVaultHand(t)
	h.SetWrapTTL("1s")
	s := need[*vault.Secret](t)(h.logical().Read("sys/policies/acl/default"))
	h.SetWrapTTL("")
	<-time.After(time.Until(s.WrapInfo.CreationTime.Add(1100 * time.Millisecond)))
	_, err := h.logical().Unwrap(s.WrapInfo.Token)
	denied(t, h, err, http.StatusBadRequest, "wrapping token is not valid or does not exist")
}
