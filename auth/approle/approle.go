// Package approle is the auth method for machines: a role has an id, which may be
// known, and secret ids, which are handed out one by one and prove that the
// bearer may act in the role.
//
// Its records, relative to the mount:
//
//	role/NAME                     the role
//	role-id/HASH(role id)         the name of the role that has the id
//	live/UID                      that the role is there
//	secret/UID/HASH(secret id)    what a secret id may do
//	accessor/UID/ACCESSOR         the hash of the secret id
//
// UID is drawn when a role is made: when the role goes, its secret ids cannot be
// reached any more, however many they are, and a new role of the same name does
// not have them. A secret id itself is never stored. What never lives here: the
// making of tokens.
//
// Start reading at login, then role.
package approle

import (
	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the auth method. It holds no state; the zero value is ready.
type Backend struct{}

var _ engine.Backend = Backend{}

// Type implements engine.Backend.
func (Backend) Type() string { return "approle" }

// Summary implements engine.Backend.
func (Backend) Summary() string { return "Log in machines by a role id and a secret id." }

// Routes implements engine.Backend. There are no options.
func (Backend) Routes(map[string]string) ([]engine.Route, error) {
	routes := []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "login", Writes: true, Open: true, Parallel: true,
			Summary: "Log in with a role id and a secret id"}, login),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "tidy/secret-id", Writes: true,
			Summary: "Remove the secret ids of roles that are gone"}, tidy),
	}
	routes = append(routes, roleRoutes()...)
	routes = append(routes, fieldRoutes()...)
	return append(routes, secretRoutes()...), nil
}
