// Package userpass is the auth method for people: a name and a password.
//
// Its records, relative to the mount:
//
//	users/NAME      the user: token settings, and the password as an argon2id hash
//	failures/NAME   how many logins of that name have failed of late; goes by itself
//
// Failures are counted for names without a user too, and a password is hashed for
// them, so that a login shows neither by its answer nor by its time who exists.
// What never lives here: the making of tokens, sessions, mails.
//
// Start reading at login, then lockout and hasher.
package userpass

import (
	"runtime"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the auth method. It holds no state but the hashings under way, of
// which it bounds the number over all mounts. Make one with New.
type Backend struct{ hasher *hasher }

var _ engine.Backend = &Backend{}

// New returns the method with the cost that DESIGN.md of package auth states.
//
// Anybody may have passwords hashed. That takes half of the cores at most, so that the
// node goes on with what else it has to do.
func New() *Backend {
	return &Backend{newHasher(standardCost, min(maxHashing, max(1, runtime.GOMAXPROCS(0)/2)), maxWaiting)}
}

// Type implements engine.Backend.
func (*Backend) Type() string { return "userpass" }

// Summary implements engine.Backend.
func (*Backend) Summary() string { return "Log in people by a name and a password." }

// Routes implements engine.Backend. The options lockout_threshold,
// lockout_duration, lockout_counter_reset and lockout_disable say when a name is
// locked, see lockout.
func (b *Backend) Routes(options map[string]string) ([]engine.Route, error) {
	l, err := parseLockout(options)
	if err != nil {
		return nil, err
	}
	m := &method{b.hasher, l}
	exists := func(c *engine.Call, q *writeUserRequest) (bool, error) {
		_, u, err := named(c, q.Name)
		return u != nil, err
	}
	const one = "users/{username}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "login/{username}", Writes: true, Open: true, Parallel: true,
			Summary: "Log in with a password"}, m.login),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "users", Summary: "List the names of the users"},
			func(c *engine.Call, q *auth.ListRequest) (*auth.ListResponse, error) {
				return auth.List(c, engine.Path{"users"}, *q, "user")
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a user, without the password"}, readUser),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true,
			Summary: "Make a user, or change what is sent of one"}, m.writeUser), exists),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "Remove a user"}, deleteUser),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/password", Writes: true,
			Summary: "Set a user's password and forget failed logins"}, m.writePassword),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/policies", Writes: true,
			Summary: "Set the policies of a user's tokens"}, writePolicies),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/unlock", Writes: true,
			Summary: "Forget a user's failed logins"}, unlock),
	}, nil
}
