package policy

import (
	"regexp"
	"slices"
	"time"
)

// A mergedRule is what all the rules with one pattern say together. It is never
// changed once its ACL is made. DESIGN.md has the rules of merging as a table.
type mergedRule struct {
	pattern pattern
	rank    int // by precedence among all of the ACL's rules; 0 decides first
	sources []source

	capabilities Capability
	grantors     [len(capabilityNames)]string // by bit, the first policy with that capability
	constrained  bool                         // one of the following says something

	minWrap, maxWrap wrapLimit
	required         []requiredParameter
	denied, allowed  map[string]*constraint // by lower-case name
	allowsOthers     bool                   // allowed_parameters has "*"
	reasonOwner      string                 // the first policy that wants a reason
	needsReason      bool
	reasons          []reasonPattern
}

// A source is one rule that went into a mergedRule.
type source struct {
	policy string
	rule   *rule
}

type wrapLimit struct {
	ttl    time.Duration // 0 is none
	policy string
}

type requiredParameter struct{ name, policy string }

type constraint struct {
	values []any // empty is any value
	policy string
}

type reasonPattern struct {
	expression *regexp.Regexp
	policy     string
}

// merge adds a rule with the same pattern. A deny, before or after, leaves
// nothing of the rest.
func (m *mergedRule) merge(policy string, r *rule) {
	m.sources = append(m.sources, source{policy, r})
	for i := range m.grantors {
		if r.capabilities&(1<<i) != 0 && m.capabilities&(1<<i) == 0 {
			m.grantors[i] = policy
		}
	}
	m.capabilities |= r.capabilities
	if m.capabilities&CapabilityDeny != 0 {
		m.capabilities = CapabilityDeny
		return
	}
	m.minWrap.lower(r.minWrap, policy)
	m.maxWrap.lower(r.maxWrap, policy)
	for _, name := range r.required {
		if !slices.ContainsFunc(m.required, func(p requiredParameter) bool { return p.name == name }) {
			m.required = append(m.required, requiredParameter{name, policy})
		}
	}
	m.denied = union(m.denied, r.denied, policy)
	m.allowed = union(m.allowed, r.allowed, policy)
	m.allowsOthers = m.allowed[anyParameter] != nil
	if r.needsReason && !m.needsReason {
		m.needsReason, m.reasonOwner = true, policy
	}
	if r.reasonPattern != nil {
		m.reasons = append(m.reasons, reasonPattern{r.reasonPattern, policy})
	}
	m.constrained = m.minWrap.ttl > 0 || m.maxWrap.ttl > 0 || m.needsReason ||
		len(m.required)+len(m.denied)+len(m.allowed) > 0
}

// lower takes the lesser of two limits, if both are set: for the least of two
// minimums too, which keeps lifetimes short.
func (w *wrapLimit) lower(ttl time.Duration, policy string) {
	if ttl > 0 && (w.ttl == 0 || ttl < w.ttl) {
		*w = wrapLimit{ttl, policy}
	}
}

// union adds parameters to those of earlier rules. Any value, if either says so,
// stays any value.
func union(all map[string]*constraint, more []parameter, policy string) map[string]*constraint {
	for _, p := range more {
		have := all[p.name]
		switch {
		case have == nil:
			if all == nil {
				all = map[string]*constraint{}
			}
			all[p.name] = &constraint{slices.Clip(p.values), policy}
		case len(have.values) == 0:
		case len(p.values) == 0:
			*have = constraint{nil, policy}
		default:
			have.values = append(have.values, p.values...)
		}
	}
	return all
}
