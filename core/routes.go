package core

import (
	"context"
	"slices"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// MountRoutes is a mount and what answers in it: what help and OpenAPI describe.
type MountRoutes struct {
	Path    string // ends in a slash
	Type    string
	Summary string // of the type
	// Of lists the routes of the mount, At those of a path in it.
	Of func() []engine.Route
	At func(path string) []engine.Route
}

// MountRoutes lists the mounts in which the caller may do anything, in the order of
// their paths. Types that this binary does not know are not among them.
func (t *tx) MountRoutes() ([]MountRoutes, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	var all []MountRoutes
	for _, m := range table.byPath {
		if m.routes == nil || !t.MayAny(m.Path) {
			continue
		}
		backend := t.cache.backend(m.Path, m.Type)
		all = append(all, MountRoutes{Path: m.Path, Type: m.Type, Summary: backend.Summary(), Of: m.routes.All, At: m.routes.At})
	}
	slices.SortFunc(all, func(a, b MountRoutes) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// helpPath is the route of the system mount that tells what a path answers. It shows
// a mount to who may do anything in it.
const helpPath = "sys/internal/help/"

// planHelp has the system mount answer what a path is for. It takes a token, and no
// right beyond what the route demands: who may use a mount may know how.
func (t *tx) planHelp(ctx context.Context, c Caller, q Request) (*plan, error) {
	asked := Request{Verb: engine.VerbRead, Path: helpPath + q.Path}
	out, err := t.plan(ctx, c, asked)
	if err != nil || out.missed != nil {
		return out, err
	}
	handle := out.handle
	out.open, out.access.Path = true, q.Path
	out.handle = func() (reply, error) {
		if t.who, err = t.identify(c); err != nil {
			return reply{}, err
		}
		t.account.identified(t.who)
		return handle()
	}
	return out, nil
}
