package policy

import (
	"slices"
	"strings"
	"time"
)

// The slow evaluator is the documentation read aloud: for each request it walks
// over all rules, matches character by character, compares every match with
// every other by the five rules, and merges what is left. It shares with the
// product only what parsing made of the text and how one value is compared.

type slowRule struct {
	policy string
	*rule
}

func slowRules(policies []*Policy) []slowRule {
	var all []slowRule
	for _, p := range policies {
		for _, r := range p.rules {
			all = append(all, slowRule{p.name, r})
		}
	}
	return all
}

// slowMatch: a + that is a whole segment takes any characters but slashes, a *
// at the end takes all that is left.
func slowMatch(pattern, path string, segmentStart bool) bool {
	switch {
	case pattern == "*":
		return true
	case segmentStart && (pattern == "+" || strings.HasPrefix(pattern, "+/")):
		for n := 0; ; n++ {
			if slowMatch(pattern[1:], path[n:], false) {
				return true
			}
			if n == len(path) || path[n] == '/' {
				return false
			}
		}
	case pattern == "":
		return path == ""
	case path == "" || pattern[0] != path[0]:
		return false
	}
	return slowMatch(pattern[1:], path[1:], pattern[0] == '/')
}

// slowShape measures a pattern for the five rules.
func slowShape(pattern string) (firstWildcard int, glob bool, plus int) {
	body, glob := strings.CutSuffix(pattern, "*")
	firstWildcard = len(body)
	if !glob {
		firstWildcard = 1 << 30
	}
	at := 0
	for _, segment := range strings.Split(body, "/") {
		if segment == "+" {
			plus++
			firstWildcard = min(firstWildcard, at)
		}
		at += len(segment) + 1
	}
	return firstWildcard, glob, plus
}

// slowLower is "P1 is lower priority" of Vault's documentation.
func slowLower(p1, p2 string) bool {
	first1, glob1, plus1 := slowShape(p1)
	first2, glob2, plus2 := slowShape(p2)
	if first1 != first2 {
		return first1 < first2
	}
	if glob1 != glob2 {
		return glob1
	}
	if plus1 != plus2 {
		return plus1 > plus2
	}
	if len(p1) != len(p2) {
		return len(p1) < len(p2)
	}
	return p1 < p2
}

// slowBest returns the rules with the pattern that decides for a path, looking
// only at exact patterns or only at those with wildcards.
func slowBest(rules []slowRule, path string, exact bool) []slowRule {
	var best []slowRule
	for _, r := range rules {
		text := r.pattern.text
		first, _, _ := slowShape(text)
		if (first == 1<<30) != exact || !slowMatch(text, path, true) {
			continue
		}
		switch {
		case best == nil || slowLower(best[0].pattern.text, text):
			best = []slowRule{r}
		case best[0].pattern.text == text:
			best = append(best, r)
		}
	}
	return best
}

func slowFind(rules []slowRule, path string, directory bool) []slowRule {
	if best := slowBest(rules, path, true); best != nil {
		return best
	}
	if directory && strings.HasSuffix(path, "/") {
		if best := slowBest(rules, path[:len(path)-1], true); best != nil {
			return best
		}
		if best := slowBest(rules, path[:len(path)-1], false); best != nil {
			return best
		}
	}
	return slowBest(rules, path, false)
}

// slowDecide returns the verdict and the pattern that decided.
func slowDecide(policies []*Policy, req Request) (Verdict, string) {
	path := req.Path
	for strings.HasPrefix(path, "/") {
		path = path[1:]
	}
	listing := req.Capability == CapabilityList || req.Capability == CapabilityScan
	deciding := slowFind(slowRules(policies), path, listing)
	if deciding == nil {
		return NoRule, ""
	}
	return slowVerdict(deciding, req), deciding[0].pattern.text
}

func slowVerdict(deciding []slowRule, req Request) Verdict {
	var all Capability
	for _, r := range deciding {
		all |= r.capabilities
	}
	switch {
	case all&CapabilityDeny != 0:
		return Denied
	case all&req.Capability == 0:
		return CapabilityMissing
	case req.Sudo && all&CapabilitySudo == 0:
		return CapabilityMissing
	}
	reason := strings.TrimSpace(req.Reason)
	for _, r := range deciding {
		if r.needsReason && reason == "" {
			return ReasonRequired
		}
	}
	for _, r := range deciding {
		if r.reasonPattern != nil && r.reasonPattern.FindString(reason) != reason {
			return ReasonPattern
		}
	}
	if !slowWrapping(deciding, req) {
		return WrapTTL
	}
	if req.Capability == CapabilityDelete || req.Capability == CapabilityList || req.Capability == CapabilityScan || req.Capability == CapabilitySudo {
		return Granted
	}
	return slowParameters(deciding, req)
}

func slowWrapping(deciding []slowRule, req Request) bool {
	var minima, maxima []time.Duration
	for _, r := range deciding {
		if r.minWrap > 0 {
			minima = append(minima, r.minWrap)
		}
		if r.maxWrap > 0 {
			maxima = append(maxima, r.maxWrap)
		}
	}
	if len(minima)+len(maxima) > 0 && !req.Wrapped {
		return false
	}
	return (len(minima) == 0 || req.WrapTTL >= slices.Min(minima)) && (len(maxima) == 0 || req.WrapTTL <= slices.Min(maxima))
}

func slowParameters(deciding []slowRule, req Request) Verdict {
	given := map[string]any{}
	if req.Parameters != nil {
		for name, value := range req.Parameters {
			given[strings.ToLower(name)] = value
		}
	}
	for _, r := range deciding {
		for _, name := range r.required {
			if _, ok := given[name]; !ok {
				return ParameterMissing
			}
		}
	}
	for name, value := range given {
		for _, everyOther := range []string{name, "*"} {
			values, named, any := slowListed(deciding, everyOther, func(r slowRule) []parameter { return r.denied })
			if named && (any || slices.Contains(values, "*") || slowContains(values, value)) {
				return ParameterDenied
			}
		}
	}
	constrained := false
	for _, r := range deciding {
		constrained = constrained || len(r.allowed) > 0
	}
	if !constrained {
		return Granted
	}
	_, others, _ := slowListed(deciding, "*", func(r slowRule) []parameter { return r.allowed })
	for name, value := range given {
		values, named, any := slowListed(deciding, name, func(r slowRule) []parameter { return r.allowed })
		if !named && !others || named && !any && !slowContains(values, value) {
			return ParameterNotAllowed
		}
	}
	return Granted
}

// slowListed unites what the rules say of one parameter.
func slowListed(deciding []slowRule, name string, of func(slowRule) []parameter) (values []any, named, any bool) {
	for _, r := range deciding {
		for _, p := range of(r) {
			if p.name == name {
				named = true
				any = any || len(p.values) == 0
				values = append(values, p.values...)
			}
		}
	}
	return values, named, any
}

// slowContains is right for the words that these tests use: no commas, no lists.
func slowContains(values []any, value any) bool {
	for _, v := range values {
		v, w := v.(string), value.(string)
		if v == w || strings.HasSuffix(v, "*") && len(v) > 1 && strings.HasPrefix(w, v[:len(v)-1]) {
			return true
		}
	}
	return false
}
