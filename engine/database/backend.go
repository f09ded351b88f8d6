package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the engine as it is mounted. Its mounts share the connections of a node.
type Backend struct {
	plugins []Plugin
	pools   pools

	// Timeout bounds what is asked of a database at once. 0: 10 s.
	Timeout time.Duration
	// Idle is for how long an unused pool of connections stays open. 0: one minute.
	// What is closed has no goroutine.
	Idle time.Duration
}

var (
	_ engine.Backend = (*Backend)(nil)
	_ engine.Effects = (*Backend)(nil)
)

// New returns a backend for the kinds of databases that the plugins speak to.
func New(plugins ...Plugin) *Backend { return &Backend{plugins: plugins} }

// Close closes all connections; those in use, when they no longer are.
func (b *Backend) Close() { b.pools.close() }

// Type implements engine.Backend.
func (*Backend) Type() string { return "database" }

// Summary implements engine.Backend.
func (*Backend) Summary() string { return "users of databases, made on demand, gone with their lease" }

// Routes implements engine.Backend. There are no options.
func (b *Backend) Routes(map[string]string) ([]engine.Route, error) {
	return slices.Concat(b.configRoutes(), b.roleRoutes(), []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "creds/{name}", Writes: true, Parallel: true,
			Summary: "Make a user by a role"}, b.makeUser),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "rotate-root/{name}", Writes: true,
			Summary: "Give the user that Conclave logs in with a new password, known to nobody else"}, b.rotateRoot),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "reset/{name}", Writes: true,
			Summary: "Have all nodes open their connections to a database anew"}, b.reset),
	}), nil
}

func (b *Backend) timeout() time.Duration {
	if b.Timeout > 0 {
		return b.Timeout
	}
	return 10 * time.Second
}

func (b *Backend) idle() time.Duration {
	if b.Idle > 0 {
		return b.Idle
	}
	return time.Minute
}

// plugin finds the plugin that clients call name.
func (b *Backend) plugin(name string) (Plugin, error) {
	var known []string
	for _, p := range b.plugins {
		if slices.Contains(p.Names(), name) {
			return p, nil
		}
		known = append(known, p.Names()[0])
	}
	return nil, &engine.InvalidError{Why: "plugin_name is none of " + strings.Join(known, ", ")}
}

// login runs f with the settings of a config, with its password, or if the database
// refuses that with the one that a rotation has not promoted yet.
func (b *Backend) login(ctx context.Context, c *config, f func(context.Context, Plugin, Settings) error) error {
	p, err := b.plugin(c.Plugin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout())
	defer cancel()
	for _, password := range c.passwords() {
		if err = f(ctx, p, c.settings(password)); !errors.Is(err, ErrLogin) {
			return err
		}
	}
	return err
}

// connected is login with a connection of the pool.
func (b *Backend) connected(ctx context.Context, m engine.Mount, name string, c *config, f func(context.Context, Connection) error) error {
	return b.login(ctx, c, func(ctx context.Context, p Plugin, s Settings) error {
		key := poolKey(m.ID, name, c, s)
		pool, err := b.pools.take(key, func() (Connection, error) { return p.Open(s) })
		if err != nil {
			return err
		}
		defer b.pools.put(key, pool, b.idle())
		return f(ctx, pool.Connection)
	})
}

// maxNameBytes bounds the names of configs and roles.
const maxNameBytes = 128

// checkName refuses what is no name of a config or a role: letters, digits, _, - and .,
// with a letter, a digit or _ at both ends.
func checkName(what, name string) error {
	word := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
	}
	good := name != "" && len(name) <= maxNameBytes
	for i := 0; good && i < len(name); i++ {
		good = word(name[i]) || i > 0 && i < len(name)-1 && (name[i] == '-' || name[i] == '.')
	}
	if good {
		return nil
	}
	return &engine.InvalidError{Why: fmt.Sprintf("the name of the %s must have 1 to %d letters, digits, _ - and ., with neither - nor . at its ends", what, maxNameBytes)}
}
