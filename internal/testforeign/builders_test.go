package testforeign

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// The Terraform provider makes a token of its own from the one that it is given, and
// turns features on by the version that sys/seal-status names. By the text of a
// refusal it knows that a thing is gone, and not that something went wrong.
func TestTerraformProvider(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	w.do(http.MethodGet, "auth/token/lookup-self", "").is(200)
	made := w.do(http.MethodPost, "auth/token/create", `{"display_name": "terraform", "ttl": "1200s", "explicit_max_ttl": "1200s", "renewable": false, "num_uses": 0, "type": "", "entity_alias": ""}`).is(200)
	made.has("auth.lease_duration", "1200").has("auth.renewable", "false")
	own := w.with(made.text("auth", "client_token"))
	own.do(http.MethodGet, "auth/token/lookup-self", "").is(200).has("data.display_name", `"token-terraform"`).has("data.explicit_max_ttl", "1200")
	version := own.do(http.MethodGet, "sys/seal-status", "").is(200).text("version")
	parts := regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`).FindStringSubmatch(version)
	if parts == nil {
		t.Fatalf("the version %q is none of semver", version)
	}
	if minor, err := strconv.Atoi(parts[2]); err != nil || parts[1] != "1" || minor < 10 {
		t.Errorf("version %s turns off what there is", version)
	}

	own.do(http.MethodPost, "sys/mounts/"+name, `{"type": "kv", "options": {"version": "2"}, "description": "mine", "config": {"default_lease_ttl": "", "max_lease_ttl": "7200s", "force_no_cache": false}}`).is(204)
	own.do(http.MethodGet, "sys/mounts/"+name, "").is(200).has("data.description", `"mine"`).has("data.config.max_lease_ttl", "7200").text("data", "accessor")
	own.do(http.MethodPost, "sys/mounts/"+name+"/tune", `{"default_lease_ttl": "3600s", "max_lease_ttl": "", "description": "ours"}`).is(204)
	own.do(http.MethodGet, "sys/mounts/"+name+"/tune", "").is(200).has("data.default_lease_ttl", "3600").has("data.max_lease_ttl", "7200").has("data.description", `"ours"`)
	moved := own.do(http.MethodPost, "sys/remount", fmt.Sprintf(`{"from": %q, "to": %q}`, name, name+"-moved")).is(200).text("data", "migration_id")
	own.do(http.MethodGet, "sys/remount/status/"+moved, "").is(200).has("data.migration_info.status", `"success"`)
	own.do(http.MethodGet, "sys/mounts/"+name, "").says(400, "No secret engine mount at "+name+"/")
	own.do(http.MethodGet, "sys/auth/"+name, "").says(400, "No auth engine at "+name+"/")
	own.do(http.MethodGet, "sys/mounts/auth/"+name+"/tune", "").says(400, "No auth engine at "+name+"/")

	own.do(http.MethodPost, "sys/auth/"+name, `{"type": "userpass"}`).is(204)
	own.do(http.MethodPost, "sys/auth/"+name+"/tune", `{"listing_visibility": "unauth", "token_type": "default-service"}`).is(204)
	own.do(http.MethodGet, "sys/auth/"+name, "").is(200).has("data.config.listing_visibility", `"unauth"`)
	own.do(http.MethodGet, "sys/internal/ui/mounts/"+name+"-moved/a", "").is(200).has("data.options.version", `"2"`)
	own.do(http.MethodPost, "auth/token/lookup-accessor", `{"accessor": "nosuch"}`).says(400, "invalid accessor")
	own.do(http.MethodGet, "sys/policies/acl/"+name, "").says(404, "")
	own.do(http.MethodDelete, "sys/mounts/"+name+"-moved", "").is(204)
	own.do(http.MethodDelete, "sys/auth/"+name, "").is(204)
	own.do(http.MethodPut, "auth/token/revoke-self", "").is(204)
}

// Spring Vault tells what happened by texts, takes renewable for a truth value and
// lease_duration for a number, reads the body of a health check whatever its code, and
// in older settings uses the names of old for leases.
func TestSpringVault(t *testing.T) {
	w := newWire(t)
	name := unique(t)
	data := "secret/data/" + name
	w.do(http.MethodPost, data, `{"data": {"k": "v"}, "options": {"cas": 0}}`).is(200)
	s := w.do(http.MethodPost, data, `{"data": {"k": "w"}, "options": {"cas": 0}}`)
	s.says(400, "check-and-set")
	s.says(400, "did not match the current version")
	w.do(http.MethodPost, "sys/wrapping/unwrap", `{"token": "hvs.nosuchtokennosuchtoken99"}`).says(400, "does not exist")
	s = w.do(http.MethodGet, data, "").is(200).has("renewable", "false")
	s.whole("lease_duration")
	w.do(http.MethodGet, "secret/metadata?list=true", "").is(200).there([]string{"data"}, "keys")
	w.do(http.MethodGet, "sys/internal/ui/mounts/"+data, "").is(200).has("data.path", `"secret/"`)
	w.do(http.MethodGet, "sys/internal/ui/mounts", "").is(200).there([]string{"data", "secret"}, "secret/")

	standby := 0
	for range cluster.Nodes {
		s := w.with("").do(http.MethodGet, "sys/health", "")
		w.next++
		if s.code == http.StatusTooManyRequests {
			standby++
		}
		s.has("initialized", "true").has("sealed", "false").whole("server_time_utc")
		if standby := s.at("standby"); standby != (s.code == http.StatusTooManyRequests) {
			t.Errorf("%s: %d %s", s.asked, s.code, s.body)
		}
	}
	if standby != 2 {
		t.Errorf("%d nodes say that they stand by, want 2", standby)
	}

	made := w.do(http.MethodPost, "auth/token/create", `{"ttl": "1h", "policies": ["default"]}`).is(200)
	made.has("auth.renewable", "true").whole("auth", "lease_duration")
	own := w.with(made.text("auth", "client_token"))
	own.do(http.MethodPost, "auth/token/renew-self", "").is(200).has("auth.renewable", "true")
	w.do(http.MethodPost, "auth/token/renew", `{"token": "`+own.token+`", "increment": "10m"}`).is(200).has("auth.lease_duration", "600")
	own.do(http.MethodPost, "auth/token/revoke-self", "").is(204)
	own.do(http.MethodPost, "auth/token/renew-self", "").says(403, "permission denied")

	for _, names := range [][2]string{{"sys/leases/renew", "sys/leases/revoke"}, {"sys/renew", "sys/revoke"}} {
		id := grant(t, "leases/"+name, time.Hour)
		s := w.do(http.MethodPut, names[0], fmt.Sprintf(`{"lease_id": %q, "increment": "600"}`, id)).is(200).has("renewable", "true")
		s.has("lease_duration", "600")
		w.do(http.MethodPut, names[1], fmt.Sprintf(`{"lease_id": %q}`, id)).is(204)
		// The lease has expired: a new one is fetched.
		w.do(http.MethodPut, names[0], fmt.Sprintf(`{"lease_id": %q}`, id)).says(400, "lease")
	}
	w.do(http.MethodPut, "sys/leases/revoke-prefix/leases/"+name, "").is(204)
}
