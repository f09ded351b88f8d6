package policy

import (
	"iter"
	"math/bits"
	"strings"
	"time"
)

// judge decides a request whose path has led to this rule.
func (m *mergedRule) judge(req *Request) Decision {
	d := Decision{Policy: m.sources[0].policy, Pattern: m.pattern.text, Sudo: m.capabilities&CapabilitySudo != 0}
	switch {
	case m.capabilities&CapabilityDeny != 0:
		d.Why, d.Policy = Denied, m.grantor(CapabilityDeny)
	case !m.capabilities.has(req.Capability):
		d.Why = CapabilityMissing
	case req.Sudo && !d.Sudo:
		d.Why, d.NeedsSudo, d.Policy = CapabilityMissing, true, m.grantor(req.Capability)
	default:
		d.Why, d.Policy = Granted, m.grantor(req.Capability)
		if m.constrained {
			if f := m.fault(req); f.why != Granted {
				d.Why, d.Policy, d.Parameter = f.why, f.policy, f.parameter
			}
		}
	}
	d.Allowed = d.Why == Granted
	return d
}

// grantor is the policy that a capability comes from.
func (m *mergedRule) grantor(c Capability) string {
	return m.grantors[bits.TrailingZeros16(uint16(c))]
}

// A fault is the constraint that a request does not meet: its kind, the policy
// it comes from, and the parameter if the policy names it.
type fault struct {
	why       Verdict
	policy    string
	parameter string
}

var faultless = fault{why: Granted}

// fault returns the first constraint that a request does not meet.
func (m *mergedRule) fault(req *Request) fault {
	if f := m.judgeReason(req.Reason); f.why != Granted {
		return f
	}
	if f := m.judgeWrapping(req.Wrapped, req.WrapTTL); f.why != Granted {
		return f
	}
	if !req.Capability.takesParameters() {
		return faultless
	}
	for _, p := range m.required {
		if !present(req.Parameters, p.name) {
			return fault{ParameterMissing, p.policy, p.name}
		}
	}
	if req.Parameters == nil || len(m.denied)+len(m.allowed) == 0 {
		return faultless
	}
	return m.judgeParameters(req.Parameters)
}

// judgeParameters looks for denials first, and of several faults names that of
// the least parameter, so that the order of the parameters changes nothing.
func (m *mergedRule) judgeParameters(parameters iter.Seq2[string, any]) fault {
	for _, judge := range []func(name string, value any) fault{m.denial, m.allowance} {
		first, least := faultless, ""
		for name, value := range parameters {
			name = lowered(name)
			if first.why != Granted && name >= least {
				continue
			}
			if f := judge(name, value); f.why != Granted {
				first, least = f, name
			}
		}
		if first.why != Granted {
			return first
		}
	}
	return faultless
}

// judgeReason wants a reason that satisfies every policy that shares the pattern.
func (m *mergedRule) judgeReason(reason string) fault {
	if !m.needsReason {
		return faultless
	}
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return fault{why: ReasonRequired, policy: m.reasonOwner}
	}
	for _, p := range m.reasons {
		if !p.expression.MatchString(reason) {
			return fault{why: ReasonPattern, policy: p.policy}
		}
	}
	return faultless
}

// judgeWrapping: either limit makes wrapping mandatory, the maximum too. Limits
// from two policies may leave nothing between them, and then nothing passes.
func (m *mergedRule) judgeWrapping(wrapped bool, ttl time.Duration) fault {
	if m.maxWrap.ttl > 0 && (!wrapped || ttl > m.maxWrap.ttl) {
		return fault{why: WrapTTL, policy: m.maxWrap.policy}
	}
	if m.minWrap.ttl > 0 && (!wrapped || ttl < m.minWrap.ttl) {
		return fault{why: WrapTTL, policy: m.minWrap.policy}
	}
	return faultless
}

func present(parameters iter.Seq2[string, any], name string) bool {
	if parameters == nil {
		return false
	}
	for given := range parameters {
		if lowered(given) == name {
			return true
		}
	}
	return false
}

// denial judges one parameter by what is denied.
func (m *mergedRule) denial(name string, value any) fault {
	if c := m.denied[anyParameter]; c != nil {
		return fault{ParameterDenied, c.policy, anyParameter}
	}
	c := m.denied[name]
	if c == nil {
		return faultless
	}
	if v, ok := canonical(value); ok && len(c.values) > 0 && !denies(c.values, v) {
		return faultless
	}
	return fault{ParameterDenied, c.policy, name}
}

// allowance judges one parameter by what is allowed.
func (m *mergedRule) allowance(name string, value any) fault {
	c := m.allowed[name]
	switch {
	case len(m.allowed) == 0, c == nil && m.allowsOthers, c != nil && len(c.values) == 0:
		return faultless
	case c == nil:
		return fault{ParameterNotAllowed, m.allowedOwner(), ""}
	}
	if v, ok := canonical(value); ok && allows(c.values, v) {
		return faultless
	}
	return fault{ParameterNotAllowed, c.policy, name}
}

// allowedOwner is the first policy that has allowed_parameters.
func (m *mergedRule) allowedOwner() string {
	for _, s := range m.sources {
		if len(s.rule.allowed) > 0 {
			return s.policy
		}
	}
	return ""
}
