package testforeign

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// machine mounts approle and returns how a machine logs in there.
func (w *wire) machine(name, policies string) (mount, login string) {
	w.Helper()
	w.do(http.MethodPost, "sys/auth/"+name, `{"type": "approle"}`).is(204)
	role := "auth/" + name + "/role/web"
	w.do(http.MethodPost, role, fmt.Sprintf(`{"token_policies": %q, "token_ttl": "20m", "token_max_ttl": "1h"}`, policies)).is(204)
	roleID := w.do(http.MethodGet, role+"/role-id", "").is(200).text("data", "role_id")
	secretID := w.do(http.MethodPut, role+"/secret-id", "").is(200).text("data", "secret_id")
	return "auth/" + name, fmt.Sprintf(`{"role_id": %q, "secret_id": %q}`, roleID, secretID)
}

// External Secrets Operator logs in for each reconciliation and looks at its token:
// type, ttl, and expire_time, which must be there even if it is null. It pushes
// metadata before data, with check-and-set by current_version, and tells a secret that
// is missing from one that was deleted.
func TestExternalSecretsOperator(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	w.do(http.MethodPut, "sys/policies/acl/"+name, fmt.Sprintf(`{"policy": %q}`, `path "secret/*" { capabilities = ["create", "read", "update", "delete", "list"] }`)).is(204)
	mount, login := w.machine(name, name)
	w.do(http.MethodGet, "auth/token/lookup-self", "").is(200).has("data.expire_time", "null").has("data.ttl", "0").there([]string{"data"}, "expire_time")

	own := w.with(w.with("").do(http.MethodPut, mount+"/login", login).is(200).text("auth", "client_token"))
	self := own.do(http.MethodGet, "auth/token/lookup-self", "").is(200).has("data.type", `"service"`)
	self.whole("data", "ttl")
	self.text("data", "expire_time")

	data, metadata := "secret/data/"+name+"/a", "secret/metadata/"+name+"/a"
	own.do(http.MethodGet, metadata, "").says(404, "")
	own.do(http.MethodPut, metadata, `{"custom_metadata": {"managed-by": "external-secrets"}}`).is(204)
	own.do(http.MethodGet, metadata, "").is(200).has("data.current_version", "0").has("data.versions", "{}").has("data.custom_metadata.managed-by", `"external-secrets"`)
	own.do(http.MethodGet, data, "").says(404, "")
	own.do(http.MethodPut, data, `{"data": {"k": "v"}, "options": {"cas": 0}}`).is(200)
	version := own.do(http.MethodGet, metadata, "").is(200).has("data.current_version", "1").at("data", "current_version").(json.Number)
	written := own.do(http.MethodPut, data, `{"data": {"k": "w"}, "options": {"cas": `+version.String()+`}}`).is(200)
	own.do(http.MethodPut, data, `{"data": {"k": "x"}, "options": {"cas": `+version.String()+`}}`).says(400, "check-and-set")

	// It reads its own writes, by the mark of the answer, from whatever node it asks.
	mark := []string{"X-Vault-Index", written.header.Get("X-Vault-Index"), "X-Vault-Inconsistent", "forward-active-node"}
	own.do(http.MethodGet, data, "", mark...).is(200).has("data.data.k", `"w"`)
	own.do(http.MethodGet, data, "", mark[:2]...).is(200).has("data.data.k", `"w"`)
	own.do(http.MethodGet, data+"?version=1", "").is(200).has("data.data.k", `"v"`).has("data.metadata.version", "1")
	own.do(http.MethodGet, data+"?version=9", "").says(404, "")

	own.do(http.MethodPut, "secret/data/"+name+"/deep/b", `{"data": {}}`).is(200)
	own.do(http.MethodGet, "secret/metadata/"+name+"?list=true", "").is(200).has("data.keys", `["a","deep/"]`)
	own.do(http.MethodGet, "secret/metadata/"+name+"/deep?list=true", "").is(200).has("data.keys", `["b"]`)

	own.do(http.MethodDelete, data, "").is(204)
	own.do(http.MethodGet, data, "").is(404).has("data.data", "null").text("data", "metadata", "deletion_time")
	own.do(http.MethodDelete, metadata, "").is(204)
	own.do(http.MethodGet, data, "").says(404, "")
	own.do(http.MethodPut, "auth/token/revoke-self", "").is(204)
	own.do(http.MethodGet, "auth/token/lookup-self", "").says(403, "permission denied")

	// Version 1, whose whole answer is the secret.
	w.do(http.MethodPost, "sys/mounts/"+name, `{"type": "kv", "options": {"version": "1"}}`).is(204)
	w.do(http.MethodPut, name+"/x", `{"k": "v"}`).is(204)
	w.do(http.MethodGet, name+"/x", "").is(200).has("data", `{"k":"v"}`)
	w.do(http.MethodGet, name+"/none", "").says(404, "")
}

// consul-template asks which version a mount has before its first read; any error
// makes it take the mount for one of version 1. How long it waits it takes from whole
// numbers: lease_duration, and what an engine has in its data.
func TestConsulTemplate(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	w.do(http.MethodPut, "sys/policies/acl/"+name, fmt.Sprintf(`{"policy": %q}`, `path "secret/data/`+name+`/*" { capabilities = ["create", "update", "read"] }`)).is(204)
	own := w.with(w.do(http.MethodPost, "auth/token/create", `{"policies": "`+name+`", "ttl": "1h"}`).is(200).text("auth", "client_token"))
	own.do(http.MethodGet, "sys/internal/ui/mounts/secret/data/"+name+"/a", "").is(200).has("data.path", `"secret/"`).has("data.options.version", `"2"`).has("data.type", `"kv"`)
	w.do(http.MethodPost, "sys/mounts/"+name, `{"type": "kv", "options": {"version": "1"}}`).is(204)
	w.do(http.MethodGet, "sys/internal/ui/mounts/"+name+"/a", "").is(200).has("data.path", `"`+name+`/"`).has("data.options.version", `"1"`)
	for _, path := range []string{name + "/a", name + "-nosuch/a"} { // no right and no mount look alike
		own.do(http.MethodGet, "sys/internal/ui/mounts/"+path, "").says(403, fmt.Sprintf("please ensure client's policies grant access to path %q", path+"/"))
	}

	own.do(http.MethodPut, "secret/data/"+name+"/a", `{"data": {"k": "v"}}`).is(200)
	s := own.do(http.MethodGet, "secret/data/"+name+"/a", "").is(200).has("lease_duration", "0").has("renewable", "false").has("lease_id", `""`)
	s.has("data.metadata.deletion_time", `""`).whole("data", "metadata", "version")
	w.do(http.MethodPut, name+"/a", `{"k": "v"}`).is(204)
	w.do(http.MethodGet, name+"/a", "").is(200).whole("lease_duration")
	w.do(http.MethodDelete, "secret/data/"+name+"/a", "").is(204)
	own.do(http.MethodGet, "secret/data/"+name+"/a", "").is(404).text("data", "metadata", "deletion_time")

	_, login := w.machine(name, "default")
	secret := w.do(http.MethodPut, "auth/"+name+"/role/web/secret-id", "").is(200)
	secret.whole("data", "secret_id_ttl")
	logged := w.with("").do(http.MethodPut, "auth/"+name+"/login", login).is(200).has("auth.renewable", "true")
	logged.whole("auth", "lease_duration")
	w.with(logged.text("auth", "client_token")).do(http.MethodPut, "auth/token/renew-self", `{}`).is(200).whole("auth", "lease_duration")

	// Its token may come wrapped.
	wrapped := w.do(http.MethodPost, "auth/token/create", `{"policies": "default"}`, "X-Vault-Wrap-TTL", "1m").is(200)
	unwrapper := w.with(wrapped.text("wrap_info", "token"))
	unwrapper.do(http.MethodPut, "sys/wrapping/unwrap", "").is(200).text("auth", "client_token")
	unwrapper.do(http.MethodPut, "sys/wrapping/unwrap", "").says(400, "wrapping token is not valid or does not exist")

	id := grant(t, "leases/"+name, time.Hour)
	s = w.do(http.MethodPut, "sys/leases/renew", fmt.Sprintf(`{"lease_id": %q, "increment": 600}`, id)).is(200).has("lease_duration", "600").has("renewable", "true")
	s.has("lease_id", fmt.Sprintf("%q", id))
}

// The agent gets a wrapped secret id and takes it only if it was wrapped by the path
// that it expects, letter by letter. Of its token it takes ttl, renewable and type for
// what they must be, without looking. Its cache forgets a token when revoking it is
// answered 204, and nothing else.
func TestAgent(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	mount, login := w.machine(name, "default")
	wrapped := w.do(http.MethodPut, mount+"/role/web/secret-id", "", "X-Vault-Wrap-TTL", "5m").is(200).has("data", "null").has("auth", "null")
	wrapped.has("wrap_info.creation_path", `"`+mount+`/role/web/secret-id"`).whole("wrap_info", "ttl")
	wrapper := w.with(wrapped.text("wrap_info", "token"))
	look := wrapper.do(http.MethodGet, "sys/wrapping/lookup", "").is(200).has("data.creation_path", `"`+mount+`/role/web/secret-id"`)
	look.text("data", "creation_time")
	look.whole("data", "creation_ttl")
	secretID := wrapper.do(http.MethodPut, "sys/wrapping/unwrap", "").is(200).text("data", "secret_id")
	wrapper.do(http.MethodGet, "sys/wrapping/lookup", "").is(400)

	var sent map[string]string
	if err := json.Unmarshal([]byte(login), &sent); err != nil {
		t.Fatal(err)
	}
	nobody := w.with("")
	logged := nobody.do(http.MethodPut, mount+"/login", fmt.Sprintf(`{"role_id": %q, "secret_id": %q}`, sent["role_id"], secretID)).is(200)
	logged.has("auth.metadata.role_name", `"web"`).has("auth.renewable", "true").whole("auth", "lease_duration")
	own := w.with(logged.text("auth", "client_token"))
	self := own.do(http.MethodGet, "auth/token/lookup-self", "").is(200).has("data.renewable", "true").has("data.type", `"service"`)
	self.whole("data", "ttl")
	own.do(http.MethodPut, "auth/token/renew-self", `{"increment": 0}`).is(200).has("auth.renewable", "true")

	// A sink may hold the token wrapped.
	sink := own.do(http.MethodPost, "sys/wrapping/wrap", `{"token": "`+own.token+`"}`, "X-Vault-Wrap-TTL", "60s").is(200)
	nobody.do(http.MethodPut, "sys/wrapping/unwrap", `{"token": "`+sink.text("wrap_info", "token")+`"}`).is(200).has("data.token", `"`+own.token+`"`)

	own.do(http.MethodGet, "sys/health?standbyok=true", "").is(200)
	own.do(http.MethodPut, "auth/token/revoke-self", "").is(204)
	id := grant(t, "leases/"+name, time.Hour)
	w.do(http.MethodPut, "sys/leases/revoke", fmt.Sprintf(`{"lease_id": %q}`, id)).is(204)
	for _, how := range []string{"revoke", "revoke-orphan", "revoke-accessor"} {
		made := w.do(http.MethodPost, "auth/token/create", `{"policies": "default"}`).is(200)
		w.do(http.MethodPut, "auth/token/"+how, fmt.Sprintf(`{"token": %q, "accessor": %q}`, made.text("auth", "client_token"), made.text("auth", "accessor"))).is(204)
	}
}

// The CSI provider and the secrets operator log in again when they are told 403, and
// take a lease that is renewed for less than they asked for one that ends.
func TestSecretsOperator(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	w.do(http.MethodGet, "sys/seal-status", "").is(200).has("sealed", "false")
	mount, login := w.machine(name, "default")
	own := w.with(w.with("").do(http.MethodPut, mount+"/login", login).is(200).text("auth", "client_token"))
	own.do(http.MethodPut, "auth/token/revoke-self", "").is(204)
	own.do(http.MethodGet, "secret/data/"+name, "").says(403, "permission denied")
	w.do(http.MethodPost, "sys/auth/"+name+"-jwt", `{"type": "jwt"}`).is(204)
	denied := w.with("").do(http.MethodPut, "auth/"+name+"-jwt/login", `{"role": "nosuch", "jwt": "a.b.c"}`)
	if denied.code != 400 && denied.code != 403 {
		t.Errorf("a denied login: %d %s", denied.code, denied.body)
	}
	own = w.with(w.with("").do(http.MethodPut, mount+"/login", login).is(200).text("auth", "client_token"))
	renewed := own.do(http.MethodPut, "auth/token/renew-self", `{"increment": 36000}`).is(200)
	if n, err := renewed.at("auth", "lease_duration").(json.Number).Int64(); err != nil || n > 3600 || !strings.Contains(string(renewed.body), "max_ttl") {
		t.Errorf("renewed for too long: %s", renewed.body)
	}
}
