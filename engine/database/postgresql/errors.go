package postgresql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/database"
)

// SQLSTATEs that are told apart.
const (
	invalidPassword = "28P01"
	notAdmitted     = "28000"
	noDatabase      = "3D000"
	undefinedObject = "42704"
)

func outside(why string, cause error) error {
	return &engine.OutsideError{System: "PostgreSQL", Why: why, Cause: cause}
}

// codeOf is the SQLSTATE of an error, "" if it has none.
func codeOf(err error) string {
	var (
		pg   *pgconn.PgError
		told *sqlError
	)
	if errors.As(err, &pg) {
		return pg.Code
	}
	if errors.As(err, &told) {
		return told.code
	}
	return ""
}

// unreachable explains why there is no connection.
func unreachable(ctx context.Context, err error) error {
	var (
		certificate *tls.CertificateVerificationError
		name        *net.DNSError
	)
	switch code := codeOf(err); {
	case code == invalidPassword:
		return outside("it refuses the user name or the password", fmt.Errorf("%w: %w", database.ErrLogin, err))
	case code == notAdmitted:
		return outside("it does not admit this user from here", err)
	case code == noDatabase:
		return outside("it has no database of that name", err)
	case code != "":
		return outside("it refuses the connection, SQLSTATE "+code, err)
	case errors.As(err, &certificate):
		return outside("its certificate is not that of its host by the authority in tls_ca", err)
	case late(ctx, err):
		return outside("it does not answer in time", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return outside("connection refused", err)
	case errors.As(err, &name):
		return outside("its host name has no address", err)
	}
	return outside("it cannot be reached", err)
}

func late(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)
}

// tellable are errors whose text names objects and users, and quotes no statement.
var tellable = []string{undefinedObject, "42501", "42710", "2BP01", "3F000", "42P01", "25006"}

// failed explains why something could not be done; nil stays nil, and what is explained
// already stays as it is. The server's own words may quote the statement, password and
// all, so only those of some errors are told.
func failed(ctx context.Context, what string, err error) error {
	var (
		told    *engine.OutsideError
		refused *engine.InvalidError
		pg      *pgconn.PgError
	)
	switch {
	case err == nil || errors.As(err, &told) || errors.As(err, &refused):
		return err
	case errors.As(err, &pg):
		why := fmt.Sprintf("%s failed, SQLSTATE %s", what, pg.Code)
		for _, code := range tellable {
			if pg.Code == code {
				why += ": " + strings.ToValidUTF8(pg.Message, "?")
			}
		}
		return outside(why, &sqlError{pg.Code})
	case late(ctx, err):
		return outside(what+" took too long", err)
	}
	return outside(what+" failed: the connection broke", err)
}

// sqlError is the cause of an error in place of PostgreSQL's, whose words are not told.
type sqlError struct{ code string }

func (e *sqlError) Error() string { return "SQLSTATE " + e.code }
