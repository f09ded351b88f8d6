package policy

import (
	"fmt"
	"strings"
)

// An Explanation tells how a Decision came about. It encodes to JSON. Like the
// Decision it holds no value of the request, but it shows the policies, so it is
// for those who may read them.
type Explanation struct {
	Path       string          `json:"path"`
	Capability string          `json:"capability"`
	Sudo       bool            `json:"sudo_required"`
	Decision   Decision        `json:"decision"`
	Sentence   string          `json:"explanation"`
	Rules      []ExplainedRule `json:"rules"` // all that matched, the one that decided first
}

// An ExplainedRule is a pattern that matched.
type ExplainedRule struct {
	Pattern      string       `json:"pattern"`
	Matched      string       `json:"matched"` // the path as it matched: of a directory perhaps without its slash
	Decided      bool         `json:"decided"`
	Capabilities []string     `json:"capabilities"` // of all its sources together; {"deny"} if one denies
	Sources      []RuleSource `json:"sources"`
}

// A RuleSource is a place where a pattern stands.
type RuleSource struct {
	Policy       string   `json:"policy"`
	Line         int      `json:"line"`
	Capabilities []string `json:"capabilities"`
}

// Explain decides a request and tells why. It costs time linear in the number of
// rules and is not for the request path.
func (a *ACL) Explain(req Request) Explanation {
	e := Explanation{Path: req.Path, Capability: req.Capability.String(), Sudo: req.Sudo, Decision: a.Decide(req), Rules: []ExplainedRule{}}
	if !a.root {
		a.matching(strings.TrimLeft(req.Path, "/"), req.Capability.lists(), func(m *mergedRule, path string) {
			e.Rules = append(e.Rules, explainRule(m, path, len(e.Rules) == 0))
		})
	}
	e.Sentence = e.sentence()
	return e
}

// matching visits the rules that match a path, in the order of find.
func (a *ACL) matching(path string, directory bool, visit func(m *mergedRule, path string)) {
	name, ok := strings.CutSuffix(path, "/")
	if !ok || !directory {
		name = path
	}
	seen := map[*mergedRule]bool{}
	pass := func(path string, exact bool) {
		for _, m := range a.rules {
			if m.pattern.exact() == exact && m.pattern.matches(path) && !seen[m] {
				seen[m] = true
				visit(m, path)
			}
		}
	}
	pass(path, true)
	pass(name, true)
	pass(name, false)
	pass(path, false)
}

func explainRule(m *mergedRule, path string, decided bool) ExplainedRule {
	r := ExplainedRule{Pattern: m.pattern.text, Matched: path, Decided: decided, Capabilities: m.capabilities.names()}
	for _, s := range m.sources {
		r.Sources = append(r.Sources, RuleSource{s.policy, s.rule.at.line, s.rule.capabilities.names()})
	}
	return r
}

// sentence says the decision in words.
func (e *Explanation) sentence() string {
	d := e.Decision
	rule := fmt.Sprintf("the rule for %q in policy %q", d.Pattern, d.Policy)
	switch d.Why {
	case NoRule:
		return fmt.Sprintf("refused: no rule of any policy matches %q", e.Path)
	case Denied:
		return "refused: " + rule + " denies"
	case CapabilityMissing:
		missing := e.Capability
		if d.NeedsSudo {
			missing = "sudo"
		}
		return fmt.Sprintf("refused: %s decides, and it does not grant %s", rule, missing)
	case ReasonRequired:
		return "refused: " + rule + " requires a reason"
	case ReasonPattern:
		return "refused: " + rule + " requires a reason of another form"
	case WrapTTL:
		return "refused: " + rule + " requires a wrapped response with a TTL within its limits"
	case ParameterMissing:
		return fmt.Sprintf("refused: %s requires the parameter %q", rule, d.Parameter)
	case ParameterDenied:
		return fmt.Sprintf("refused: %s denies the parameter %q or its value", rule, d.Parameter)
	case ParameterNotAllowed:
		if d.Parameter == "" {
			return "refused: " + rule + " does not allow one of the parameters"
		}
		return fmt.Sprintf("refused: %s does not allow this value of the parameter %q", rule, d.Parameter)
	}
	if d.Pattern == "" {
		return "granted: the policy root grants everything"
	}
	return "granted: " + rule + " grants " + e.Capability
}
