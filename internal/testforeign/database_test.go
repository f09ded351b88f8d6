package testforeign

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/conclave-secrets/conclave/internal/testpostgres"
)

// A client enables the engine, says where the database is, makes a user and logs in with
// it; the user lives and dies with its lease. Each request goes to another node.
func TestVaultDatabaseCredentials(t *testing.T) {
	s := testpostgres.Get(t)
	h := newVaultHand(t)
	name := unique(t)
	mount, user := "db-"+name, "root-"+name
	s.Exec(t, `CREATE ROLE "`+user+`" LOGIN CREATEROLE PASSWORD 'First0password'`)
	done(t, h.sys().Mount(mount, &vault.MountInput{Type: "database"}))
	write := func(path string, data map[string]any) {
		t.Helper()
		if _, err := h.logical().Write(mount+"/"+path, data); err != nil {
			t.Fatal(err)
		}
	}
	config := map[string]any{"plugin_name": "postgresql-database-plugin", "connection_url": s.URL("postgres"), "allowed_roles": "*",
		"username": user, "password": "Wrong0password", "tls_ca": s.Authority}
	_, err := h.logical().Write(mount+"/config/pg", config)
	denied(t, h, err, http.StatusBadGateway, "refuses the user name or the password")
	config["password"] = "First0password"
	write("config/pg", config)
	write("rotate-root/pg", nil)
	if s.Login(t.Context(), user, "First0password") == nil {
		t.Error("after rotate-root the old password logs in")
	}
	write("roles/app", map[string]any{"db_name": "pg", "default_ttl": "1m", "max_ttl": "1h",
		"creation_statements": `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`})
	made := need[*vault.Secret](t)(h.logical().Read(mount + "/creds/app"))
	other := need[*vault.Secret](t)(h.logical().Read(mount + "/creds/app"))
	login := func(c *vault.Secret) error {
		return s.Login(t.Context(), c.Data["username"].(string), c.Data["password"].(string))
	}
	if !strings.HasPrefix(made.LeaseID, mount+"/creds/app/") || made.LeaseDuration != 60 || !made.Renewable {
		t.Errorf("made %+v", made)
	}
	done(t, login(made))
	done(t, login(other))
	if renewed := need[*vault.Secret](t)(h.sys().Renew(made.LeaseID, 120)); renewed.LeaseDuration != 120 {
		t.Errorf("renewed %+v", renewed)
	}
	done(t, login(made))
	done(t, h.sys().Revoke(made.LeaseID))
	eventually(t, "revoking a user", func() error { return refusal(login(made)) })
	done(t, login(other))
	done(t, h.sys().Unmount(mount))
	eventually(t, "removing the users of a mount that is disabled", func() error { return refusal(login(other)) })
}

// refusal is nil if a login was refused.
func refusal(err error) error {
	if err == nil {
		return errors.New("a user whose lease has ended logs in")
	}
	return nil
}
