// Package jwt is the auth method for whoever another system vouches for, in a
// signed JSON Web Token (RFC 7519).
//
// Its records, relative to the mount:
//
//	config      where the public keys come from, and who may have signed
//	role/NAME   what a token must claim, and what its bearer gets
//
// Keys are public, so they are fetched by each node for itself and kept in memory
// only. JWS and JWK are read here with the standard library: no more of RFC 7515
// and 7517 than compact tokens under asymmetric signatures.
//
// What never lives here: the making of tokens, secrets of any kind (a token that
// is shown is not kept), the browser's dance of OpenID Connect.
//
// Start reading at login, then parseJWS and source.
package jwt

import (
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the auth method. Beside the keys that it has fetched it holds no
// state. Make one with New.
type Backend struct {
	now     func() time.Time
	sources *sources
}

var _ engine.Backend = &Backend{}

// New returns the method over a wall clock: what a token says of its time is in
// that of its issuer, not in log time.
func New(now func() time.Time) *Backend {
	return &Backend{now: now, sources: newSources(now)}
}

// Type implements engine.Backend.
func (*Backend) Type() string { return "jwt" }

// Summary implements engine.Backend.
func (*Backend) Summary() string { return "Log in with a signed token of another system." }

// Routes implements engine.Backend. There are no options.
func (b *Backend) Routes(map[string]string) ([]engine.Route, error) {
	exists := func(c *engine.Call, q *writeRoleRequest) (bool, error) {
		_, r, err := named(c, q.Name)
		return r != nil, err
	}
	const one = "role/{name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "login", Writes: true, Open: true, Parallel: true,
			Summary: "Log in with a signed token"}, b.login),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "config", Summary: "Read where keys come from"}, readConfig),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "config", Writes: true,
			Summary: "Say where keys come from, in place of what was said before"}, writeConfig),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "role", Summary: "List the roles"},
			func(c *engine.Call, q *auth.ListRequest) (*auth.ListResponse, error) {
				return auth.List(c, engine.Path{"role"}, *q, "role")
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a role"}, readRole),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true,
			Summary: "Make a role, or change what is sent of it"}, writeRole), exists),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "Remove a role"}, deleteRole),
	}, nil
}
