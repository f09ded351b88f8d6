package policy

import (
	"fmt"
	"regexp"
	"time"
)

// A Policy is a parsed set of rules under a name. It is immutable and safe for
// concurrent use.
type Policy struct {
	name      string
	root      bool
	templated bool
	rules     []*rule
	warnings  []Warning
}

// A rule is one path block. It is never changed once its policy is made.
type rule struct {
	at        position // of the pattern
	pattern   pattern
	templated bool

	capabilities     Capability
	minWrap, maxWrap time.Duration // 0 is no limit
	allowed, denied  []parameter
	required         []string // lower case
	needsReason      bool
	reasonPattern    *regexp.Regexp // anchored at both ends; nil is any reason
	reasonText       string         // reasonPattern as written
}

// A parameter is an entry of allowed_parameters or denied_parameters.
type parameter struct {
	name   string // lower case; "*" is every other one
	values []any  // canonical; empty is any value
}

// anyParameter is the name that stands for all parameters.
const anyParameter = "*"

// Root returns the policy that grants everything, whatever the path. No text
// parses to it: a policy that happens to be named root and was parsed grants
// what it says and no more.
func Root() *Policy { return &Policy{name: "root", root: true} }

// Name is the name that was given to Parse.
func (p *Policy) Name() string { return p.name }

// Templated tells whether the policy must pass through Expand before it says
// anything of a particular identity.
func (p *Policy) Templated() bool { return p.templated }

// Warnings returns what is valid in the policy but seldom meant, in the order of
// its text; after Expand also what was left out because a value of the identity
// was not fit to stand in a path. The caller owns the slice.
func (p *Policy) Warnings() []Warning { return append([]Warning(nil), p.warnings...) }

// Expand fills the templates. Lookup gets a name as in the policy, for example
// "identity.entity.metadata.team", and returns the value and whether there is
// one; the name is one that Vault documents. A rule one of whose values is
// missing is dropped, as in Vault.
//
// A value that holds '*', '+', '/' or a control character, or is empty, "." or
// "..", is refused, which Vault does not do: names and metadata are often chosen
// by those they describe. The rule is then dropped with a warning, unless it is
// a deny: that stays, and denies the very path that the value spells, so that
// nobody shakes off a deny by the choice of a name.
//
// A policy without templates is returned as it is.
func (p *Policy) Expand(lookup func(name string) (string, bool)) *Policy {
	if !p.templated {
		return p
	}
	filled := &Policy{name: p.name, root: p.root, warnings: p.Warnings()}
	for _, r := range p.rules {
		if !r.templated {
			filled.rules = append(filled.rules, r)
			continue
		}
		r, problem := fillRule(r, lookup)
		if problem != "" {
			filled.warnings = append(filled.warnings, Warning{r.at.line, r.at.column, problem})
		}
		if !r.templated {
			filled.rules = append(filled.rules, r)
		}
	}
	return filled
}

// fillRule returns a copy of the rule with its values, or the rule itself, still
// templated, if it is to be dropped. A problem is worth a warning.
func fillRule(r *rule, lookup func(name string) (string, bool)) (_ *rule, problem string) {
	var values []string
	missing, unsafe := false, ""
	marked, err := fill(r.pattern.text, func(name string) (string, error) {
		value, ok := lookup(name)
		missing = missing || !ok
		if ok && !safeValue(value) {
			unsafe = name
		}
		values = append(values, value)
		return valueMark, nil
	})
	deny := r.capabilities&CapabilityDeny != 0
	switch {
	case err != nil: // Parse has refused such a pattern
		return r, err.Error()
	case missing:
		return r, ""
	case unsafe != "" && !deny:
		return r, fmt.Sprintf("this rule is left out: the value of %s may not stand in a path", unsafe)
	}
	filled := *r
	filled.templated = false
	filled.pattern = parsePattern(marked).withValues(values)
	if len(filled.pattern.text) > MaxPattern && !deny {
		return r, "this rule is left out: the pattern is too long"
	}
	return &filled, ""
}
