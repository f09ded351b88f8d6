package userpass

import (
	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// method is a mount's table, with what its options say.
type method struct {
	hasher  *hasher
	lockout lockout
}

type loginRequest struct {
	userName
	Password engine.Text `json:"password" doc:"the password"`
}

// login checks a password. A refusal is counted, in a batch of its own; a success
// forgets what was counted, in the token's batch. Both are guarded by the count
// that they saw: of many attempts at once no more than the threshold are judged.
func (m *method) login(c *engine.Call, q *loginRequest) (*struct{}, error) {
	if q.Password == "" {
		return nil, errNoPassword()
	}
	if len(q.Password) > maxPasswordBytes {
		return nil, refused("a password that is too long")
	}
	name, u, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	f, err := m.lockout.read(c, name)
	if err != nil {
		return nil, err
	}
	if m.lockout.locked(f, c.Now()) {
		return nil, &auth.CredentialError{Kind: auth.Locked, Text: "permission denied: too many logins have failed, try again later",
			Why: "the name is locked"}
	}
	why, err := m.judge(c, name, u, string(q.Password))
	if err != nil {
		return nil, err
	}
	if why != "" {
		return nil, m.refuse(c, name, f, refused(why))
	}
	if f != nil {
		if err := c.DeleteRecord(failuresPath(name)); err != nil {
			return nil, err
		}
	}
	c.Login(engine.Login{DisplayName: auth.DisplayName(c.Mount, name), Alias: name,
		Metadata: map[string]string{"username": name}, Token: u.TokenSettings})
	return nil, nil
}

func refused(why string) error {
	return &auth.CredentialError{Kind: auth.Invalid, Text: "invalid username or password", Why: why}
}

// judge returns what speaks against the login, "" for nothing. It hashes once,
// whoever asks.
func (m *method) judge(c *engine.Call, name string, u *user, password string) (why string, err error) {
	stored := m.hasher.dummy
	if u != nil {
		stored = u.Password
	}
	right, err := m.hasher.Verify(c.Context, name, stored, password)
	switch {
	case err != nil:
		return "", err
	case u == nil:
		return "no such user", nil
	case !right:
		return "wrong password", nil
	case !auth.Admits(u.BoundCIDRs, c.Caller.Address):
		return "the address is outside the ranges of the user", nil
	}
	return "", nil
}

// refuse has the login fail with err after the failure is counted.
func (m *method) refuse(c *engine.Call, name string, f *failures, err error) error {
	if m.lockout.off {
		return err
	}
	if err := m.lockout.stage(c, name, f); err != nil {
		return err
	}
	c.Refuse(err)
	return nil
}
