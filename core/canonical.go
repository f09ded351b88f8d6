package core

import (
	"strings"

	"github.com/conclave-secrets/conclave/policy"
)

// Policies match paths as they are written, and some things have two names: roles,
// users and policies are found whatever the case of their letters, and a few routes
// have kept an older path. So that nobody gets around a rule by spelling, what is
// asked under another name than its own must not be refused under its own, either.
// Where no rule speaks of that, the rule for what was written decides.

// olderPaths are routes of the system that another path has replaced.
var olderPaths = [][2]string{
	{"sys/policy", "sys/policies/acl"},
	{"sys/renew", "sys/leases/renew"},
	{"sys/revoke", "sys/leases/revoke"},
	{"sys/revoke-prefix", "sys/leases/revoke-prefix"},
	{"sys/revoke-force", "sys/leases/revoke-force"},
}

// canonical is the proper name of what lies at a path of a mount.
func canonical(m *mount, path string) string {
	proper := path
	for _, p := range olderPaths {
		if rest, ok := strings.CutPrefix(proper, p[0]); ok && (rest == "" || rest[0] == '/') {
			proper = p[1] + rest
		}
	}
	rest, in := strings.CutPrefix(proper, m.Path)
	if in && (strings.HasPrefix(m.Path, authPrefix) || strings.HasPrefix(proper, "sys/policies/")) {
		proper = m.Path + strings.ToLower(rest)
	}
	return proper
}

// decide has the caller's policies decide about a request, under both of its names.
func (t *tx) decide(p *plan) policy.Decision {
	d := t.who.acl.Decide(p.access)
	if !d.Allowed || p.mount == nil {
		return d
	}
	proper := p.access
	if proper.Path = canonical(p.mount, p.access.Path); proper.Path == p.access.Path {
		return d
	}
	if own := t.who.acl.Decide(proper); !own.Allowed && own.Why != policy.NoRule {
		return own
	}
	return d
}
