package core

import (
	"slices"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
)

// Explain tells how a request of a token, or of somebody with the named policies
// and nothing else, would be decided, and why. With token nil the names count.
// Whether the path needs sudo is told by its route. The explanation shows the
// rules that match: it is for who may read the policies.
func (t *tx) Explain(token *Token, names []string, req policy.Request) (policy.Explanation, error) {
	acl := rootAccess
	var err error
	switch {
	case token != nil:
		acl, err = t.accessOf(token.Token)
	case !slices.Contains(names, "root"):
		acl, err = t.acl(names, nil)
	}
	if err != nil {
		return policy.Explanation{}, err
	}
	m, err := t.needsSudo(&req)
	if err != nil {
		return policy.Explanation{}, err
	}
	written, proper := spellings(m, req)
	if e := acl.Explain(written); !e.Decision.Allowed || proper.Path == written.Path {
		return e, nil
	}
	if e := acl.Explain(proper); !e.Decision.Allowed && e.Decision.Why != policy.NoRule {
		return e, nil
	}
	return acl.Explain(written), nil
}

// needsSudo notes whether the route that a request would have asks for sudo, and
// returns the mount; nil if nothing answers there.
func (t *tx) needsSudo(req *policy.Request) (*mount, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	m, rest := table.find(req.Path)
	if m == nil || m.routes == nil {
		return nil, nil
	}
	match, _ := m.routes.Find(verbOf(req.Capability), rest)
	req.Sudo = match.Route != nil && match.Route.Sudo
	return m, nil
}

// verbOf is the verb that needs a capability.
func verbOf(c policy.Capability) engine.Verb {
	switch c {
	case policy.CapabilityRead:
		return engine.VerbRead
	case policy.CapabilityList, policy.CapabilityScan:
		return engine.VerbList
	case policy.CapabilityPatch:
		return engine.VerbPatch
	case policy.CapabilityDelete:
		return engine.VerbDelete
	}
	return engine.VerbWrite
}
