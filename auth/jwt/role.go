package jwt

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// role is the record of a role.
type role struct {
	engine.TokenSettings
	Audiences   engine.Strings            `json:"bound_audiences"`
	Subject     string                    `json:"bound_subject"`
	Claims      map[string]engine.Strings `json:"bound_claims"`
	ClaimsType  string                    `json:"bound_claims_type"` // string or glob
	UserClaim   string                    `json:"user_claim"`
	UserPointer bool                      `json:"user_claim_json_pointer"`
	GroupsClaim string                    `json:"groups_claim"`
	GroupPolicy map[string]engine.Strings `json:"group_policies"`
	Mappings    map[string]string         `json:"claim_mappings"`
	Expiration  leeway                    `json:"expiration_leeway"`
	NotBefore   leeway                    `json:"not_before_leeway"`
	ClockSkew   leeway                    `json:"clock_skew_leeway"`
}

// leeway is in seconds; 0: the default; below: none.
type leeway int64

// UnmarshalJSON implements json.Unmarshaler.
func (l *leeway) UnmarshalJSON(p []byte) error {
	var text engine.Text
	if err := text.UnmarshalJSON(p); err != nil {
		return err
	}
	if strings.HasPrefix(strings.TrimSpace(string(text)), "-") {
		*l = -1
		return nil
	}
	var d engine.Duration
	err := d.UnmarshalJSON(p)
	*l = leeway(time.Duration(d) / time.Second)
	return err
}

func (l leeway) or(standard time.Duration) time.Duration {
	switch {
	case l == 0:
		return standard
	case l < 0:
		return 0
	}
	return time.Duration(l) * time.Second
}

// textLists is an object of texts or lists of texts in a request, or a text that
// holds such an object. Numbers and truth values count as the text they are
// written as.
type textLists map[string]engine.Strings

// UnmarshalJSON implements json.Unmarshaler. Its errors quote nothing.
func (m *textLists) UnmarshalJSON(p []byte) error {
	var text string
	if json.Unmarshal(p, &text) == nil {
		if p = []byte(text); strings.TrimSpace(text) == "" {
			p = []byte("{}")
		}
	}
	var values engine.Object
	if err := json.Unmarshal(p, &values); err != nil {
		return &engine.InvalidError{Why: "is no object of texts or lists of texts"}
	}
	*m = textLists{}
	for k, raw := range values {
		list, err := texts(raw)
		if err != nil {
			return err
		}
		(*m)[k] = list
	}
	return nil
}

// maxListBytes bounds a list of texts as it is sent, before anybody is known to send it.
const maxListBytes = 1 << 20

// texts reads a text or a list of texts. Unlike engine.Strings it does not split
// a text at commas, which a claim may contain.
func texts(p json.RawMessage) (engine.Strings, error) {
	var one engine.Text
	if one.UnmarshalJSON(p) == nil {
		return engine.Strings{string(one)}, nil
	}
	if len(p) > maxListBytes {
		return nil, &engine.InvalidError{Why: "has a list that is too long"}
	}
	var many []engine.Text
	if err := json.Unmarshal(p, &many); err != nil {
		return nil, &engine.InvalidError{Why: "has a value that is neither a text nor a list of texts"}
	}
	out := engine.Strings{}
	for _, t := range many {
		out = append(out, string(t))
	}
	return out, nil
}

type roleName struct {
	Name string `path:"name" doc:"name of the role"`
}

// writeRoleRequest is what may be said about a role; nil: nothing.
type writeRoleRequest struct {
	roleName
	auth.TokenFields
	Type        *engine.Text    `json:"role_type" doc:"jwt, which is all that is supported"`
	Audiences   *engine.Strings `json:"bound_audiences" doc:"one of these must be among the token's audiences"`
	Subject     *engine.Text    `json:"bound_subject" doc:"the token's subject must be this"`
	Claims      *textLists      `json:"bound_claims" doc:"by claim, or JSON pointer to one: the values of which it must have one"`
	ClaimsType  *engine.Text    `json:"bound_claims_type" doc:"string, or glob: a * in a value stands for anything"`
	UserClaim   *engine.Text    `json:"user_claim" doc:"the claim that names who logs in"`
	UserPointer *engine.Bool    `json:"user_claim_json_pointer" doc:"whether user_claim is a JSON pointer"`
	GroupsClaim *engine.Text    `json:"groups_claim" doc:"the claim, or JSON pointer to it, that lists groups"`
	GroupPolicy *textLists      `json:"group_policies" doc:"by group: further policies of tokens of its members"`
	Mappings    *auth.Metadata  `json:"claim_mappings" doc:"by claim: the metadata that takes its value"`
	Expiration  *leeway         `json:"expiration_leeway" doc:"life of a token that says no end; 150 s unless given"`
	NotBefore   *leeway         `json:"not_before_leeway" doc:"how long before its end a token that says no start starts; 150 s unless given"`
	ClockSkew   *leeway         `json:"clock_skew_leeway" doc:"by how much clocks may differ; 60 s unless given, negative: not at all"`
}

func rolePath(name string) engine.Path { return engine.Path{"role", name} }

// named finds the role that a request names, nil if there is none.
func named(tx engine.Tx, name string) (folded string, r *role, err error) {
	return auth.Named[role](tx, "role", name, rolePath)
}

// roleResponse is what a reader sees of a role.
type roleResponse struct {
	role
	Kind string `json:"role_type"`
}

func readRole(c *engine.Call, q *roleName) (*roleResponse, error) {
	_, r, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, &engine.NotFoundError{What: "role"}
	}
	r.TokenSettings = auth.Shown(r.TokenSettings)
	return &roleResponse{*r, "jwt"}, nil
}

func deleteRole(c *engine.Call, q *roleName) (*struct{}, error) {
	name, r, err := named(c, q.Name)
	if err != nil || r == nil {
		return nil, err
	}
	return nil, c.DeleteRecord(rolePath(name))
}

func writeRole(c *engine.Call, q *writeRoleRequest) (*struct{}, error) {
	name, r, err := named(c, q.Name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = &role{ClaimsType: "string"}
	}
	if err := q.apply(r); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, rolePath(name), r)
}

// apply puts what was sent into r and checks the whole.
func (q *writeRoleRequest) apply(r *role) error {
	if q.Type != nil && *q.Type != "" && *q.Type != "jwt" {
		return &engine.InvalidError{Why: "the field \"role_type\" must be jwt"}
	}
	if err := q.TokenFields.Apply(&r.TokenSettings); err != nil {
		return err
	}
	put(&r.Audiences, q.Audiences)
	put((*engine.Text)(&r.Subject), q.Subject)
	put((*textLists)(&r.Claims), q.Claims)
	put((*engine.Text)(&r.ClaimsType), q.ClaimsType)
	put((*engine.Text)(&r.UserClaim), q.UserClaim)
	put((*engine.Bool)(&r.UserPointer), q.UserPointer)
	put((*engine.Text)(&r.GroupsClaim), q.GroupsClaim)
	put((*textLists)(&r.GroupPolicy), q.GroupPolicy)
	put((*auth.Metadata)(&r.Mappings), q.Mappings)
	put(&r.Expiration, q.Expiration)
	put(&r.NotBefore, q.NotBefore)
	put(&r.ClockSkew, q.ClockSkew)
	return r.check()
}

func put[T any](to, sent *T) {
	if sent != nil {
		*to = *sent
	}
}

// maxBound bounds what a role may ask of a token: a login looks at all of it.
const maxBound = 256

func (r *role) check() error {
	invalid := func(why string) error { return &engine.InvalidError{Why: why} }
	switch {
	case r.UserClaim == "":
		return invalid("missing user_claim")
	case r.ClaimsType != "string" && r.ClaimsType != "glob":
		return invalid("the field \"bound_claims_type\" must be string or glob")
	case len(r.Audiences)+len(r.Claims)+len(r.BoundCIDRs) == 0 && r.Subject == "":
		// Else whoever has any token of the issuer could log in.
		return invalid("a role must bind at least one of audiences, subject, claims and addresses")
	case len(r.Audiences) > maxBound || len(r.Claims) > maxBound || len(r.GroupPolicy) > maxBound:
		return invalid("a role binds at most 256 audiences, claims and groups")
	case len(r.GroupPolicy) > 0 && r.GroupsClaim == "":
		return invalid("group_policies needs groups_claim")
	}
	for _, values := range r.Claims {
		if len(values) == 0 || len(values) > maxBound || slices.ContainsFunc(values, func(v string) bool { return len(v) > 4096 }) {
			return invalid("a bound claim must have from 1 to 256 values of at most 4096 bytes")
		}
	}
	for group, names := range r.GroupPolicy {
		policies, err := auth.FoldPolicies(names)
		if err != nil {
			return err
		}
		r.GroupPolicy[group] = policies
	}
	return auth.Metadata(r.Mappings).Check()
}
