package database

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// made is what is kept with the lease of a user. How to log in is not in it: that is
// looked up when it is needed, for it may have changed. The statements are in it, so that
// a role can be changed and removed while its users live.
type made struct {
	Config     string     `json:"config"`
	Role       string     `json:"role"`
	Name       string     `json:"name"`
	Revocation Statements `json:"revocation"`
	Renewal    Statements `json:"renewal"`
}

type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// grace is how much later than the lease a user ends by itself, in case nobody can undo
// it then: what it may take until a lease counts, for no user ends before its lease.
const grace = 30 * time.Second

// makeUser draws the user's name and password, and has the user made once a lease names it.
func (b *Backend) makeUser(c *engine.Call, q *roleName) (*credentials, error) {
	r, err := roleAt(c, q.Name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, &engine.InvalidError{Why: "there is no role of that name"}
	}
	by, err := existingConfig(c, r.Config)
	if err != nil {
		return nil, err
	}
	if !by.allows(q.Name) {
		return nil, &engine.InvalidError{Why: "the role is not among the allowed_roles of its config"}
	}
	p, err := b.plugin(by.Plugin)
	if err != nil {
		return nil, err
	}
	account, err := b.draw(c, q.Name, by, p)
	if err != nil {
		return nil, err
	}
	ttl, maxTTL := timesOf(r, c.Mount)
	account.Until, account.Statements, account.Rollback = c.Now().Add(ttl+b.timeout()+grace), r.Creation, r.Rollback
	undo, err := json.Marshal(made{r.Config, q.Name, account.Name, r.Revocation, r.Renewal})
	if err != nil {
		return nil, fmt.Errorf("encoding what undoes a user: %w", err)
	}
	mount := c.Mount
	c.Intend(engine.Intent{System: r.Config, Undo: undo, Within: b.timeout(), TTL: ttl, MaxTTL: maxTTL, Renewable: true,
		Act: func(ctx context.Context) error {
			return b.connected(ctx, mount, r.Config, by, func(ctx context.Context, to Connection) error { return to.Create(ctx, account) })
		}})
	return &credentials{account.Name, string(account.Password.Expose())}, nil
}

// draw makes up a name and a password.
func (b *Backend) draw(c *engine.Call, roleName string, by *config, p Plugin) (a Account, err error) {
	names, err := by.names(p)
	if err != nil {
		return a, err
	}
	policy, err := by.policy(c)
	if err != nil {
		return a, err
	}
	a.Name, err = names.name(naming{c.Caller.DisplayName, roleName, c.Rand, c.Now()}, p.Usernames().MaxBytes)
	if err != nil {
		return a, badTemplate(err)
	}
	a.Password, err = policy.Generate(c.Rand)
	return a, err
}

// timesOf are those of a lease: the role's, within the mount's.
func timesOf(r *role, m engine.Mount) (ttl, maxTTL time.Duration) {
	ttl, maxTTL = time.Duration(r.DefaultTTL), time.Duration(r.MaxTTL)
	if ttl == 0 {
		ttl = m.DefaultTTL
	}
	if maxTTL == 0 || m.MaxTTL > 0 && maxTTL > m.MaxTTL {
		maxTTL = m.MaxTTL
	}
	if maxTTL > 0 {
		ttl = min(ttl, maxTTL)
	}
	return ttl, maxTTL
}

// Undo implements engine.Effects.
func (b *Backend) Undo(c *engine.Call, undo []byte) (func(context.Context) error, error) {
	return b.later(c, undo, func(ctx context.Context, to Connection, m made) error { return to.Drop(ctx, m.Name, m.Revocation) })
}

// Renew implements engine.Effects.
func (b *Backend) Renew(c *engine.Call, undo []byte, until time.Time) (func(context.Context) error, error) {
	return b.later(c, undo, func(ctx context.Context, to Connection, m made) error {
		return to.Renew(ctx, m.Name, until.Add(grace), m.Renewal)
	})
}

// later is what does something about a user that was made.
func (b *Backend) later(c *engine.Call, undo []byte, f func(context.Context, Connection, made) error) (func(context.Context) error, error) {
	var m made
	if err := json.Unmarshal(undo, &m); err != nil {
		return nil, fmt.Errorf("reading what undoes a user: it is damaged")
	}
	by, err := configAt(c, configPath(m.Config))
	if err == nil && by == nil {
		by, err = configAt(c, retiredPath(m.Config))
	}
	if err == nil && by == nil {
		err = errNoConfig
	}
	if err != nil {
		return nil, err
	}
	mount := c.Mount
	return func(ctx context.Context) error {
		return b.connected(ctx, mount, m.Config, by, func(ctx context.Context, to Connection) error { return f(ctx, to, m) })
	}, nil
}
