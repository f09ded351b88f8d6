package database

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// A Plugin speaks to one kind of database. It may be used by several goroutines. What
// the database refuses, or does not answer before the context ends, is an
// engine.OutsideError without a secret in its text; a refused login wraps ErrLogin.
type Plugin interface {
	// Names are what clients call it in plugin_name; the first is the one shown.
	Names() []string
	// Usernames says what its user names look like.
	Usernames() Usernames
	// Check refuses settings that cannot work with an engine.InvalidError. It connects
	// to nothing.
	Check(Settings) error
	// Open returns a connection that connects when it is first used.
	Open(Settings) (Connection, error)
	// Rotate makes next the password of the user that logs in, whose password is that of
	// the settings, or next already. When it returns nil, a login with next has
	// succeeded. Of several that run at once none undoes what another has finished:
	// it fails if neither password is the user's.
	Rotate(ctx context.Context, s Settings, next redact.Bytes, statements []string) error
}

// ErrLogin: the database does not know the user by that password.
var ErrLogin = errors.New("the login is refused")

// A Connection makes and removes users. It may be used by several goroutines, but not
// after Close.
type Connection interface {
	// Verify logs in.
	Verify(context.Context) error
	// Create makes a user by the statements, whole or not at all.
	Create(context.Context, Account) error
	// Renew has a user last until then. Without statements it does what is usual.
	Renew(ctx context.Context, name string, until time.Time, statements []string) error
	// Drop removes a user, who may be gone already, and ends its sessions. Without
	// statements it does what is usual.
	Drop(ctx context.Context, name string, statements []string) error
	Close()
}

// Settings are what it takes to log in to a database.
type Settings struct {
	URL      string // with {{username}} and {{password}}
	Username string // empty: that of the URL
	Password redact.Bytes
	// Plain hands passwords of new users to the database as they are. Otherwise it gets
	// verifiers only, where the database knows such.
	Plain bool
	// TLS: PEM. Authority set: the database must have a certificate of it for its host.
	Authority, Certificate string
	Key                    redact.Bytes
	MaxOpen, MaxIdle       int
	MaxLifetime            time.Duration // of one connection; 0: without limit
}

// Usernames says what the user names of a database look like.
type Usernames struct {
	Template string // Vault's default
	MaxBytes int
}

// An Account is a user to make.
type Account struct {
	Name       string
	Password   redact.Bytes
	Until      time.Time
	Statements []string
	// Rollback are statements to run if the others fail.
	Rollback []string
}

// Quotable tells whether text may stand in statements between quotes of any kind: it is
// printable ASCII without quotes, backslashes and dollar signs.
func Quotable(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c > '~', c == '\'', c == '"', c == '`', c == '\\', c == '$':
			return false
		}
	}
	return true
}
