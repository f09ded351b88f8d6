package sys

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
)

// policies is what the routes of this file need of a transaction.
type policies interface {
	PolicyText(name string) (text string, ok bool, err error)
	PutPolicy(name, text string) error
	DeletePolicy(name string) error
	Policies() ([]string, error)
}

const rootPolicy = "root" // exists always, and has no text

// maxPolicyName bounds the name of a policy, in bytes.
const maxPolicyName = 256

type policyName struct {
	Name string `path:"name" doc:"the policy"`
}

// name checks a name and lowers it, as policies are found.
func (p policyName) name() (string, error) {
	name := strings.ToLower(p.Name)
	if name == "" || len(name) > maxPolicyName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '/' }) || strings.TrimSpace(name) != name {
		return "", &engine.InvalidError{Why: fmt.Sprintf("the name of a policy has 1 to %d bytes, no slash, no control characters and no space around it", maxPolicyName)}
	}
	return name, nil
}

type writePolicy struct {
	policyName
	Policy engine.Text `json:"policy" doc:"the policy, in HCL or JSON"`
	Rules  engine.Text `json:"rules" doc:"the same, under its old name"`
}

type policyText struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
}

type policyRules struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
}

type policyNames struct {
	Keys     []string `json:"keys"`
	Policies []string `json:"policies,omitempty"`
}

// policyRoutes has every route twice: under policies/acl, and under policy, which
// answers a little differently.
func policyRoutes() []engine.Route {
	list := func(old bool) func(*engine.Call, *struct{}) (*policyNames, error) {
		return func(c *engine.Call, _ *struct{}) (*policyNames, error) {
			names, err := ask[policies](c).Policies()
			if err != nil {
				return nil, err
			}
			out := &policyNames{Keys: append(names, rootPolicy)}
			if old {
				out.Policies = out.Keys
			}
			return out, nil
		}
	}
	read := func(c *engine.Call, r *policyName) (name, text string, err error) {
		if name, err = r.name(); err != nil || name == rootPolicy {
			return name, "", err
		}
		text, ok, err := ask[policies](c).PolicyText(name)
		if err == nil && !ok {
			err = &engine.NotFoundError{What: "policy"}
		}
		return name, text, err
	}
	var routes []engine.Route
	for _, prefix := range []string{"policies/acl", "policy"} {
		old := prefix == "policy"
		one := prefix + "/{name}"
		routes = append(routes,
			engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: prefix, Summary: "List the policies."}, list(old)),
			engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: prefix, Summary: "List the policies."}, list(old)),
			engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true, Summary: "Write a policy."}, putPolicy),
			engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "Delete a policy."}, deletePolicy),
		)
		if old {
			routes = append(routes, engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a policy."},
				func(c *engine.Call, r *policyName) (*policyRules, error) {
					name, text, err := read(c, r)
					return &policyRules{name, text}, err
				}))
			continue
		}
		routes = append(routes, engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a policy."},
			func(c *engine.Call, r *policyName) (*policyText, error) {
				name, text, err := read(c, r)
				return &policyText{name, text}, err
			}))
	}
	return routes
}

func putPolicy(c *engine.Call, r *writePolicy) (*none, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	if name == rootPolicy {
		return nil, &engine.InvalidError{Why: `cannot update "root" policy`}
	}
	text := string(r.Policy)
	if text == "" {
		text = string(r.Rules)
	}
	if strings.TrimSpace(text) == "" {
		return nil, &engine.InvalidError{Why: "'policy' parameter not supplied or empty"}
	}
	p, err := policy.Parse(name, text)
	if err != nil {
		return nil, unreadable(err)
	}
	for _, w := range p.Warnings() {
		c.Warn("line %d, column %d: %s", w.Line, w.Column, w.Text)
	}
	if name != r.Name {
		c.Warn("policy name was converted to %s", name)
	}
	return nil, ask[policies](c).PutPolicy(name, text)
}

func unreadable(err error) error {
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		return &engine.InvalidError{Why: "failed to parse policy: " + syntax.Error()}
	}
	return err
}

func deletePolicy(c *engine.Call, r *policyName) (*none, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	if name == rootPolicy || name == "default" {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("cannot delete %q policy", name)}
	}
	return nil, ask[policies](c).DeletePolicy(name)
}
