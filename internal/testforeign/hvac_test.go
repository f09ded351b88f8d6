package testforeign

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// hvac (Python) relies on the verb LIST, on the data of old paths at the top of the
// answer as well, on the legacy paths and names, and on codes, which it turns into
// exceptions.
func TestHvac(t *testing.T) {
	w := newWire(t)
	name := unique(t)

	// list_auth_methods, list_mounted_secrets_engines, list_policies, key_status,
	// list_audit_devices: read at the top.
	for path, key := range map[string]string{"sys/auth": "token/", "sys/mounts": "secret/", "sys/policy": "keys", "sys/key-status": "term",
		"sys/audit": "file/", "sys/ha-status": "nodes", "sys/auth/token/tune": "max_lease_ttl", "sys/mounts/secret/tune": "max_lease_ttl"} {
		s := w.do(http.MethodGet, path, "").is(200)
		s.there(nil, key)
		s.there([]string{"data"}, key)
	}
	s := w.do("LIST", "sys/policies/acl", "").is(200)
	if s.at("keys") != nil || s.at("data", "keys") == nil {
		t.Errorf("policies/acl answers %s", s.body)
	}
	s = w.do(http.MethodPost, "sys/capabilities-self", `{"paths": ["secret/data/x"]}`).is(200)
	s.has("capabilities", `["root"]`).has("data.capabilities", `["root"]`)

	// A version that is sent as a number reads as text; "generic" is kv.
	w.do(http.MethodPost, "sys/mounts/"+name, `{"type": "kv", "options": {"version": 2}}`).is(204)
	w.do(http.MethodGet, "sys/mounts/"+name, "").is(200).has("data.options.version", `"2"`)
	w.do(http.MethodPost, "sys/mounts/"+name+"-old", `{"type": "generic"}`).is(204)
	w.do(http.MethodGet, "sys/mounts/"+name+"-old/tune", "").is(200).has("data.max_lease_ttl", "2764800").has("max_lease_ttl", "2764800")
	w.do(http.MethodPost, "sys/remount", fmt.Sprintf(`{"from": %q, "to": %q}`, name+"-old", name+"-new")).is(200)
	if w.do(http.MethodGet, "sys/mounts", "").is(200).at(name+"-new/") == nil {
		t.Error("what was moved is not listed at once")
	}
	w.do(http.MethodPut, name+"-new/a", `{"k": "v"}`).is(204)
	w.do("LIST", name+"-new", "").is(200).has("data.keys", `["a"]`)
	w.do("LIST", name+"-new/none", "").says(404, "")

	// Policies, under their old path and in their old words.
	w.do(http.MethodPut, "sys/policy/"+name, `{"policy": "path \"secret/data/`+name+`\" { policy = \"write\" }"}`).is(204)
	s = w.do(http.MethodGet, "sys/policy/"+name, "").is(200)
	if !strings.Contains(s.text("rules"), `policy = "write"`) || s.text("data", "rules") != s.text("rules") {
		t.Errorf("the policy reads %s", s.body)
	}
	made := w.do(http.MethodPost, "auth/token/create", `{"policies": ["`+name+`"], "ttl": "1h"}`).is(200)
	own := w.with(made.text("auth", "client_token"))
	own.do(http.MethodPost, "secret/data/"+name, `{"data": {"k": "v"}}`).is(200)
	own.do(http.MethodGet, "secret/data/other", "").says(403, "permission denied")
	own.do(http.MethodPut, "sys/rotate", "").says(403, "permission denied")
	w.do(http.MethodDelete, "sys/policy/"+name, "").is(204)

	w.hvacAppRole(name)

	// What is revoked is told apart from what is denied.
	w.do(http.MethodPost, "auth/token/revoke-accessor", `{"accessor": "`+made.text("auth", "accessor")+`"}`).is(204)
	w.do(http.MethodPost, "auth/token/lookup", `{"token": "`+own.token+`"}`).says(403, "bad token")
	w.do(http.MethodPost, "auth/token/lookup-accessor", `{"accessor": "`+made.text("auth", "accessor")+`"}`).says(400, "invalid accessor")
	w.do("LIST", "auth/token/accessors", "").is(200).there([]string{"data"}, "keys")

	// The exceptions.
	w.do(http.MethodGet, "secret/data/"+name+"/none", "").says(404, "")
	w.do(http.MethodGet, name+"-nosuch/x", "").says(404, "no handler for route")
	w.do(http.MethodPost, "secret/data/"+name, `{"data": {}, "options": {"cas": 99}}`).says(400, "check-and-set")
	w.do(http.MethodPatch, "secret/data/"+name, `{"data": {}}`).is(415)
	w.do(http.MethodDelete, "sys/policy", "").is(405)
	w.with("hvs.nosuchtokennosuchtoken99").do(http.MethodGet, "secret/data/"+name, "").says(403, "permission denied")
	w.hvacControlByte()

	// Health, with every code that it can be asked for.
	const codes = "standbyok=true&perfstandbyok=true&activecode=298&standbycode=299&drsecondarycode=297&performancestandbycode=296&sealedcode=295&uninitcode=294"
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		for range cluster.Nodes {
			s := w.do(method, "sys/health?"+codes, "").is(298)
			if (len(s.body) == 0) != (method == http.MethodHead) {
				t.Errorf("%s has the body %q", s.asked, s.body)
			}
		}
	}
	w.do(http.MethodPut, "sys/rotate", "").is(204)
	wrapped := w.do(http.MethodPost, "sys/wrapping/wrap", `{"a": "b"}`, "X-Vault-Wrap-TTL", "60").is(200)
	w.do(http.MethodPost, "sys/wrapping/lookup", `{"token": "`+wrapped.text("wrap_info", "token")+`"}`).is(200).has("data.creation_path", `"sys/wrapping/wrap"`)
	w.do(http.MethodPost, "sys/wrapping/unwrap", `{"token": "`+wrapped.text("wrap_info", "token")+`"}`).is(200).has("data.a", `"b"`)
	w.do(http.MethodPost, "sys/wrapping/wrap", `{"a": "b"}`).says(400, "endpoint requires response wrapping to be used")
	w.do("LIST", "sys/leases/lookup/"+name, "").says(404, "")
}

// hvacAppRole goes through the endpoints of a role that hvac has words for.
func (w *wire) hvacAppRole(name string) {
	w.Helper()
	w.do(http.MethodPost, "sys/auth/"+name, `{"type": "approle"}`).is(204)
	role := "auth/" + name + "/role/web"
	w.do(http.MethodPost, role, `{"token_policies": "default", "token_ttl": "10m", "secret_id_num_uses": "0"}`).is(204)
	s := w.do(http.MethodGet, role, "").is(200).has("data.token_policies", `["default"]`).has("data.token_ttl", "600").has("data.token_type", `"default"`)
	s.whole("data", "secret_id_num_uses")
	w.do("LIST", "auth/"+name+"/role", "").is(200).has("data.keys", `["web"]`)
	roleID := w.do(http.MethodGet, role+"/role-id", "").is(200).text("data", "role_id")
	w.do(http.MethodPost, role+"/custom-secret-id", `{"secret_id": "chosen-secret", "metadata": "{\"from\": \"here\"}"}`).is(200).has("data.secret_id", `"chosen-secret"`)
	accessor := w.do(http.MethodPost, role+"/secret-id/lookup", `{"secret_id": "chosen-secret"}`).is(200).has("data.metadata.from", `"here"`).text("data", "secret_id_accessor")
	w.do(http.MethodPost, role+"/secret-id-accessor/lookup", `{"secret_id_accessor": "`+accessor+`"}`).is(200)
	w.do("LIST", role+"/secret-id", "").is(200).has("data.keys", `["`+accessor+`"]`)
	login := fmt.Sprintf(`{"role_id": %q, "secret_id": "chosen-secret"}`, roleID)
	w.with("").do(http.MethodPost, "auth/"+name+"/login", login).is(200).has("auth.metadata.role_name", `"web"`).has("auth.token_type", `"service"`)
	w.do(http.MethodPost, role+"/secret-id-accessor/destroy", `{"secret_id_accessor": "`+accessor+`"}`).is(204)
	w.with("").do(http.MethodPost, "auth/"+name+"/login", login).says(400, "invalid role or secret ID")
	w.do(http.MethodDelete, "sys/auth/"+name, "").is(204)
	w.with("").do(http.MethodPost, "auth/"+name+"/login", login).says(403, "permission denied")
}

// hvacControlByte sends a token that no client of Go would send.
func (w *wire) hvacControlByte() {
	w.Helper()
	n := cluster.Nodes[0]
	pool, err := authority(n)
	if err != nil {
		w.Fatal(err)
	}
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool}}
	conn, err := dialer.DialContext(w.Context(), "tcp", n.HTTP)
	if err != nil {
		w.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "GET /v1/auth/token/lookup-self HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Vault-Token: a\x01b\r\n\r\n")
	line := make([]byte, len("HTTP/1.1 400"))
	if err == nil {
		_, err = conn.Read(line)
	}
	if err != nil || string(line) != "HTTP/1.1 400" {
		w.Errorf("a token with a control byte is answered %q, %v", line, err)
	}
	if err := conn.Close(); err != nil {
		w.Error(err)
	}
}
