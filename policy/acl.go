package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// A Request is what is asked of an ACL.
type Request struct {
	// Path is the request's path without "/v1/", for example
	// "secret/data/app". Slashes at its start do not count. It is matched as it
	// is: whoever calls has refused or resolved empty segments, dots and escapes.
	Path string

	// Capability is the one that the request needs. CapabilityList and
	// CapabilityScan of "foo/" match the rules for "foo" too.
	Capability Capability

	// Sudo asks for CapabilitySudo in addition: the route is root-protected.
	Sudo bool

	// Parameters are the top-level fields of the request, whether from its body
	// or its query; nil is none. Values are as encoding/json decodes them into
	// an any, numbers as float64 or json.Number. They are looked at only if the
	// rule that matches has something to say of them, so decoding can wait
	// until then; maps.All makes such a sequence of a map. A name that comes
	// twice is judged twice.
	Parameters iter.Seq2[string, any]

	// Wrapped tells that the client asked for a wrapped response, and WrapTTL
	// for how long.
	Wrapped bool
	WrapTTL time.Duration

	// Reason is what the client gives as the reason for its request.
	Reason string
}

// A Verdict says why a request was granted or refused.
type Verdict uint8

// The verdicts, in the order in which Decide looks for them. More than one may
// hold; the first is the answer.
const (
	NoRule              Verdict = iota // no rule matches the path
	Denied                             // the rule is a deny
	CapabilityMissing                  // the rule lacks the capability, or sudo
	ReasonRequired                     // a reason is required and there is none
	ReasonPattern                      // the reason is not of the required form
	WrapTTL                            // the response must be wrapped, for longer or for less
	ParameterMissing                   // a required parameter is absent
	ParameterDenied                    // a parameter, or its value, is denied
	ParameterNotAllowed                // a parameter, or its value, is not among those allowed
	Granted
)

var verdictNames = [...]string{"no-rule", "denied", "capability-missing", "reason-required", "reason-pattern",
	"wrap-ttl", "parameter-missing", "parameter-denied", "parameter-not-allowed", "granted"}

// String returns the verdict as it stands in an audit log, such as "no-rule".
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// MarshalText is String, for JSON.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(text []byte) error {
	i := slices.Index(verdictNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("reading verdict: unknown verdict %q", text)
	}
	*v = Verdict(i)
	return nil
}

// A Decision is the answer to a Request. Nothing in it comes from the request's
// values: it may be logged. It is for the audit log and for administrators; a
// caller who is refused is told no more than that.
type Decision struct {
	Allowed bool    `json:"allowed"`
	Why     Verdict `json:"why"`

	// Policy and Pattern name the rule that decided. If several policies share
	// the pattern, Policy is the first that granted the capability, or that
	// refused. Both are empty for NoRule; for root, Pattern is.
	Policy  string `json:"policy,omitempty"`
	Pattern string `json:"pattern,omitempty"`

	// NeedsSudo tells, of CapabilityMissing, that sudo is what is missing.
	NeedsSudo bool `json:"needs_sudo,omitempty"`

	// Sudo tells that the rule grants sudo here, asked for or not.
	Sudo bool `json:"sudo,omitempty"`

	// Parameter is the name, from the policy, of the parameter that decided. It
	// is empty if one was refused that the policy does not name.
	Parameter string `json:"parameter,omitempty"`
}

// An ACL is a set of policies, ready to decide. It is immutable and safe for
// concurrent use; deciding allocates nothing unless the rule that matches
// constrains parameters.
type ACL struct {
	root  bool
	exact map[string]*mergedRule
	wild  *trieNode
	rules []*mergedRule // by precedence, the first decides
	depth int           // the most slashes in a pattern
}

// Compile makes an ACL of policies. Nil policies are passed over. With Root among
// them the rest does not matter. The order of the policies decides nothing but
// which of several policies with the same pattern a Decision names.
//
// Templates must have been filled by Expand: a rule that still has one is left
// out, as one is whose value is missing.
func Compile(policies ...*Policy) *ACL {
	a := &ACL{exact: map[string]*mergedRule{}}
	byPattern := map[string]*mergedRule{}
	for _, p := range policies {
		if p == nil {
			continue
		}
		a.root = a.root || p.root
		for _, r := range p.rules {
			if r.templated {
				continue
			}
			key := r.pattern.key()
			m := byPattern[key]
			if m == nil {
				m = &mergedRule{pattern: r.pattern}
				byPattern[key] = m
				a.rules = append(a.rules, m)
			}
			m.merge(p.name, r)
		}
	}
	a.index()
	return a
}

// index orders the rules and makes them quick to find.
func (a *ACL) index() {
	slices.SortFunc(a.rules, func(m, n *mergedRule) int { return n.pattern.precedence(m.pattern) })
	var wild []*mergedRule
	for rank, m := range a.rules {
		m.rank = rank
		a.depth = max(a.depth, strings.Count(m.pattern.text, "/"))
		if m.pattern.exact() {
			a.exact[m.pattern.text] = m
		} else {
			wild = append(wild, m)
		}
	}
	a.wild = newTrie(wild)
}

// find returns the rule that decides for a path, or nil. The name of a directory
// matches with its slash and without: exactly either way before any wildcard,
// and among wildcards without before with. This is Vault's order.
func (a *ACL) find(path string, directory bool) *mergedRule {
	if m := a.exact[path]; m != nil {
		return m
	}
	if name, ok := strings.CutSuffix(path, "/"); ok && directory {
		if m := a.exact[name]; m != nil {
			return m
		}
		if m := a.wild.find(name, nil); m != nil {
			return m
		}
	}
	return a.wild.find(path, nil)
}

// Decide answers a request.
func (a *ACL) Decide(req Request) Decision {
	if a.root {
		return Decision{Allowed: true, Why: Granted, Policy: "root", Sudo: true}
	}
	m := a.find(strings.TrimLeft(req.Path, "/"), req.Capability.lists())
	if m == nil {
		return Decision{Why: NoRule}
	}
	return m.judge(&req)
}

// Capabilities lists what the policies grant on a path, sorted, as Vault's
// sys/capabilities does: {"root"} for root and {"deny"} for nothing. A path that
// ends in a slash is looked up as for a listing. The caller owns the slice.
func (a *ACL) Capabilities(path string) []string {
	if a.root {
		return []string{"root"}
	}
	m := a.find(strings.TrimLeft(path, "/"), true)
	if m == nil || !m.capabilities.grants() {
		return []string{"deny"}
	}
	names := m.capabilities.names()
	slices.Sort(names)
	return names
}

// MayAny tells whether a rule grants anything at a mount's path or below it; a
// slash at its end may be left out. This is what Vault shows the existence of a
// mount by: a rule counts that names something in the mount and grants, even if
// another one keeps it from ever deciding.
func (a *ACL) MayAny(mount string) bool {
	if a.root {
		return true
	}
	mount = strings.Trim(mount, "/")
	if mount != "" {
		mount += "/"
	}
	// Names that no rule mentions, at every depth that rules tell apart. No
	// pattern that was written has a control character.
	unheard := mount
	for range a.depth + 2 {
		if m := a.find(unheard, true); m != nil && m.capabilities.grants() {
			return true
		}
		unheard += "\x01"
		if m := a.find(unheard, false); m != nil && m.capabilities.grants() {
			return true
		}
		unheard += "/"
	}
	return slices.ContainsFunc(a.rules, func(m *mergedRule) bool {
		return m.capabilities.grants() && m.pattern.reachesInto(mount)
	})
}
