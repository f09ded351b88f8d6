// Code generated from vault_sys_test.go by go generate; DO NOT EDIT.

package testforeign

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"
)

// Engines are mounted, tuned, moved with what lies in them, and ended. Who tunes one
// of two times to live sends the other as empty text, which changes nothing.
func TestOpenBaoMounts(t *testing.T) {
	h := newBaoHand(t)
	name := unique(t)
	mount := did(t, h.sys().Mount)
	done(t, mount(name, &bao.MountInput{Type: "kv-v2", Description: "mine", Config: bao.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "2h"}}))
	denied(t, h, h.sys().Mount(name, &bao.MountInput{Type: "kv"}), http.StatusBadRequest, "path is already in use at "+name+"/")
	denied(t, h, h.sys().Mount(name+"-other", &bao.MountInput{Type: "nosuch"}), http.StatusBadRequest, "plugin not found in the catalog")
	listed := need[map[string]*bao.MountOutput](t)(did(t, h.sys().ListMounts)())
	m := listed[name+"/"]
	if m == nil || m.Type != "kv" || m.Options["version"] != "2" || m.Description != "mine" || m.Config.DefaultLeaseTTL != 3600 ||
		m.Config.MaxLeaseTTL != 7200 || m.Accessor == "" || m.UUID == "" {
		t.Fatalf("mounted %+v", m)
	}
	for _, always := range []string{"sys/", "cubbyhole/", "secret/"} {
		if listed[always] == nil {
			t.Errorf("%s is not listed", always)
		}
	}

	description := "ours"
	done(t, did(t, h.sys().TuneMount)(name, bao.MountConfigInput{MaxLeaseTTL: "3h", Description: &description, ListingVisibility: "unauth"}))
	config := need[*bao.MountConfigOutput](t)(did(t, h.sys().MountConfig)(name))
	if config.DefaultLeaseTTL != 3600 || config.MaxLeaseTTL != 10800 || config.ListingVisibility != "unauth" {
		t.Errorf("tuned to %+v", config)
	}
	done(t, h.sys().TuneMount(name, bao.MountConfigInput{DefaultLeaseTTL: "system", MaxLeaseTTL: "system"}))
	config = need[*bao.MountConfigOutput](t)(h.sys().MountConfig(name))
	if config.DefaultLeaseTTL != 2764800 || config.MaxLeaseTTL != 2764800 {
		t.Errorf("tuned back to %+v", config)
	}
	denied(t, h, h.sys().TuneMount(name, bao.MountConfigInput{MaxLeaseTTL: "soon"}), http.StatusBadRequest, "max_lease_ttl")

	need[*bao.KVSecret](t)(h.kv2(name).Put(t.Context(), "x", map[string]any{"k": "v"}))
	done(t, did(t, h.sys().Remount)(name, name+"-moved"))
	begun := need[*bao.MountMigrationOutput](t)(did(t, h.sys().StartRemount)(name+"-moved", name+"-there"))
	status := need[*bao.MountMigrationStatusOutput](t)(did(t, h.sys().RemountStatus)(begun.MigrationID))
	if status.MigrationInfo.MigrationStatus != "success" || status.MigrationInfo.TargetMount != name+"-there/" {
		t.Errorf("the move: %+v", status.MigrationInfo)
	}
	if s := need[*bao.KVSecret](t)(h.kv2(name+"-there").Get(t.Context(), "x")); s.Data["k"] != "v" {
		t.Errorf("moved, it reads %v", s.Data)
	}
	done(t, did(t, h.sys().Unmount)(name+"-there"))
	done(t, h.sys().Unmount(name+"-there")) // it has ended already
	_, err := h.sys().MountConfig(name + "-there")
	denied(t, h, err, http.StatusBadRequest, "No secret engine mount at")
}

// A mount of version 1 is tuned to version 2, and keeps its secrets.
func TestOpenBaoUpgrade(t *testing.T) {
	h := newBaoHand(t)
	name := unique(t)
	done(t, h.sys().Mount(name, &bao.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	done(t, h.kv1(name).Put(t.Context(), "x", map[string]any{"k": "v"}))
	done(t, h.sys().TuneMount(name, bao.MountConfigInput{Options: map[string]string{"version": "2"}}))
	if s := need[*bao.KVSecret](t)(h.kv2(name).Get(t.Context(), "x")); s.Data["k"] != "v" || s.VersionMetadata.Version != 1 {
		t.Errorf("upgraded, it reads %+v", s)
	}
	denied(t, h, h.sys().TuneMount(name, bao.MountConfigInput{Options: map[string]string{"version": "1"}}), http.StatusBadRequest, "")
}

// Auth methods are mounts, too, also where clients ask for them among the engines.
func TestOpenBaoAuthMounts(t *testing.T) {
	h := newBaoHand(t)
	name, other := unique(t), unique(t)
	done(t, did(t, h.sys().EnableAuth)(name, "userpass", "people"))
	done(t, did(t, h.sys().EnableAuthWithOptions)(other, &bao.EnableAuthOptions{Type: "approle", Config: bao.MountConfigInput{MaxLeaseTTL: "2h"}}))
	denied(t, h, h.sys().EnableAuth(name, "userpass", ""), http.StatusBadRequest, "path is already in use at "+name+"/")
	listed := need[map[string]*bao.AuthMount](t)(did(t, h.sys().ListAuth)())
	if m := listed[name+"/"]; m == nil || m.Type != "userpass" || m.Description != "people" || m.Config.TokenType != "default-service" {
		t.Errorf("enabled %+v", m)
	}
	if m := listed[other+"/"]; m == nil || m.Type != "approle" || m.Config.MaxLeaseTTL != 7200 {
		t.Errorf("enabled %+v", m)
	}
	if listed["token/"] == nil {
		t.Error("token/ is not listed")
	}
	done(t, h.sys().TuneMount("auth/"+other, bao.MountConfigInput{DefaultLeaseTTL: "30m"}))
	config := need[*bao.MountConfigOutput](t)(h.sys().MountConfig("auth/" + other))
	if config.DefaultLeaseTTL != 1800 || config.MaxLeaseTTL != 7200 || config.TokenType != "default-service" {
		t.Errorf("tuned to %+v", config)
	}
	done(t, h.sys().Remount("auth/"+other, "auth/"+other+"-moved"))
	for _, path := range []string{name, other + "-moved"} {
		done(t, did(t, h.sys().DisableAuth)(path))
	}
	if listed = need[map[string]*bao.AuthMount](t)(h.sys().ListAuth()); listed[name+"/"] != nil || listed[other+"-moved/"] != nil {
		t.Error("disabled methods are listed")
	}
	_, err := h.sys().MountConfig("auth/" + name)
	denied(t, h, err, http.StatusBadRequest, "No auth engine at")
}

// Policies are written in either language, read, listed and deleted; a token learns
// what they let it do.
func TestOpenBaoPolicies(t *testing.T) {
	h := newBaoHand(t)
	name := unique(t)
	text := `path "secret/data/` + name + `/*" { capabilities = ["create", "read"] }
path "secret/data/` + name + `/no" { capabilities = ["deny"] }`
	done(t, did(t, h.sys().PutPolicy)(name, text))
	if got := need[string](t)(did(t, h.sys().GetPolicy)(name)); got != text {
		t.Errorf("read %q", got)
	}
	inJSON := `{"path": {"secret/metadata/` + name + `": {"capabilities": ["list", "sudo"]}}}`
	done(t, h.sys().PutPolicy(strings.ToUpper(name)+"-json", inJSON))
	listed := need[[]string](t)(did(t, h.sys().ListPolicies)())
	for _, want := range []string{"default", "root", name, name + "-json"} {
		if !slices.Contains(listed, want) {
			t.Errorf("%s is not in %v", want, listed)
		}
	}
	denied(t, h, h.sys().PutPolicy(name+"-bad", `path "x" {`), http.StatusBadRequest, "line 1")

	made := need[*bao.Secret](t)(h.tokens().Create(&bao.TokenCreateRequest{Policies: []string{name, name + "-json"}}))
	for path, want := range map[string]string{
		"secret/data/" + name + "/a":  "create read",
		"secret/data/" + name + "/no": "deny",
		"secret/metadata/" + name:     "list sudo",
		"secret/data/elsewhere":       "deny",
	} {
		if got := need[[]string](t)(did(t, h.sys().Capabilities)(made.Auth.ClientToken, path)); strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", path, got, want)
		}
		own := h.as(made.Auth.ClientToken)
		if got := need[[]string](t)(did(t, own.sys().CapabilitiesSelf)(path)); strings.Join(got, " ") != want {
			t.Errorf("%s of its own: %v, want %s", path, got, want)
		}
	}
	if got := need[[]string](t)(h.sys().CapabilitiesSelf("anything")); !slices.Equal(got, []string{"root"}) {
		t.Errorf("root may %v", got)
	}

	done(t, did(t, h.sys().DeletePolicy)(name))
	done(t, h.sys().DeletePolicy(name+"-json"))
	if got := need[string](t)(h.sys().GetPolicy(name)); got != "" {
		t.Errorf("a policy that is gone reads %q", got)
	}
	denied(t, h, h.sys().DeletePolicy("root"), http.StatusBadRequest, `cannot delete "root" policy`)
	if got := need[[]string](t)(h.sys().Capabilities(made.Auth.ClientToken, "secret/data/"+name+"/a")); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("without its policy a token may %v", got)
	}
}

// Leases are looked up, renewed, and revoked by id, by prefix, and by force.
func TestOpenBaoLeases(t *testing.T) {
	h := newBaoHand(t)
	prefix := "leases/" + unique(t)
	id := grant(t, prefix, time.Hour)
	s := need[*bao.Secret](t)(did(t, h.sys().Lookup)(id))
	if s.Data["id"] != id || s.Data["renewable"] != true || s.Data["last_renewal"] != nil {
		t.Errorf("lookup %v", s.Data)
	}
	s = need[*bao.Secret](t)(did(t, h.sys().Renew)(id, 600))
	if s.LeaseID != id || s.LeaseDuration != 600 || !s.Renewable {
		t.Errorf("renewed %+v", s)
	}
	if s = need[*bao.Secret](t)(h.sys().Lookup(id)); s.Data["ttl"] == json.Number("3600") {
		t.Errorf("after the renewal: %v", s.Data)
	}
	gone := func(id string) {
		t.Helper()
		_, err := h.sys().Lookup(id)
		denied(t, h, err, http.StatusBadRequest, "lease not found")
		_, err = h.sys().Renew(id, 0)
		denied(t, h, err, http.StatusBadRequest, "lease")
	}
	done(t, did(t, h.sys().Revoke)(id))
	done(t, h.sys().Revoke(id)) // it has ended already
	gone(id)
	withOptions := did(t, h.sys().RevokeWithOptions)
	for _, options := range []bao.RevokeOptions{{Sync: true}, {Sync: false}, {Prefix: true, Sync: true}, {Prefix: true, Force: true}} {
		id := grant(t, prefix+"/one", time.Hour)
		if options.LeaseID = id; options.Prefix {
			options.LeaseID = prefix + "/one"
		}
		done(t, withOptions(&options))
		gone(id)
	}
	for _, revoke := range []func(string) error{did(t, h.sys().RevokePrefix), did(t, h.sys().RevokeForce)} {
		below, beside := grant(t, prefix+"/a/b", time.Hour), grant(t, prefix+"/ab", time.Hour)
		done(t, revoke(prefix+"/a"))
		gone(below)
		need[*bao.Secret](t)(h.sys().Lookup(beside))
	}
}

// The audit log tells where it is and how it would show a value, alike on all nodes.
// No token switches it on or off.
func TestOpenBaoAudit(t *testing.T) {
	h := newBaoHand(t)
	hashes := map[string]bool{}
	for range h.nodes {
		listed := need[map[string]*bao.Audit](t)(did(t, h.sys().ListAudit)())
		if d := listed["file/"]; d == nil || d.Type != "file" || d.Path != "file/" || len(d.Options) == 0 {
			t.Errorf("sinks %v", listed)
		}
		hashes[need[string](t)(did(t, h.sys().AuditHash)("file", "a value"))] = true
	}
	if len(hashes) != 1 {
		t.Errorf("the nodes have %d spellings for a value", len(hashes))
	}
	for hash := range hashes {
		if !strings.HasPrefix(hash, "hmac-sha256:") || strings.Contains(hash, "a value") {
			t.Errorf("hash %q", hash)
		}
	}
	_, err := h.sys().AuditHash("nosuch", "a value")
	denied(t, h, err, http.StatusBadRequest, "unknown audit device")
	denied(t, h, did(t, h.sys().EnableAudit)("mine", "file", "", map[string]string{"file_path": "/tmp/x"}), http.StatusBadRequest, "cannot enable audit device via API")
	denied(t, h, did(t, h.sys().EnableAuditWithOptions)("mine", &bao.EnableAuditOptions{Type: "socket"}), http.StatusBadRequest, "cannot enable audit device via API")
	denied(t, h, did(t, h.sys().DisableAudit)("file"), http.StatusBadRequest, "cannot disable audit device via API")
	other := h.as(need[*bao.Secret](t)(h.tokens().Create(&bao.TokenCreateRequest{Policies: []string{"default"}})).Auth.ClientToken)
	_, err = other.sys().ListAudit()
	denied(t, h, err, http.StatusForbidden, "permission denied")
	_, err = other.sys().AuditHash("file", "guess")
	denied(t, h, err, http.StatusForbidden, "permission denied")
}
