// Code generated from vault_logical_test.go by go generate; DO NOT EDIT.

package testforeign

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	bao "github.com/openbao/openbao/api/v2"
)

// Whatever has a path is read, listed, written, patched and deleted by it.
func TestOpenBaoLogical(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	name := unique(t)
	data, metadata := "secret/data/"+name+"/a", "secret/metadata/"+name+"/a"
	if s := need[*bao.Secret](t)(did(t, h.logical().Read)(data)); s != nil {
		t.Errorf("a secret that was never written reads %+v", s)
	}
	s := need[*bao.Secret](t)(did(t, h.logical().Write)(data, map[string]any{"data": map[string]any{"k": "v"}}))
	if number(s.Data["version"]) != "1" || s.RequestID == "" {
		t.Errorf("written %+v", s)
	}
	need[*bao.Secret](t)(did(t, h.logical().WriteBytes)(data, []byte(`{"data": {"k": "v2", "n": 1.50}}`)))
	need[*bao.Secret](t)(did(t, h.logical().JSONMergePatch)(ctx, data, map[string]any{"data": map[string]any{"more": true}}))
	s = need[*bao.Secret](t)(did(t, h.logical().ReadWithContext)(ctx, data))
	inner, _ := s.Data["data"].(map[string]any)
	if inner["k"] != "v2" || inner["n"] != json.Number("1.50") || inner["more"] != true {
		t.Errorf("read %v", s.Data)
	}
	query := map[string][]string{"version": {"1"}}
	s = need[*bao.Secret](t)(did(t, h.logical().ReadWithData)(data, query))
	if inner, _ := s.Data["data"].(map[string]any); inner["k"] != "v" {
		t.Errorf("version 1 reads %v", s.Data)
	}
	for _, raw := range []func() (*bao.Response, error){
		func() (*bao.Response, error) { return did(t, h.logical().ReadRaw)(data) },
		func() (*bao.Response, error) { return did(t, h.logical().ReadRawWithContext)(ctx, data) },
		func() (*bao.Response, error) { return did(t, h.logical().ReadRawWithData)(data, query) },
	} {
		r := need[*bao.Response](t)(raw())
		text := need[[]byte](t)(io.ReadAll(r.Body))
		done(t, r.Body.Close())
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json" || !strings.Contains(string(text), `"request_id"`) {
			t.Errorf("%d %s", r.StatusCode, text)
		}
	}
	parse := did(t, h.logical().ParseRawResponseAndCloseBody)
	if s = need[*bao.Secret](t)(parse(h.logical().ReadRaw(data))); s.Data["data"] == nil {
		t.Errorf("parsed %+v", s)
	}
	s = need[*bao.Secret](t)(did(t, h.logical().List)("secret/metadata/" + name))
	if keys, _ := s.Data["keys"].([]any); !slices.Equal(keys, []any{"a"}) {
		t.Errorf("listed %v", s.Data)
	}
	if s = need[*bao.Secret](t)(h.logical().List("secret/metadata/" + name + "-none")); s != nil {
		t.Errorf("an empty directory lists %+v", s)
	}

	// A deleted version is a 404 that has data, and the client hands it on.
	if s = need[*bao.Secret](t)(did(t, h.logical().Delete)(data)); s != nil {
		t.Errorf("deleting answers %+v", s)
	}
	s = need[*bao.Secret](t)(h.logical().Read(data))
	if m, _ := s.Data["metadata"].(map[string]any); s.Data["data"] != nil || m["deletion_time"] == "" {
		t.Errorf("deleted, it reads %v", s.Data)
	}
	if s = need[*bao.Secret](t)(did(t, h.logical().DeleteWithData)(metadata, map[string][]string{"any": {"thing"}})); s != nil {
		t.Errorf("deleting answers %+v", s)
	}
	if s = need[*bao.Secret](t)(h.logical().Read(metadata)); s != nil {
		t.Errorf("what is gone reads %+v", s)
	}

	// A path of version 1 on a mount of version 2 is a 404 that has warnings.
	s = need[*bao.Secret](t)(h.logical().Read("secret/" + name))
	if s == nil || len(s.Warnings) != 1 {
		t.Errorf("a stray path reads %+v", s)
	}
	// Where nothing is mounted there is an error, and nothing to hand on.
	if s = need[*bao.Secret](t)(h.logical().Read(name + "/no/mount")); s != nil {
		t.Errorf("without a mount it reads %+v", s)
	}
	_, err := h.logical().Write(name+"/no/mount", nil)
	denied(t, h, err, http.StatusNotFound, "no handler for route")
	_, err = h.logical().Write("secret/data/"+name+"/", map[string]any{"data": map[string]any{}})
	if err != nil {
		t.Errorf("the client takes a slash off the end of a path: %v", err)
	}
	_, err = h.logical().WriteBytes(data, []byte(`{"data": `))
	denied(t, h, err, http.StatusBadRequest, "failed to decode JSON input")
	_, err = h.logical().JSONMergePatch(ctx, "sys/mounts/"+name, map[string]any{})
	denied(t, h, err, http.StatusMethodNotAllowed, "unsupported operation")
}
