package core_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/engine/database/postgresql"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testpostgres"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func TestMain(m *testing.M) { os.Exit(testpostgres.Main(m)) }

// bank is an office with a database engine at db/, and a real PostgreSQL with a user of
// its own to log in as.
type bank struct {
	*office
	server *testpostgres.Server
	root   string // whom the config logs in as
	mark   string // the users made by roles of this name are this test's
}

const rootPassword = "first0Root1password"

var banks atomic.Int64

func newBank(t *testing.T) *bank {
	t.Helper()
	s := testpostgres.Get(t)
	backend := database.New(postgresql.Plugin{})
	backend.Timeout = 5 * time.Second
	t.Cleanup(backend.Close)
	n := banks.Add(1)
	b := &bank{newOfficeWith(t, map[string]engine.Backend{"database": backend}), s, fmt.Sprintf("root%d", n), fmt.Sprintf("mark%d", n)}
	s.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", b.root, rootPassword))
	b.single().Advance(time.Since(b.now())) // users end by the server's clock
	b.must(b.office.root, engine.VerbWrite, "sys/mounts/db", `{"type": "database"}`)
	b.must(b.office.root, engine.VerbWrite, "db/config/pg", b.config(nil))
	b.must(b.office.root, engine.VerbWrite, "db/roles/"+b.mark, b.role(nil))
	return b
}

// config is the body of a config that works, but for changes.
func (b *bank) config(changes map[string]any) string {
	return b.body(map[string]any{"plugin_name": "postgresql-database-plugin", "connection_url": b.server.URL("postgres"), "username": b.root,
		"password": rootPassword, "allowed_roles": "*"}, changes)
}

const createUser = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`

// role is the body of a role that works, but for changes.
func (b *bank) role(changes map[string]any) string {
	return b.body(map[string]any{"db_name": "pg", "default_ttl": "1h", "max_ttl": "24h", "creation_statements": createUser}, changes)
}

func (b *bank) body(fields, changes map[string]any) string {
	b.t.Helper()
	for name, value := range changes {
		fields[name] = value
	}
	text, err := json.Marshal(fields)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// user is a user that was made.
type user struct{ name, password, lease string }

func userOf(t *testing.T, reply *core.Reply) (c user) {
	t.Helper()
	text, err := json.Marshal(reply.Data)
	if err != nil {
		t.Fatal(err)
	}
	var data struct{ Username, Password string }
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	return user{data.Username, data.Password, reply.LeaseID}
}

func (b *bank) make() user {
	b.t.Helper()
	return userOf(b.t, b.must(b.office.root, engine.VerbRead, "db/creds/"+b.mark, ""))
}

func (b *bank) revoke(c user) {
	b.t.Helper()
	b.must(b.office.root, engine.VerbWrite, "sys/leases/revoke", `{"lease_id": "`+c.lease+`"}`)
}

// users are those in the database that this test's role made.
func (b *bank) users() []string { return b.server.Users(b.t, "%-"+b.mark+"-%") }

func (b *bank) wantLogin(c user, want bool) {
	b.t.Helper()
	if err := b.server.Login(b.t.Context(), c.name, c.password); (err == nil) != want {
		b.t.Errorf("login: %v, want it to succeed: %v", err, want)
	}
}

// refusedFor asks for something that fails for a reason, in words, and repeats no secret.
func (b *bank) refusedFor(reason conclavev1.Reason, words string, verb engine.Verb, path, body string) {
	b.t.Helper()
	reply, err := b.do(b.office.root, verb, path, body)
	if err == nil {
		b.t.Errorf("%v %s: answered %+v", verb, path, reply.Data)
		return
	}
	wants(b.t, err, reason)
	if !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), rootPassword) {
		b.t.Errorf("%v %s: %v, want %q", verb, path, err, words)
	}
}

// A credential logs in, lasts longer when it is renewed, and is gone with its lease; its
// password is in no log.
func TestDatabaseCredential(t *testing.T) {
	b := newBank(t)
	made := b.must(b.office.root, engine.VerbRead, "db/creds/"+b.mark, "")
	c := userOf(t, made)
	if !strings.HasPrefix(c.name, "v-root-"+b.mark+"-") || len(c.password) != 20 || made.LeaseDuration != time.Hour || !made.Renewable {
		t.Errorf("answered %+v %+v", c.name, made.Answer)
	}
	b.wantLogin(c, true)
	b.must(b.office.root, engine.VerbWrite, "sys/leases/renew", `{"lease_id": "`+c.lease+`", "increment": "2h"}`)
	b.wantLogin(c, true)
	b.undo()
	b.revoke(c)
	b.awaitLeases(0)
	b.wantLogin(c, false)
	if left := b.users(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if !b.server.Logged(t, c.name) || b.server.Logged(t, c.password) {
		t.Error("the server's log shows the password, or not even the user")
	}
	if text := fmt.Sprintf("%+v", b.log.entries); strings.Contains(text, c.password) || strings.Contains(text, rootPassword) {
		t.Error("the audit log shows a password")
	}
	shown := b.must(b.office.root, engine.VerbRead, "db/config/pg", "")
	if text := b.body(map[string]any{"data": shown.Data}, nil); strings.Contains(text, rootPassword) {
		t.Error("a config shows its password")
	}
}

// Passwords are made by the policy that the config names, whatever characters it has.
func TestDatabasePasswordPolicy(t *testing.T) {
	b := newBank(t)
	b.must(b.office.root, engine.VerbWrite, "sys/policies/password/odd", b.body(map[string]any{"policy": `length = 30
rule "charset" {
  charset = "'\"\\$;{}% "
}`}, nil))
	b.must(b.office.root, engine.VerbWrite, "db/config/pg", `{"password_policy": "odd"}`)
	c := b.make()
	if strings.Trim(c.password, "'\"\\$;{}% ") != "" || len(c.password) != 30 {
		t.Error("the password is not by the policy")
	}
	url := strings.NewReplacer("{{username}}:{{password}}@", "").Replace(b.server.URL("postgres"))
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password = c.name, c.password // no URL could hold it as it is
	session, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What has expired cannot log in.
func TestDatabaseExpiry(t *testing.T) {
	b := newBank(t)
	c := b.make()
	b.undo()
	b.single().Advance(2 * time.Hour)
	b.awaitLeases(0)
	b.wantLogin(c, false)
}

// Statements that do not parse or fail half way leave nothing, and no lease.
func TestDatabaseFailures(t *testing.T) {
	b := newBank(t)
	b.undo()
	for statements, words := range map[string]string{
		"CREATE RILE": "statement 1 of creation_statements failed, SQLSTATE 42601",
		createUser + `GRANT nobody TO "{{name}}"`:                    "statement 2 of creation_statements failed, SQLSTATE 42704",
		createUser + `SELECT 'open`:                                  "not closed",
		createUser + `SELECT pg_sleep(30)`:                           "took too long",
		createUser + `SELECT pg_terminate_backend(pg_backend_pid())`: "creation_statements failed",
	} {
		b.must(b.office.root, engine.VerbWrite, "db/roles/"+b.mark, b.role(map[string]any{"creation_statements": statements}))
		b.refusedFor(conclavev1.Reason_REASON_OUTSIDE, words, engine.VerbRead, "db/creds/"+b.mark, "")
		b.awaitLeases(0)
		if left := b.users(); len(left) > 0 {
			t.Errorf("%s: left: %q", statements, left)
		}
	}
}

// What cannot work is refused when it is written, and says why.
func TestDatabaseRefusals(t *testing.T) {
	b := newBank(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts, and says nothing
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(l net.Listener) string {
		return "postgresql://{{username}}:{{password}}@" + l.Addr().String() + "/postgres"
	}
	for words, changes := range map[string]map[string]any{
		"refuses the user name or the password": {"password": "wrong"},
		"connection refused":                    {"connection_url": at(gone)},
		"does not answer in time":               {"connection_url": at(l)},
		"certificate":                           {"tls_ca": otherAuthority},
		"no database of that name":              {"connection_url": b.server.URL("nowhere")},
	} {
		b.refusedFor(conclavev1.Reason_REASON_OUTSIDE, words, engine.VerbWrite, "db/config/other", b.config(changes))
		b.must(b.office.root, engine.VerbWrite, "db/config/unseen", b.config(map[string]any{"verify_connection": false, "connection_url": at(gone)}))
	}
	b.refusedFor(conclavev1.Reason_REASON_NOT_FOUND, "config", engine.VerbRead, "db/config/other", "")
	for words, changes := range map[string]map[string]any{
		"plugin_name is none of":      {"plugin_name": "mysql"},
		"connection_url is missing":   {"connection_url": ""},
		"no password policy":          {"password_policy": "none"},
		"characters of a name":        {"username_template": "{{.RoleName | truncate 8}}"},
		"truncate it":                 {"username_template": "{{.RoleName}}-{{random 20}}"},
		"name of the role in allowed": {"allowed_roles": "a*"},
	} {
		b.refusedFor(conclavev1.Reason_REASON_INVALID, words, engine.VerbWrite, "db/config/other", b.config(changes))
	}
	for words, changes := range map[string]map[string]any{
		"default_ttl is above max_ttl":    {"default_ttl": "48h"},
		"creation_statements are missing": {"creation_statements": ""},
		"credential_type":                 {"credential_type": "rsa_private_key"},
		"8192 bytes":                      {"revocation_statements": strings.Repeat("x", 9000)},
	} {
		b.refusedFor(conclavev1.Reason_REASON_INVALID, words, engine.VerbWrite, "db/roles/other", b.role(changes))
	}
	b.refusedFor(conclavev1.Reason_REASON_INVALID, "no role", engine.VerbRead, "db/creds/none", "")
	b.must(b.office.root, engine.VerbWrite, "db/config/pg", `{"allowed_roles": "another"}`)
	b.refusedFor(conclavev1.Reason_REASON_INVALID, "allowed_roles", engine.VerbRead, "db/creds/"+b.mark, "")
	b.awaitLeases(0)
}

// A user that somebody dropped by hand is no obstacle to its lease's end.
func TestDatabaseDroppedByHand(t *testing.T) {
	b := newBank(t)
	c := b.make()
	b.server.Exec(t, `DROP ROLE "`+c.name+`"`)
	if _, err := b.do(b.office.root, engine.VerbWrite, "sys/leases/renew", `{"lease_id": "`+c.lease+`"}`); err == nil {
		t.Error("renewed a user that is not there")
	}
	b.undo()
	b.revoke(c)
	b.awaitLeases(0)
}

// Two mounts know nothing of each other.
func TestDatabaseMounts(t *testing.T) {
	b := newBank(t)
	b.must(b.office.root, engine.VerbWrite, "sys/mounts/db2", `{"type": "database"}`)
	b.must(b.office.root, engine.VerbWrite, "db2/config/pg", b.config(nil))
	b.must(b.office.root, engine.VerbWrite, "db2/roles/"+b.mark, b.role(nil))
	first, second := b.make(), userOf(t, b.must(b.office.root, engine.VerbRead, "db2/creds/"+b.mark, ""))
	b.undo()
	b.must(b.office.root, engine.VerbDelete, "sys/mounts/db", "")
	b.awaitLeases(1)
	b.wantLogin(first, false)
	b.wantLogin(second, true)
	b.revoke(second)
	b.awaitLeases(0)
	b.wantLogin(second, false)
}

// Users outlive changes and the removal of their role and config, and are still removed:
// with what their role said when they were made, and with how to log in now.
func TestDatabaseChanges(t *testing.T) {
	b := newBank(t)
	before := b.rows()
	b.must(b.office.root, engine.VerbWrite, "db/roles/"+b.mark, b.role(map[string]any{"revocation_statements": []string{`DROP ROLE "{{name}}"`}}))
	c := b.make()
	b.must(b.office.root, engine.VerbDelete, "db/roles/"+b.mark, "")
	b.server.Exec(t, "ALTER ROLE "+b.root+" PASSWORD 'second0Root1password'")
	b.must(b.office.root, engine.VerbWrite, "db/config/pg", `{"password": "second0Root1password"}`)
	b.must(b.office.root, engine.VerbWrite, "db/reset/pg", "")
	if gone := b.must(b.office.root, engine.VerbDelete, "db/config/pg", ""); len(gone.Warnings) != 1 {
		t.Errorf("removing a config with a lease warns %q", gone.Warnings)
	}
	b.refusedFor(conclavev1.Reason_REASON_NOT_FOUND, "config", engine.VerbRead, "db/config/pg", "")
	b.wantLogin(c, true)
	b.undo()
	b.revoke(c)
	b.awaitLeases(0)
	b.wantLogin(c, false)
	if gone := b.must(b.office.root, engine.VerbDelete, "db/config/pg", ""); len(gone.Warnings) != 0 {
		t.Errorf("removing a config without a lease warns %q", gone.Warnings)
	}
	if now := b.rows(); now != before-2 {
		t.Errorf("%d rows, want %d: those of before without a role and a config", now, before-2)
	}
}

// rotate asks for a rotation.
func (b *bank) rotate(c core.Caller) error {
	_, err := b.do(c, engine.VerbWrite, "db/rotate-root/pg", "")
	return err
}

// rootLogin tells whether the first password of the root still logs in.
func (b *bank) rootLogin() bool {
	return b.server.Login(b.t.Context(), b.root, rootPassword) == nil
}

// A rotation replaces the password, which is nobody's then but ours. It is one use of a
// token.
func TestDatabaseRotation(t *testing.T) {
	b := newBank(t)
	once, _ := b.token(`{"policies": ["root"], "num_uses": 1}`)
	if err := b.rotate(once); err != nil {
		t.Fatal(err)
	}
	if err := b.rotate(once); err == nil {
		t.Error("a token for one use has two")
	}
	if b.rootLogin() {
		t.Error("the old password logs in")
	}
	b.wantLogin(b.make(), true)
	if err := b.rotate(b.office.root); err != nil {
		t.Fatal(err)
	}
	b.wantLogin(b.make(), true)
}

// Wherever a rotation ends early, users can be made and removed, on a node that has open
// connections and on one that has none, and the next rotation is whole.
func TestDatabaseRotationCutShort(t *testing.T) {
	puts := func(n int) func(*fsm.Batch) error { // the nth commit of a rotation fails
		return func(batch *fsm.Batch) error {
			if batch.Operations[0].Kind == fsm.OpPutRecord {
				if n--; n == 0 {
					return fsm.ErrNotDone
				}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		refuse  func(*fsm.Batch) error
		changes map[string]any
		old     bool // the old password still logs in
	}{
		"before the new password is kept": {refuse: puts(1), old: true},
		"after the change":                {refuse: puts(2)},
		"the change fails":                {changes: map[string]any{"root_rotation_statements": "ALTER RILE"}, old: true},
		"the change was none":             {changes: map[string]any{"root_rotation_statements": "SELECT 1"}, old: true},
		"it changes to something else":    {changes: map[string]any{"root_rotation_statements": `SELECT 1; ALTER ROLE "{{name}}" PASSWORD '{{password}}'; SELECT 1/0`}, old: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t)
			b.undo()
			if c.changes != nil {
				b.must(b.office.root, engine.VerbWrite, "db/config/pg", b.config(c.changes))
			}
			warm := b.make()
			b.ledger.refuse = c.refuse
			if err := b.rotate(b.office.root); err == nil {
				t.Fatal("rotated")
			}
			b.ledger.refuse = nil
			if got := b.rootLogin(); got != c.old {
				t.Errorf("the old password logs in: %v, want %v", got, c.old)
			}
			b.wantLogin(b.make(), true)
			b.must(b.office.root, engine.VerbWrite, "db/reset/pg", "")
			cold := b.make()
			b.wantLogin(cold, true)
			b.must(b.office.root, engine.VerbWrite, "db/config/pg", `{"root_rotation_statements": []}`)
			if err := b.rotate(b.office.root); err != nil {
				t.Fatal(err)
			}
			if b.rootLogin() {
				t.Error("the old password logs in after the next rotation")
			}
			b.revoke(warm)
			b.revoke(cold)
			b.awaitLeases(1)
			b.wantLogin(b.make(), true)
		})
	}
}

// otherAuthority has signed nothing. Its key was thrown away.
const otherAuthority = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUe6k7K7g8WrtogUMBPZmcQldjdBAwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTMwMTUzNTM2WhgPMjEyNjExMDYxNTM1
MzZaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
RBGxjcuNszhRlCVtskbjTKpjKh1Smbs9QBs7/xCaIMhIoEPX0ha24wfyjMDkvDcV
Ld590llgbOaWRn6jII5UuaNTMFEwHQYDVR0OBBYEFDUh3zkWYqGYfY0VBjTcbdiW
KfL4MB8GA1UdIwQYMBaAFDUh3zkWYqGYfY0VBjTcbdiWKfL4MA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAM4jLKxSyP6moo/RUPJi65xGAIOT/8r9
LI3k7yDOOb56AiEAo/lXwQl57843wLLabjTDqnb670jfvodgCQSTts9kKq0=
-----END CERTIFICATE-----`
