package userpass

import (
	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// user is the record of a user.
type user struct {
	engine.TokenSettings
	Password string `json:"password"` // as hasher.Hash prints it
}

// maxPasswordBytes bounds a password.
const maxPasswordBytes = 1024

func userPath(name string) engine.Path { return engine.Path{"users", name} }

// named finds the user that a request names, nil if there is none.
func named(tx engine.Tx, name string) (folded string, u *user, err error) {
	return auth.Named[user](tx, "user", name, userPath)
}

// existing is named for writes to a user who must be there.
func existing(tx engine.Tx, name string) (string, *user, error) {
	folded, u, err := named(tx, name)
	if err == nil && u == nil {
		err = &engine.InvalidError{Why: "the user does not exist"}
	}
	return folded, u, err
}

type userName struct {
	Name string `path:"username" doc:"name of the user"`
}

type writeUserRequest struct {
	userName
	auth.TokenFields
	Password engine.Text `json:"password" doc:"the password; needed when the user is made"`
}

// userResponse is what a reader sees of a user.
type userResponse struct {
	engine.TokenSettings
}

func readUser(c *engine.Call, q *userName) (*userResponse, error) {
	_, u, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, &engine.NotFoundError{What: "user"}
	}
	return &userResponse{auth.Shown(u.TokenSettings)}, nil
}

func (m *method) writeUser(c *engine.Call, q *writeUserRequest) (*struct{}, error) {
	name, u, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	if u == nil {
		if q.Password == "" {
			return nil, errNoPassword()
		}
		u = &user{}
	}
	if err := q.Apply(&u.TokenSettings); err != nil {
		return nil, err
	}
	if q.Password != "" {
		return nil, m.stagePassword(c, name, u, string(q.Password))
	}
	return nil, engine.PutJSON(c, userPath(name), u)
}

func errNoPassword() error { return &engine.InvalidError{Why: "missing password"} }

// stagePassword stages the user with another password. Who sets it may log in.
func (m *method) stagePassword(c *engine.Call, name string, u *user, password string) (err error) {
	if len(password) > maxPasswordBytes {
		return &engine.InvalidError{Why: "the field \"password\" has more than 1024 bytes"}
	}
	if u.Password, err = m.hasher.Hash(c.Context, c.Rand, password); err != nil {
		return err
	}
	if err := engine.PutJSON(c, userPath(name), u); err != nil {
		return err
	}
	return c.DeleteRecord(failuresPath(name))
}

type writePasswordRequest struct {
	userName
	Password engine.Text `json:"password" doc:"the password"`
}

func (m *method) writePassword(c *engine.Call, q *writePasswordRequest) (*struct{}, error) {
	name, u, err := existing(c, q.Name)
	if err != nil {
		return nil, err
	}
	if q.Password == "" {
		return nil, errNoPassword()
	}
	return nil, m.stagePassword(c, name, u, string(q.Password))
}

type writePoliciesRequest struct {
	userName
	Policies    *engine.Strings `json:"token_policies" doc:"policies of the tokens"`
	OldPolicies *engine.Strings `json:"policies" doc:"older name of token_policies"`
}

func writePolicies(c *engine.Call, q *writePoliciesRequest) (*struct{}, error) {
	name, u, err := existing(c, q.Name)
	if err != nil {
		return nil, err
	}
	if q.Policies == nil && q.OldPolicies == nil {
		return nil, &engine.InvalidError{Why: "missing token_policies"}
	}
	sent := auth.TokenFields{Policies: q.Policies, OldPolicies: q.OldPolicies}
	if err := sent.Apply(&u.TokenSettings); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, userPath(name), u)
}

func deleteUser(c *engine.Call, q *userName) (*struct{}, error) {
	name, u, err := named(c, q.Name)
	if err != nil || u == nil {
		return nil, err
	}
	if err := c.DeleteRecord(userPath(name)); err != nil {
		return nil, err
	}
	return nil, c.DeleteRecord(failuresPath(name))
}

func unlock(c *engine.Call, q *userName) (*struct{}, error) {
	name, _, err := existing(c, q.Name)
	if err != nil {
		return nil, err
	}
	return nil, c.DeleteRecord(failuresPath(name))
}
