package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/conclave-secrets/conclave/engine/database"
)

// connection implements database.Connection.
type connection struct {
	pool  *pgxpool.Pool
	plain bool
}

func (c *connection) Close() { c.pool.Close() }

// with runs f on a connection of the pool.
func (c *connection) with(ctx context.Context, f func(*pgx.Conn) error) error {
	one, err := c.pool.Acquire(ctx)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer one.Release()
	return f(one.Conn())
}

func (c *connection) Verify(ctx context.Context) error {
	return c.with(ctx, func(one *pgx.Conn) error {
		if err := one.Ping(ctx); err != nil {
			return failed(ctx, "asking whether it is there", err)
		}
		return nil
	})
}

func (c *connection) Create(ctx context.Context, a database.Account) error {
	secret, err := secretOf(a.Password, c.plain)
	if err != nil {
		return err
	}
	values, err := valuesOf(a.Name, a.Until, "{{password}}", secret)
	if err != nil {
		return err
	}
	return c.with(ctx, func(one *pgx.Conn) error {
		err := pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error { return run(ctx, tx, "creation_statements", a.Statements, values) })
		if err != nil && len(a.Rollback) > 0 {
			err = errors.Join(err, pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error { return run(ctx, tx, "rollback_statements", a.Rollback, values) }))
		}
		return failed(ctx, "making a user", err)
	})
}

func (c *connection) Renew(ctx context.Context, name string, until time.Time, statements []string) error {
	values, err := valuesOf(name, until)
	if err != nil {
		return err
	}
	if len(statements) == 0 {
		statements = []string{`ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}'`}
	}
	return c.with(ctx, func(one *pgx.Conn) error {
		return failed(ctx, "renewing a user", pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error { return run(ctx, tx, "renew_statements", statements, values) }))
	})
}

// usualRevocation gives what the user owns to the one who removes it, so that nobody's
// data goes with a credential, and takes back all rights. To be allowed both, the latter
// must be a member.
var usualRevocation = []string{
	`GRANT "{{name}}" TO CURRENT_USER`,
	`REASSIGN OWNED BY "{{name}}" TO CURRENT_USER`,
	`DROP OWNED BY "{{name}}"`,
	`DROP ROLE IF EXISTS "{{name}}"`,
}

func (c *connection) Drop(ctx context.Context, name string, statements []string) error {
	values, err := valuesOf(name, time.Time{})
	if err != nil {
		return err
	}
	return c.with(ctx, func(one *pgx.Conn) error {
		there, err := exists(ctx, one, name)
		if err != nil {
			return err
		}
		if len(statements) > 0 {
			err := pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error { return run(ctx, tx, "revocation_statements", statements, values) })
			if !there && codeOf(err) == undefinedObject {
				return nil // they speak of a user who is gone
			}
			return failed(ctx, "removing a user", err)
		}
		if !there {
			return nil
		}
		return c.drop(ctx, one, name, values)
	})
}

// drop ends the sessions of a user first, once no new ones can begin.
func (c *connection) drop(ctx context.Context, one *pgx.Conn, name string, values *strings.Replacer) error {
	err := run(ctx, one, "the usual revocation", []string{`ALTER ROLE "{{name}}" NOLOGIN`, usualRevocation[0]}, values)
	if err == nil {
		_, err = one.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
	}
	if err == nil {
		err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error { return run(ctx, tx, "the usual revocation", usualRevocation, values) })
	}
	if codeOf(err) == undefinedObject { // others removed the user meanwhile, or an object in use
		if there, lookErr := exists(ctx, one, name); lookErr == nil && !there {
			return nil
		}
	}
	return failed(ctx, "removing a user", err)
}

func exists(ctx context.Context, one *pgx.Conn, name string) (there bool, err error) {
	err = one.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name).Scan(&there)
	return there, failed(ctx, "looking for a user", err)
}

// valuesOf fills the places of a statement. What it takes can do no harm between quotes.
func valuesOf(name string, until time.Time, more ...string) (*strings.Replacer, error) {
	if !database.Quotable(name) {
		return nil, invalid("the user name cannot stand between quotes in a statement")
	}
	return strings.NewReplacer(append(more, "{{name}}", name, "{{username}}", name, "{{expiration}}", until.UTC().Format("2006-01-02 15:04:05-0700"))...), nil
}

// runner is a connection or a transaction.
type runner interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// run carries out statements, filled in. Its error names a statement by its number.
func run(ctx context.Context, on runner, field string, texts []string, values *strings.Replacer) error {
	number := 0
	for _, text := range texts {
		statements, err := split(text)
		if err != nil {
			return outside(field+": "+err.Error(), nil)
		}
		for _, s := range statements {
			number++
			if _, err := on.Exec(ctx, values.Replace(s), pgx.QueryExecModeSimpleProtocol); err != nil {
				return failed(ctx, fmt.Sprintf("statement %d of %s", number, field), err)
			}
		}
	}
	return nil
}
