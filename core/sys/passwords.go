package sys

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/password"
)

// passwordPolicies is what the routes of this file need of a transaction.
type passwordPolicies interface {
	PasswordPolicyText(name string) (text string, ok bool, err error)
	PutPasswordPolicy(name, text string) error
	DeletePasswordPolicy(name string) error
	PasswordPolicies() ([]string, error)
}

type writePasswordPolicy struct {
	policyName
	Policy engine.Text `json:"policy" doc:"the policy, in HCL or JSON, or either in base64"`
}

type passwordPolicyText struct {
	Policy string `json:"policy"`
}

type madePassword struct {
	Password string `json:"password"`
}

// passwordRoutes are those of password policies.
func passwordRoutes() []engine.Route {
	const all, one = "policies/password", "policies/password/{name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: all, Summary: "List the password policies."}, listPasswordPolicies),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a password policy."}, readPasswordPolicy),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true, Summary: "Write a password policy."}, putPasswordPolicy),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "Delete a password policy."}, deletePasswordPolicy),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one + "/generate", Summary: "Make a password by a policy."}, generatePassword),
	}
}

func listPasswordPolicies(c *engine.Call, _ *struct{}) (*policyNames, error) {
	names, err := ask[passwordPolicies](c).PasswordPolicies()
	if err == nil && len(names) == 0 {
		err = &engine.NotFoundError{What: "password policies"}
	}
	return &policyNames{Keys: names}, err
}

// passwordPolicy is the policy of a name, as it was written.
func passwordPolicy(c *engine.Call, r *policyName) (string, error) {
	name, err := r.name()
	if err != nil {
		return "", err
	}
	text, ok, err := ask[passwordPolicies](c).PasswordPolicyText(name)
	if err == nil && !ok {
		err = &engine.NotFoundError{What: "password policy"}
	}
	return text, err
}

func readPasswordPolicy(c *engine.Call, r *policyName) (*passwordPolicyText, error) {
	text, err := passwordPolicy(c, r)
	return &passwordPolicyText{text}, err
}

func putPasswordPolicy(c *engine.Call, r *writePasswordPolicy) (*none, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	text := string(r.Policy)
	if strings.TrimSpace(text) == "" {
		return nil, &engine.InvalidError{Why: "'policy' parameter not supplied or empty"}
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	if _, err := parsedPassword(text); err != nil {
		return nil, err
	}
	return nil, ask[passwordPolicies](c).PutPasswordPolicy(name, text)
}

func parsedPassword(text string) (*password.Policy, error) {
	p, err := password.Parse(text)
	if errors.Is(err, password.ErrPolicy) {
		return nil, &engine.InvalidError{Why: err.Error()}
	}
	return p, err
}

func deletePasswordPolicy(c *engine.Call, r *policyName) (*none, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	return nil, ask[passwordPolicies](c).DeletePasswordPolicy(name)
}

func generatePassword(c *engine.Call, r *policyName) (*madePassword, error) {
	text, err := passwordPolicy(c, r)
	if err != nil {
		return nil, err
	}
	p, err := parsedPassword(text)
	if err != nil {
		return nil, err
	}
	made, err := p.Generate(c.Rand)
	if err != nil {
		return nil, err
	}
	return &madePassword{string(made.Expose())}, nil
}
