package policy

import (
	"strings"
)

// The keys of a policy, and of a path block.
var (
	topKeys  = []string{"name", "path"}
	pathKeys = []string{"capabilities", "policy", "allowed_parameters", "denied_parameters", "required_parameters",
		"min_wrapping_ttl", "max_wrapping_ttl", "required_reason", "required_reason_pattern", "comment"}
)

// foreignKeys are known to Vault or OpenBao and would change what a rule grants.
// Ignoring one would grant more than its author meant.
var foreignKeys = map[string]string{
	"control_group":                       "control groups",
	"mfa_methods":                         "login methods per path",
	"expiration":                          "rules that expire",
	"pagination_limit":                    "limits on the size of a listing",
	"list_scan_response_keys_filter_path": "filtered listings",
	"subscribe_event_types":               "event subscriptions",
}

// foreignCapabilities are known to later Vaults.
var foreignCapabilities = map[string]bool{"subscribe": true, "recover": true}

// Parse reads a policy in Vault's language, HCL or JSON. The name is what the
// policy is stored under; a `name` in the text is accepted and ignored, as Vault
// does. The error is a *SyntaxError, for the first thing that is wrong. Unknown
// keys and capabilities are refused.
func Parse(name, text string) (*Policy, error) {
	root, isJSON, err := parseTree(text)
	if err != nil {
		return nil, err
	}
	return readPolicy(name, root, isJSON)
}

// A reader turns a syntax tree into a policy.
type reader struct {
	policy *Policy
	isJSON bool
}

func readPolicy(name string, root *body, isJSON bool) (*Policy, error) {
	r := &reader{policy: &Policy{name: name}, isJSON: isJSON}
	var named bool
	for _, it := range root.items {
		var err error
		switch {
		case it.key == "path":
			err = r.path(it)
		case it.key == "name" && len(it.labels) == 0:
			if named {
				return nil, it.at.errorf("name is there twice")
			}
			named = true
			_, err = text(it)
		default:
			err = it.at.errorf("unknown key %q in a policy%s", it.key, suggest(it.key, topKeys))
		}
		if err != nil {
			return nil, err
		}
	}
	return r.policy, nil
}

// path reads `path "pattern" {…}`, or in JSON "path": {"pattern": {…}, …}, where
// lists of objects mean the objects one after the other.
func (r *reader) path(it *item) error {
	if !r.isJSON {
		if len(it.labels) != 1 || it.value.kind != nodeObject {
			return it.at.errorf("a path needs one pattern in quotes: path \"secret/*\" { … }")
		}
		return r.rule(it.labels[0], it.value)
	}
	for _, object := range flatten(it.value) {
		if object.kind != nodeObject {
			return object.at.errorf("path must be an object of patterns, not %s", object.kind)
		}
		for _, entry := range object.body.items {
			for _, block := range flatten(entry.value) {
				if block.kind != nodeObject {
					return block.at.errorf("path %q must be an object, not %s", entry.key, block.kind)
				}
				if err := r.rule(label{entry.key, entry.at}, block); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func flatten(n *node) []*node {
	if n.kind != nodeList {
		return []*node{n}
	}
	var all []*node
	for _, e := range n.list {
		all = append(all, flatten(e.value)...)
	}
	return all
}

// rule reads one path block.
func (r *reader) rule(name label, block *node) error {
	if len(r.policy.rules) == MaxRules {
		return name.at.errorf("the policy has more than %d paths", MaxRules)
	}
	templated, err := checkTemplates(name.text)
	if err != nil {
		return name.at.errorf("path %q: %v", name.text, err)
	}
	made := &rule{at: name.at, pattern: parsePattern(name.text), templated: templated}
	if problem := made.pattern.problem(); problem != "" {
		return name.at.errorf("path %.80q: %s", name.text, problem)
	}
	r.policy.templated = r.policy.templated || templated
	if doubt := made.pattern.doubts(); doubt != "" {
		r.warn(name.at, "path %q: %s", name.text, doubt)
	}
	fields := &fieldReader{reader: r, rule: made, seen: map[string]*item{}}
	for _, it := range block.body.items {
		if err := fields.read(it); err != nil {
			return err
		}
	}
	if err := fields.finish(name); err != nil {
		return err
	}
	r.policy.rules = append(r.policy.rules, made)
	return nil
}

func (r *reader) warn(at position, format string, args ...any) {
	// A warning is a SyntaxError that does not refuse, and is built alike.
	problem := at.errorf(format, args...).(*SyntaxError)
	r.policy.warnings = append(r.policy.warnings, Warning{problem.Line, problem.Column, problem.Problem})
}

// text returns the value of an item that must be a string.
func text(it *item) (string, error) {
	if it.value.kind != nodeString {
		return "", it.value.at.errorf("%s must be a string, not %s", it.key, it.value.kind)
	}
	return it.value.text, nil
}

// texts returns the value of an item that must be a list of strings.
func texts(it *item) ([]label, error) {
	if it.value.kind != nodeList {
		return nil, it.value.at.errorf("%s must be a list, as in %s = [\"…\"], not %s", it.key, it.key, it.value.kind)
	}
	var list []label
	for _, e := range it.value.list {
		if e.value.kind != nodeString {
			return nil, e.value.at.errorf("%s must be a list of strings; this is %s", it.key, e.value.kind)
		}
		list = append(list, label{e.value.text, e.value.at})
	}
	return list, nil
}

// literal turns a node into a canonical value.
func literal(n *node) (any, error) {
	switch n.kind {
	case nodeString:
		return n.text, nil
	case nodeBool:
		return n.text == "true", nil
	case nodeNumber:
		number, ok := parseNumeral(n.text)
		if !ok {
			return nil, n.at.errorf("the number %s is out of range", n.text)
		}
		return number, nil
	case nodeList:
		list := make([]any, len(n.list))
		for i, e := range n.list {
			var err error
			if list[i], err = literal(e.value); err != nil {
				return nil, err
			}
		}
		return list, nil
	case nodeObject:
		object := make(map[string]any, len(n.body.items))
		for _, it := range n.body.items {
			if _, twice := object[it.key]; twice || len(it.labels) > 0 {
				return nil, it.at.errorf("%q is there twice", it.key)
			}
			var err error
			if object[it.key], err = literal(it.value); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	return nil, nil
}

// lowered is how names of parameters are compared.
func lowered(name string) string { return strings.ToLower(name) }
