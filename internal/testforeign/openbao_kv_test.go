// Code generated from vault_kv_test.go by go generate; DO NOT EDIT.

package testforeign

import (
	"errors"
	"maps"
	"net/http"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"
)

// Secrets without versions, by the client's own words for them.
func TestOpenBaoKV1(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	mount := unique(t)
	done(t, h.sys().Mount(mount, &bao.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	done(t, did(t, h.kv1(mount).Put)(ctx, "app/a", map[string]any{"k": "v", "n": 12345678901}))
	s := need[*bao.KVSecret](t)(did(t, h.kv1(mount).Get)(ctx, "app/a"))
	if s.Data["k"] != "v" || number(s.Data["n"]) != "12345678901" || s.Raw.LeaseDuration != 2764800 || s.Raw.LeaseID != "" || s.Raw.Renewable {
		t.Errorf("read %+v", s.Raw)
	}
	done(t, did(t, h.kv1(mount).Delete)(ctx, "app/a"))
	if _, err := h.kv1(mount).Get(ctx, "app/a"); !errors.Is(err, bao.ErrSecretNotFound) {
		t.Errorf("what is gone reads %v", err)
	}
}

// Secrets with versions, by the client's own words for them: writing with and without
// check-and-set, both ways to patch, rolling back, deleting, destroying.
func TestOpenBaoKV2(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	mount := unique(t)
	done(t, h.sys().Mount(mount, &bao.MountInput{Type: "kv-v2"}))
	kv := func() *bao.KVv2 { return h.kv2(mount) }
	version := func(want int) func(*bao.KVSecret, error) *bao.KVSecret {
		return func(s *bao.KVSecret, err error) *bao.KVSecret {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if m := s.VersionMetadata; m.Version != want || m.CreatedTime.IsZero() || !m.DeletionTime.IsZero() || m.Destroyed {
				t.Fatalf("version %+v, want %d", m, want)
			}
			return s
		}
	}
	if _, err := kv().Get(ctx, "a"); !errors.Is(err, bao.ErrSecretNotFound) {
		t.Errorf("a secret that was never written: %v", err)
	}
	if _, err := kv().Patch(ctx, "a", map[string]any{"k": "v"}); !errors.Is(err, bao.ErrSecretNotFound) {
		t.Errorf("patching a secret that was never written: %v", err)
	}
	version(1)(did(t, kv().Put)(ctx, "a", map[string]any{"k": "v1", "stays": "x"}, bao.WithCheckAndSet(0)))
	_, err := kv().Put(ctx, "a", map[string]any{"k": "again"}, bao.WithCheckAndSet(0))
	denied(t, h, err, http.StatusBadRequest, "check-and-set parameter did not match the current version")
	version(2)(kv().Put(ctx, "a", map[string]any{"k": "v2", "stays": "x"}, bao.WithCheckAndSet(1)))

	patch := did(t, kv().Patch)
	version(3)(patch(ctx, "a", map[string]any{"k": "v3"}))
	version(4)(patch(ctx, "a", map[string]any{"k": "v4"}, bao.WithMergeMethod(bao.KVMergeMethodPatch)))
	version(5)(patch(ctx, "a", map[string]any{"k": "v5"}, bao.WithMergeMethod(bao.KVMergeMethodReadWrite)))
	version(6)(patch(ctx, "a", map[string]any{"k": nil, "more": "y"}, bao.WithCheckAndSet(5), bao.WithMergeMethod(bao.KVMergeMethodPatch)))
	_, err = kv().Patch(ctx, "a", map[string]any{"k": "x"}, bao.WithCheckAndSet(5))
	denied(t, h, err, http.StatusBadRequest, "check-and-set parameter did not match the current version")
	if s := version(6)(did(t, kv().Get)(ctx, "a")); !maps.Equal(s.Data, map[string]any{"stays": "x", "more": "y"}) {
		t.Errorf("after the patches: %v", s.Data)
	}
	if s := version(5)(did(t, kv().GetVersion)(ctx, "a", 5)); s.Data["k"] != "v5" || s.Data["stays"] != "x" {
		t.Errorf("version 5 reads %v", s.Data)
	}
	version(7)(did(t, kv().Rollback)(ctx, "a", 2))
	if s := version(7)(kv().Get(ctx, "a")); s.Data["k"] != "v2" {
		t.Errorf("rolled back, it reads %v", s.Data)
	}

	done(t, did(t, kv().Delete)(ctx, "a"))
	done(t, did(t, kv().DeleteVersions)(ctx, "a", []int{1, 2}))
	done(t, did(t, kv().Destroy)(ctx, "a", []int{3}))
	if s := need[*bao.KVSecret](t)(kv().Get(ctx, "a")); s.Data != nil || s.VersionMetadata.DeletionTime.IsZero() {
		t.Errorf("deleted, it reads %+v", s.VersionMetadata)
	}
	if _, err := kv().Rollback(ctx, "a", 1); err == nil {
		t.Error("rolled back to a deleted version")
	}
	done(t, did(t, kv().Undelete)(ctx, "a", []int{2, 7}))
	list := need[[]bao.KVVersionMetadata](t)(did(t, kv().GetVersionsAsList)(ctx, "a"))
	if len(list) != 7 {
		t.Fatalf("versions %+v", list)
	}
	for i, m := range list {
		if deleted := i == 0; m.Version != i+1 || m.DeletionTime.IsZero() == deleted || m.Destroyed != (i == 2) {
			t.Errorf("version %+v", m)
		}
	}
	if _, err := kv().GetVersion(ctx, "a", 99); !errors.Is(err, bao.ErrSecretNotFound) {
		t.Errorf("a version that never was: %v", err)
	}
	done(t, did(t, kv().DeleteMetadata)(ctx, "a"))
	if _, err := kv().GetMetadata(ctx, "a"); !errors.Is(err, bao.ErrSecretNotFound) {
		t.Errorf("what is gone: %v", err)
	}
}

// What is known of a secret beside its versions, put and patched.
func TestOpenBaoKV2Metadata(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	mount := unique(t)
	done(t, h.sys().Mount(mount, &bao.MountInput{Type: "kv-v2"}))
	kv := func() *bao.KVv2 { return h.kv2(mount) }
	done(t, did(t, kv().PutMetadata)(ctx, "a", bao.KVMetadataPutInput{MaxVersions: 2, CASRequired: true, DeleteVersionAfter: time.Hour,
		CustomMetadata: map[string]any{"owner": "me", "team": "ours"}}))
	m := need[*bao.KVMetadata](t)(did(t, kv().GetMetadata)(ctx, "a"))
	if m.MaxVersions != 2 || !m.CASRequired || m.DeleteVersionAfter != time.Hour || m.CurrentVersion != 0 || len(m.Versions) != 0 ||
		!maps.Equal(m.CustomMetadata, map[string]any{"owner": "me", "team": "ours"}) {
		t.Errorf("metadata %+v", m)
	}
	_, err := kv().Put(ctx, "a", map[string]any{"k": "v"})
	denied(t, h, err, http.StatusBadRequest, "check-and-set parameter required for this call")
	for n := range 3 {
		s := need[*bao.KVSecret](t)(kv().Put(ctx, "a", map[string]any{"k": n}, bao.WithCheckAndSet(n)))
		if s.CustomMetadata["owner"] != "me" || !s.VersionMetadata.DeletionTime.After(s.VersionMetadata.CreatedTime) {
			t.Errorf("written %+v", s.VersionMetadata)
		}
	}
	casRequired, limit := false, 5
	done(t, did(t, kv().PatchMetadata)(ctx, "a", bao.KVMetadataPatchInput{CASRequired: &casRequired, MaxVersions: &limit,
		CustomMetadata: map[string]any{"team": nil, "more": "x"}}))
	m = need[*bao.KVMetadata](t)(kv().GetMetadata(ctx, "a"))
	if m.MaxVersions != 5 || m.CASRequired || m.DeleteVersionAfter != time.Hour || m.CurrentVersion != 3 || m.OldestVersion != 2 || len(m.Versions) != 2 ||
		!maps.Equal(m.CustomMetadata, map[string]any{"owner": "me", "more": "x"}) {
		t.Errorf("patched %+v", m)
	}
	done(t, kv().PatchMetadata(ctx, "a", bao.KVMetadataPatchInput{CustomMetadata: map[string]any{}}))
	if m = need[*bao.KVMetadata](t)(kv().GetMetadata(ctx, "a")); len(m.CustomMetadata) != 0 {
		t.Errorf("emptied, there is %v", m.CustomMetadata)
	}
	if s := need[*bao.KVSecret](t)(kv().Get(ctx, "a")); number(s.Data["k"]) != "2" {
		t.Errorf("a version that expires in an hour reads %v", s.Data)
	}
}

// The client falls back to reading and writing where it may not patch, only if the
// server has no patch; here it has, so it says what is missing.
func TestOpenBaoKV2WithoutPatch(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	name := unique(t)
	done(t, h.sys().PutPolicy(name, `path "secret/data/`+name+`" { capabilities = ["create", "read", "update"] }`))
	need[*bao.KVSecret](t)(h.kv2("secret").Put(ctx, name, map[string]any{"k": "v"}))
	other := h.as(need[*bao.Secret](t)(h.tokens().Create(&bao.TokenCreateRequest{Policies: []string{name}})).Auth.ClientToken)
	_, err := other.kv2("secret").Patch(ctx, name, map[string]any{"k": "w"})
	denied(t, h, err, http.StatusForbidden, "permission denied")
	s := need[*bao.KVSecret](t)(other.kv2("secret").Patch(ctx, name, map[string]any{"k": "w"}, bao.WithMergeMethod(bao.KVMergeMethodReadWrite)))
	if s.VersionMetadata.Version != 2 {
		t.Errorf("written version %d", s.VersionMetadata.Version)
	}
}
