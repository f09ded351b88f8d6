package database

import (
	"context"

	"github.com/conclave-secrets/conclave/engine"
)

// rotateRoot takes two commits. The first keeps the new password beside the old one; from
// then on logins try both, so it does not matter which of them the database knows. Then
// the database is told, and a login with the new one proves it. The second commit
// promotes it: the old one is forgotten.
//
// Who finds a rotation that did not get so far finishes that one.
func (b *Backend) rotateRoot(c *engine.Call, q *configName) (*struct{}, error) {
	found, err := existingConfig(c, q.Name)
	if err != nil {
		return nil, err
	}
	if found.Password == "" {
		return nil, &engine.InvalidError{Why: "the config has no password that could be replaced"}
	}
	if found.Next == "" {
		policy, err := found.policy(c)
		if err != nil {
			return nil, err
		}
		next, err := policy.Generate(c.Rand)
		if err != nil {
			return nil, err
		}
		found.Next = string(next.Expose())
		c.Again()
		return nil, engine.PutJSON(c, configPath(q.Name), found)
	}
	p, err := b.plugin(found.Plugin)
	if err != nil {
		return nil, err
	}
	old, next, statements := found.settings(found.Password), found.settings(found.Next).Password, found.Rotation
	c.Before(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, b.timeout())
		defer cancel()
		return p.Rotate(ctx, old, next, statements)
	})
	found.Password, found.Next = found.Next, ""
	return nil, engine.PutJSON(c, configPath(q.Name), found)
}
