package postgresql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// Plugin implements database.Plugin.
type Plugin struct{}

var _ database.Plugin = Plugin{}

// Names implements database.Plugin.
func (Plugin) Names() []string { return []string{"postgresql-database-plugin", "postgresql"} }

// Usernames implements database.Plugin. The template is Vault's; a longer name than 63
// bytes PostgreSQL would cut without a word.
func (Plugin) Usernames() database.Usernames {
	return database.Usernames{MaxBytes: 63,
		Template: `{{ printf "v-%s-%s-%s-%s" (.DisplayName | truncate 8) (.RoleName | truncate 8) (random 20) (unix_time) | truncate 63 }}`}
}

// Check implements database.Plugin.
func (Plugin) Check(s database.Settings) error {
	_, err := parse(s)
	return err
}

// Open implements database.Plugin.
func (Plugin) Open(s database.Settings) (database.Connection, error) {
	single, err := parse(s)
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig("host=localhost") // replaced; ParseConfig must have made it
	if err != nil {
		return nil, fmt.Errorf("making a pool: %w", err)
	}
	cfg.ConnConfig = single
	cfg.MaxConns = 4
	if s.MaxOpen > 0 {
		cfg.MaxConns = int32(s.MaxOpen)
	}
	if s.MaxLifetime > 0 {
		cfg.MaxConnLifetime = s.MaxLifetime
	}
	c := &connection{plain: s.Plain}
	if s.MaxIdle > 0 {
		cfg.AfterRelease = func(*pgx.Conn) bool { return int(c.pool.Stat().IdleConns()) < s.MaxIdle }
	}
	if c.pool, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, invalid("the settings make no pool of connections")
	}
	return c, nil
}

// connectTimeout bounds a connection that nobody waits for any more.
const connectTimeout = 20 * time.Second

// What stands for the user and the password while the URL is read, so that they need no
// escaping there.
const (
	userMark     = "conclave-user"
	passwordMark = "conclave-password"
)

// parse makes the configuration of a connection. The errors, engine.InvalidErrors, quote
// nothing.
func parse(s database.Settings) (*pgx.ConnConfig, error) {
	if s.URL == "" {
		return nil, invalid("connection_url is missing")
	}
	cfg, err := pgx.ParseConfig(strings.NewReplacer("{{username}}", userMark, "{{password}}", passwordMark).Replace(s.URL))
	switch {
	case err != nil:
		return nil, invalid("connection_url is no URL of a PostgreSQL database, such as postgresql://{{username}}:{{password}}@host:5432/name")
	case cfg.Password != passwordMark && cfg.Password != "":
		return nil, invalid("connection_url has a password: write {{password}} there, and the password into the field password")
	case s.Username == "" && cfg.User == userMark:
		return nil, invalid("username is missing")
	}
	for _, file := range []string{"sslrootcert", "sslcert", "sslkey", "sslpassword", "passfile", "servicefile", "service="} {
		if strings.Contains(s.URL, file) {
			return nil, invalid("connection_url names a file of a node: use tls_ca, tls_certificate and private_key")
		}
	}
	if s.Username != "" {
		cfg.User = s.Username
	}
	cfg.Password = string(s.Password.Expose())
	cfg.ConnectTimeout = connectTimeout
	cfg.RuntimeParams["application_name"] = "conclave"
	return cfg, secure(cfg, s)
}

// secure puts the certificates of the settings in. With an authority there is no way
// around it: no connection without TLS, nor to a host that has no certificate of it.
func secure(cfg *pgx.ConnConfig, s database.Settings) error {
	if s.Authority == "" && s.Certificate == "" {
		return nil
	}
	if cfg.TLSConfig == nil {
		return invalid("tls_ca or tls_certificate is there, and connection_url says that there is no TLS")
	}
	add := func(to *tls.Config, host string) error {
		if s.Authority != "" {
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM([]byte(s.Authority)) {
				return invalid("tls_ca is no certificate in PEM")
			}
			to.RootCAs, to.ServerName, to.InsecureSkipVerify, to.VerifyPeerCertificate, to.VerifyConnection = roots, host, false, nil, nil
		}
		if s.Certificate != "" {
			own, err := tls.X509KeyPair([]byte(s.Certificate), s.Key.Expose())
			if err != nil {
				return invalid("tls_certificate and private_key are no certificate and its key in PEM")
			}
			to.Certificates = []tls.Certificate{own}
		}
		return nil
	}
	if err := add(cfg.TLSConfig, cfg.Host); err != nil {
		return err
	}
	var safe []*pgconn.FallbackConfig
	for _, f := range cfg.Fallbacks {
		if f.TLSConfig == nil {
			continue // the same without TLS
		}
		if err := add(f.TLSConfig, f.Host); err != nil {
			return err
		}
		safe = append(safe, f)
	}
	cfg.Fallbacks = safe
	return nil
}

func invalid(why string) error { return &engine.InvalidError{Why: why} }

// Rotate implements database.Plugin. Rotations of a user follow one another by a lock in
// the database; who gets it looks again whether it still knows the password, and only
// then changes it. So none takes back what a later one has done.
func (Plugin) Rotate(ctx context.Context, s database.Settings, next redact.Bytes, statements []string) error {
	after := s
	after.Password = next
	c, err := loginAs(ctx, s, after)
	if err != nil {
		return err
	}
	defer hangUp(ctx, c)
	user := c.Config().User
	secret, err := secretOf(next, s.Plain)
	if err != nil {
		return err
	}
	if !database.Quotable(user) {
		return invalid("the user name cannot stand between quotes in a statement")
	}
	if len(statements) == 0 {
		statements = []string{`ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}'`}
	}
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('conclave'), hashtext(current_user))"); err != nil {
			return failed(ctx, "taking a lock", err)
		}
		again, err := loginAs(ctx, s, after)
		if err != nil {
			return err
		}
		hangUp(ctx, again)
		return run(ctx, tx, "root_rotation_statements", statements, strings.NewReplacer("{{name}}", user, "{{username}}", user, "{{password}}", secret))
	})
	if err != nil {
		return failed(ctx, "changing the password", err)
	}
	proof, err := loginAs(ctx, after)
	if err != nil {
		return err
	}
	hangUp(ctx, proof)
	return nil
}

// loginAs connects with the first settings whose password the database takes.
func loginAs(ctx context.Context, all ...database.Settings) (c *pgx.Conn, err error) {
	for _, s := range all {
		cfg, err := parse(s)
		if err != nil {
			return nil, err
		}
		if c, err = pgx.ConnectConfig(ctx, cfg); err == nil {
			return c, nil
		}
		if err = unreachable(ctx, err); !errors.Is(err, database.ErrLogin) {
			return nil, err
		}
	}
	return nil, outside("it refuses the user name or the password", database.ErrLogin)
}

// hangUp closes a connection that has done its work. That it cannot say goodbye is no
// failure of the work.
func hangUp(ctx context.Context, c *pgx.Conn) { _ = c.Close(ctx) }
