package approle

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// role is the record of a role.
type role struct {
	engine.TokenSettings
	UID            string          `json:"uid"` // never shown, never used again
	RoleID         string          `json:"role_id"`
	BindSecretID   bool            `json:"bind_secret_id"`
	SecretRanges   engine.Strings  `json:"secret_id_bound_cidrs"`
	SecretUses     int64           `json:"secret_id_num_uses"`
	SecretTTL      engine.Duration `json:"secret_id_ttl"`
	LocalSecretIDs bool            `json:"local_secret_ids"`
}

// maxIDBytes bounds role ids and secret ids that somebody chooses.
const maxIDBytes = 4096

func rolePath(name string) engine.Path          { return engine.Path{"role", name} }
func roleIDPath(hash string) engine.Path        { return engine.Path{"role-id", hash} }
func livePath(uid string) engine.Path           { return engine.Path{"live", uid} }
func secretsOf(uid string) engine.Path          { return engine.Path{"secret", uid} }
func accessorsOf(uid string) engine.Path        { return engine.Path{"accessor", uid} }
func under(p engine.Path, n string) engine.Path { return append(p[:len(p):len(p)], n) }

// named finds the role that a request names, nil if there is none.
func named(tx engine.Tx, name string) (folded string, r *role, err error) {
	return auth.Named[role](tx, "role", name, rolePath)
}

// existing is named for requests that need the role. A read of what is missing is
// not found; a write of it is a mistake, which clients would not notice in a 404.
func existing(tx engine.Tx, name string, write bool) (string, *role, error) {
	folded, r, err := named(tx, name)
	switch {
	case err != nil:
		return "", nil, err
	case r == nil && write:
		return "", nil, &engine.InvalidError{Why: "the role does not exist"}
	case r == nil:
		return "", nil, &engine.NotFoundError{What: "role"}
	}
	return folded, r, nil
}

// roleName is in the path of nearly every request.
type roleName struct {
	Name string `path:"role_name" doc:"name of the role"`
}

// roleFields is what a request may say about a role; nil: nothing.
type roleFields struct {
	auth.TokenFields
	BindSecretID   *engine.Bool     `json:"bind_secret_id" doc:"whether a login needs a secret id; true unless said otherwise"`
	SecretRanges   *engine.Strings  `json:"secret_id_bound_cidrs" doc:"addresses that may log in"`
	OldRanges      *engine.Strings  `json:"bound_cidr_list" doc:"older name of secret_id_bound_cidrs"`
	SecretUses     *engine.Int      `json:"secret_id_num_uses" doc:"how often a secret id may be used; 0: without limit"`
	SecretTTL      *engine.Duration `json:"secret_id_ttl" doc:"time to live of secret ids; 0: for ever"`
	RoleID         *engine.Text     `json:"role_id" doc:"an id of your choice; drawn unless given"`
	LocalSecretIDs *engine.Bool     `json:"local_secret_ids" doc:"accepted when a role is made, without effect: there is one cluster"`
}

// apply puts what was sent into r, but for the role id, and checks the whole.
func (f *roleFields) apply(r *role) (err error) {
	if err := f.TokenFields.Apply(&r.TokenSettings); err != nil {
		return err
	}
	if f.BindSecretID != nil {
		r.BindSecretID = bool(*f.BindSecretID)
	}
	for _, ranges := range []*engine.Strings{f.OldRanges, f.SecretRanges} {
		if ranges == nil {
			continue
		}
		if r.SecretRanges, err = auth.ParseRanges("secret_id_bound_cidrs", *ranges); err != nil {
			return err
		}
	}
	if f.SecretUses != nil {
		r.SecretUses = int64(*f.SecretUses)
	}
	if f.SecretTTL != nil {
		r.SecretTTL = engine.Duration(time.Duration(*f.SecretTTL).Truncate(time.Second))
	}
	return r.check()
}

func (r *role) check() error {
	switch {
	case r.SecretUses < 0:
		return &engine.InvalidError{Why: "the field \"secret_id_num_uses\" is negative"}
	case !r.BindSecretID && len(r.SecretRanges) == 0 && len(r.BoundCIDRs) == 0:
		// A role id is no secret: without another condition anybody could log in.
		return &engine.InvalidError{Why: "a role without bind_secret_id needs secret_id_bound_cidrs or token_bound_cidrs"}
	}
	return nil
}

type writeRoleRequest struct {
	roleName
	roleFields
}

func roleRoutes() []engine.Route {
	exists := func(c *engine.Call, q *writeRoleRequest) (bool, error) {
		_, r, err := named(c, q.Name)
		return r != nil, err
	}
	const one = "role/{role_name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "role", Summary: "List the roles"},
			func(c *engine.Call, q *auth.ListRequest) (*auth.ListResponse, error) {
				return auth.List(c, engine.Path{"role"}, *q, "role")
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a role"}, readRole),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true,
			Summary: "Make a role, or change what is sent of it"}, writeRole), exists),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true,
			Summary: "Remove a role with its secret ids"}, deleteRole),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one + "/role-id", Summary: "Read the id of a role"}, readRoleID),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/role-id", Writes: true,
			Summary: "Give a role an id of your choice"}, writeRoleID),
	}
}

// roleResponse is what a reader sees of a role.
type roleResponse struct {
	engine.TokenSettings
	BindSecretID   bool            `json:"bind_secret_id"`
	SecretRanges   engine.Strings  `json:"secret_id_bound_cidrs"`
	SecretUses     int64           `json:"secret_id_num_uses"`
	SecretTTL      engine.Duration `json:"secret_id_ttl"`
	LocalSecretIDs bool            `json:"local_secret_ids"`
}

func readRole(c *engine.Call, q *roleName) (*roleResponse, error) {
	_, r, err := existing(c, q.Name, false)
	if err != nil {
		return nil, err
	}
	return &roleResponse{auth.Shown(r.TokenSettings), r.BindSecretID, r.SecretRanges, r.SecretUses, r.SecretTTL, r.LocalSecretIDs}, nil
}

func writeRole(c *engine.Call, q *writeRoleRequest) (*struct{}, error) {
	name, r, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	fresh := r == nil
	if fresh {
		if r, err = newRole(c.Rand); err != nil {
			return nil, err
		}
	}
	if q.LocalSecretIDs != nil {
		if !fresh && bool(*q.LocalSecretIDs) != r.LocalSecretIDs {
			return nil, &engine.InvalidError{Why: "local_secret_ids can only be said when a role is made"}
		}
		r.LocalSecretIDs = bool(*q.LocalSecretIDs)
	}
	if err := q.apply(r); err != nil {
		return nil, err
	}
	id := ""
	if q.RoleID != nil {
		id = string(*q.RoleID)
	}
	if fresh {
		if id, err = stageNew(c, r, id); err != nil {
			return nil, err
		}
	}
	if id != "" {
		if err := stageRoleID(c, name, r, id); err != nil {
			return nil, err
		}
	}
	return nil, engine.PutJSON(c, rolePath(name), r)
}

// stageNew stages what a new role has beside its record, and returns the role id
// that it shall have: the one chosen, or one drawn.
func stageNew(c *engine.Call, r *role, id string) (string, error) {
	if err := engine.PutJSON(c, livePath(r.UID), true); err != nil || id != "" {
		return id, err
	}
	return auth.NewUUID(c.Rand)
}

func newRole(rand io.Reader) (*role, error) {
	var uid [12]byte
	if _, err := io.ReadFull(rand, uid[:]); err != nil {
		return nil, fmt.Errorf("drawing the id of a role: %w", err)
	}
	return &role{UID: hex.EncodeToString(uid[:]), BindSecretID: true}, nil
}

// stageRoleID gives r, which the caller stages, another role id.
func stageRoleID(tx engine.Tx, name string, r *role, id string) error {
	if len(id) > maxIDBytes {
		return &engine.InvalidError{Why: "the field \"role_id\" has more than 4096 bytes"}
	}
	if id == r.RoleID {
		return nil
	}
	hash, err := tx.Hash(id)
	if err != nil {
		return err
	}
	holder, err := tx.Record(roleIDPath(hash))
	if err != nil {
		return err
	}
	if holder != nil {
		return &engine.InvalidError{Why: "the role id belongs to another role"}
	}
	if err := forgetRoleID(tx, r); err != nil {
		return err
	}
	r.RoleID = id
	return engine.PutJSON(tx, roleIDPath(hash), name)
}

func forgetRoleID(tx engine.Tx, r *role) error {
	if r.RoleID == "" {
		return nil
	}
	hash, err := tx.Hash(r.RoleID)
	if err != nil {
		return err
	}
	return tx.DeleteRecord(roleIDPath(hash))
}

func deleteRole(c *engine.Call, q *roleName) (*struct{}, error) {
	name, r, err := named(c, q.Name)
	if err != nil || r == nil {
		return nil, err
	}
	if err := forgetRoleID(c, r); err != nil {
		return nil, err
	}
	for _, p := range []engine.Path{rolePath(name), livePath(r.UID)} {
		if err := c.DeleteRecord(p); err != nil {
			return nil, err
		}
	}
	// With the role its secret ids are dead; the rest of many is swept by tidy.
	s := sweep{tx: c, left: maxSwept}
	if err := s.remove(r.UID); err != nil {
		return nil, err
	}
	if s.left == 0 {
		c.Warn("The role had many secret ids. None of them is of use any more; write to tidy/secret-id to free their place.")
	}
	return nil, nil
}

type roleIDResponse struct {
	RoleID string `json:"role_id"`
}

func readRoleID(c *engine.Call, q *roleName) (*roleIDResponse, error) {
	_, r, err := existing(c, q.Name, false)
	if err != nil {
		return nil, err
	}
	return &roleIDResponse{r.RoleID}, nil
}

type writeRoleIDRequest struct {
	roleName
	RoleID engine.Text `json:"role_id" doc:"the id that the role shall have"`
}

func writeRoleID(c *engine.Call, q *writeRoleIDRequest) (*struct{}, error) {
	name, r, err := existing(c, q.Name, true)
	if err != nil {
		return nil, err
	}
	if q.RoleID == "" {
		return nil, &engine.InvalidError{Why: "missing role_id"}
	}
	if err := stageRoleID(c, name, r, string(q.RoleID)); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, rolePath(name), r)
}
