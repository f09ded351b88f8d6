package database

import (
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// role is the record of a role, and but for its name what a reader sees of it.
type role struct {
	Config     string          `json:"db_name"`
	DefaultTTL engine.Duration `json:"default_ttl"`
	MaxTTL     engine.Duration `json:"max_ttl"`
	Creation   Statements      `json:"creation_statements"`
	Revocation Statements      `json:"revocation_statements"`
	Rollback   Statements      `json:"rollback_statements"`
	Renewal    Statements      `json:"renew_statements"`
	Credential string          `json:"credential_type"`
}

func rolePath(name string) engine.Path { return engine.Path{"role", name} }

// roleAt reads a role; nil: there is none.
func roleAt(c *engine.Call, name string) (*role, error) {
	if err := checkName("role", name); err != nil {
		return nil, err
	}
	r := &role{}
	found, err := engine.GetJSON(c, rolePath(name), r)
	if err != nil || !found {
		return nil, err
	}
	return r, nil
}

type roleName struct {
	Name string `path:"name" doc:"name of the role"`
}

// writeRoleRequest says what shall change; nil: nothing.
type writeRoleRequest struct {
	roleName
	Config     *engine.Text     `json:"db_name" doc:"config of the database"`
	DefaultTTL *engine.Duration `json:"default_ttl" doc:"time to live of users; 0: the mount's default"`
	MaxTTL     *engine.Duration `json:"max_ttl" doc:"time to live with all renewals; 0: the mount's maximum"`
	Creation   *Statements      `json:"creation_statements" doc:"statements that make a user, with {{name}}, {{password}} and {{expiration}}"`
	Revocation *Statements      `json:"revocation_statements" doc:"statements that remove a user; empty: the usual ones"`
	Rollback   *Statements      `json:"rollback_statements" doc:"statements to run when those that make a user fail, which leaves nothing of them"`
	Renewal    *Statements      `json:"renew_statements" doc:"statements that have a user last longer; empty: the usual ones"`
	Credential *engine.Text     `json:"credential_type" doc:"password; there is no other kind"`
}

func (q *writeRoleRequest) apply(r *role) error {
	if q.Config != nil {
		r.Config = string(*q.Config)
	}
	for to, from := range map[*engine.Duration]*engine.Duration{&r.DefaultTTL: q.DefaultTTL, &r.MaxTTL: q.MaxTTL} {
		if from != nil {
			*to = engine.Duration(time.Duration(*from).Truncate(time.Second))
		}
	}
	for to, from := range map[*Statements]*Statements{&r.Creation: q.Creation, &r.Revocation: q.Revocation, &r.Rollback: q.Rollback, &r.Renewal: q.Renewal} {
		if from != nil {
			*to = *from
		}
	}
	switch {
	case q.Credential != nil && *q.Credential != "password" && *q.Credential != "":
		return &engine.InvalidError{Why: "credential_type is not password, which is the only kind there is"}
	case len(r.Creation) == 0:
		return &engine.InvalidError{Why: "creation_statements are missing"}
	case r.MaxTTL > 0 && r.DefaultTTL > r.MaxTTL:
		return &engine.InvalidError{Why: "default_ttl is above max_ttl"}
	}
	return checkName("config in db_name", r.Config)
}

func (b *Backend) roleRoutes() []engine.Route {
	const one = "roles/{name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "roles", Summary: "List the roles"}, list("role")),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a role"}, readRole),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true,
			Summary: "Say what users a role makes, or change what is sent of it"}, writeRole),
			func(c *engine.Call, q *writeRoleRequest) (bool, error) {
				found, err := roleAt(c, q.Name)
				return found != nil, err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true,
			Summary: "Remove a role; users that it made live on until their lease ends"}, deleteRole),
	}
}

func readRole(c *engine.Call, q *roleName) (*role, error) {
	found, err := roleAt(c, q.Name)
	if err == nil && found == nil {
		err = &engine.NotFoundError{What: "role"}
	}
	return found, err
}

func writeRole(c *engine.Call, q *writeRoleRequest) (*struct{}, error) {
	written, err := roleAt(c, q.Name)
	if err != nil {
		return nil, err
	}
	if written == nil {
		written = &role{Credential: "password"}
	}
	if err := q.apply(written); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, rolePath(q.Name), written)
}

func deleteRole(c *engine.Call, q *roleName) (*struct{}, error) {
	if err := checkName("role", q.Name); err != nil {
		return nil, err
	}
	return nil, c.DeleteRecord(rolePath(q.Name))
}
