package approle

import (
	"crypto/subtle"
	"maps"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

type loginRequest struct {
	RoleID   engine.Text `json:"role_id" doc:"id of the role"`
	SecretID engine.Text `json:"secret_id" doc:"secret id of the role; empty where the role needs none"`
}

// login checks a role id and a secret id. What it looks up does not depend on
// whether the role exists. It writes nothing beside the token, unless the secret
// id has a limited number of uses: then the use is counted in the same batch, on
// the record that was read, so that no use is counted twice or lost wherever
// logins run at once.
func login(c *engine.Call, q *loginRequest) (*struct{}, error) {
	switch {
	case q.RoleID == "":
		return nil, &engine.InvalidError{Why: "missing role_id"}
	case len(q.RoleID) > maxIDBytes || len(q.SecretID) > maxIDBytes:
		return nil, refused("an id that is too long")
	}
	name, r, err := roleByID(c, string(q.RoleID))
	if err != nil {
		return nil, err
	}
	l := engine.Login{Metadata: map[string]string{}}
	if r == nil || r.BindSecretID {
		if err := proveSecretID(c, r, string(q.SecretID), &l); err != nil {
			return nil, err
		}
	}
	if !auth.Admits(r.SecretRanges, c.Caller.Address) || !auth.Admits(r.BoundCIDRs, c.Caller.Address) {
		return nil, refused("the address is outside the ranges of the role")
	}
	// The role may have been narrowed since the secret id was made.
	ranges, some := auth.Intersect(l.Token.BoundCIDRs, r.BoundCIDRs)
	if !some {
		return nil, refused("the ranges of the secret id are outside those of the role")
	}
	l.Token = r.TokenSettings
	l.Token.BoundCIDRs = ranges
	l.DisplayName, l.Alias = auth.DisplayName(c.Mount, ""), r.RoleID
	l.Metadata["role_name"] = name
	c.Login(l)
	return nil, nil
}

func refused(why string) error {
	return &auth.CredentialError{Kind: auth.Invalid, Text: "invalid role or secret ID", Why: why}
}

// roleByID finds a role by its id; nil if there is none.
func roleByID(tx engine.Tx, id string) (name string, r *role, err error) {
	hash, err := tx.Hash(id)
	if err != nil {
		return "", nil, err
	}
	known, err := engine.GetJSON(tx, roleIDPath(hash), &name)
	if err != nil {
		return "", nil, err
	}
	if !known {
		name = auth.NoName
	}
	r = &role{}
	found, err := engine.GetJSON(tx, rolePath(name), r)
	if err != nil || !found || subtle.ConstantTimeCompare([]byte(r.RoleID), []byte(id)) == 0 {
		return "", nil, err
	}
	return name, r, nil
}

// proveSecretID checks a secret id of r, nil for a role that does not exist,
// counts its use, and puts what it says about the login into l.
func proveSecretID(c *engine.Call, r *role, id string, l *engine.Login) error {
	if id == "" {
		return &engine.InvalidError{Why: "missing secret_id"}
	}
	uid := auth.NoName
	if r != nil {
		uid = r.UID
	}
	s, err := findSecret(c, uid, id)
	switch {
	case err != nil:
		return err
	case r == nil:
		return refused("no such role id")
	case s == nil:
		return refused("no such secret id")
	case !auth.Admits(s.Ranges, c.Caller.Address):
		return refused("the address is outside the ranges of the secret id")
	case !auth.Admits(s.TokenRanges, c.Caller.Address):
		return refused("the address is outside the ranges of the secret id's tokens")
	}
	if l.Token.BoundCIDRs = s.TokenRanges; s.Metadata != nil {
		maps.Copy(l.Metadata, s.Metadata)
	}
	return s.use(c)
}
