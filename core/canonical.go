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
	{"sys/mounts/auth", "sys/auth"},
	{"sys/renew", "sys/leases/renew"},
	{"sys/revoke", "sys/leases/revoke"},
	{"sys/revoke-prefix", "sys/leases/revoke-prefix"},
	{"sys/revoke-force", "sys/leases/revoke-force"},
}

// canonical is the proper name of what lies at a path of a mount.
func canonical(m *mount, path string) string {
	proper := strings.TrimSuffix(path, "/") // with which a route is found, too
	for _, p := range olderPaths {
		if rest, ok := strings.CutPrefix(proper, p[0]); ok && (rest == "" || rest[0] == '/') {
			proper = p[1] + rest
		}
	}
	if proper == "sys/rotate" {
		proper = "sys/rotate/keyring"
	}
	rest, in := strings.CutPrefix(proper, m.Path)
	if in && (strings.HasPrefix(m.Path, authPrefix) || strings.HasPrefix(proper, "sys/policies/")) {
		proper = m.Path + strings.ToLower(rest)
	}
	return proper
}

// listed is a path as rules see it. What is listed is a directory, so its path ends
// in a slash, whether it was sent with one or not: rules for a listing are written so.
func listed(req policy.Request, path string) string {
	if (req.Capability == policy.CapabilityList || req.Capability == policy.CapabilityScan) && !strings.HasSuffix(path, "/") {
		return path + "/"
	}
	return path
}

// spellings are the names under which rules judge a request: as it was written, and
// its own.
func spellings(m *mount, req policy.Request) (written, proper policy.Request) {
	written, proper = req, req
	written.Path = listed(req, req.Path)
	if proper.Path = written.Path; m != nil {
		proper.Path = listed(req, canonical(m, req.Path))
	}
	return written, proper
}

// decide has the caller's policies decide about a request, under both of its names.
func (t *tx) decide(p *plan) policy.Decision {
	written, proper := spellings(p.mount, p.access)
	d := t.who.acl.Decide(written)
	if !d.Allowed || proper.Path == written.Path {
		return d
	}
	if own := t.who.acl.Decide(proper); !own.Allowed && own.Why != policy.NoRule {
		return own
	}
	return d
}
