package jwt

import (
	"slices"
	"strings"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

type loginRequest struct {
	Role engine.Text `json:"role" doc:"name of the role; the configured default unless given"`
	JWT  engine.Text `json:"jwt" doc:"the signed token"`
}

// login checks a token against a role. The signature is checked whether or not
// there is such a role, and first: nothing that the token says is looked at before.
func (b *Backend) login(c *engine.Call, q *loginRequest) (*struct{}, error) {
	if q.JWT == "" {
		return nil, &engine.InvalidError{Why: "missing jwt"}
	}
	var f config
	found, err := engine.GetJSON(c, configPath, &f)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &engine.InvalidError{Why: "the auth method is not configured yet"}
	}
	wanted := string(q.Role)
	if wanted == "" {
		wanted = f.DefaultRole
	}
	if wanted == "" {
		return nil, &engine.InvalidError{Why: "missing role"}
	}
	name, r, err := named(c, wanted)
	if err != nil {
		return nil, err
	}
	said, err := b.prove(c, &f, string(q.JWT))
	if err != nil {
		return nil, err
	}
	if why := b.against(c, &f, r, said); why != "" {
		return nil, denied(why)
	}
	l, err := r.login(c.Mount, name, said)
	if err != nil {
		return nil, err
	}
	c.Login(*l)
	return nil, nil
}

func denied(why string) error {
	return &auth.CredentialError{Kind: auth.Denied, Text: "permission denied", Why: why}
}

// prove returns what the token says, once it is known who says it.
func (b *Backend) prove(c *engine.Call, f *config, text string) (claims, error) {
	t, err := parseJWS(text)
	if err != nil {
		return nil, denied("the token is malformed")
	}
	if _, known := algorithms[t.alg]; !known || len(f.Algorithms) > 0 && !slices.Contains(f.Algorithms, t.alg) {
		return nil, denied("the token is signed with an algorithm that is not accepted")
	}
	proven, err := b.proves(c.Context, f, t)
	if err != nil {
		return nil, err
	}
	if !proven {
		return nil, denied("no known key made the signature")
	}
	said, err := object(t.payload)
	if err != nil {
		return nil, denied("the token is malformed")
	}
	return said, nil
}

// against returns what speaks against a login, "" for nothing.
func (b *Backend) against(c *engine.Call, f *config, r *role, said claims) string {
	if r == nil {
		return "no such role"
	}
	if why := said.timely(r, b.now()); why != "" {
		return why
	}
	if why := said.admitted(r, f.Issuer); why != "" {
		return why
	}
	if !auth.Admits(r.BoundCIDRs, c.Caller.Address) {
		return "the address is outside the ranges of the role"
	}
	return ""
}

// maxUserBytes bounds the name of who logs in: each token carries it.
const maxUserBytes = 512

// login says who logs in, from a token that the role admits.
func (r *role) login(m engine.Mount, name string, said claims) (*engine.Login, error) {
	value := said[r.UserClaim]
	if r.UserPointer {
		value = said.at(r.UserClaim)
	}
	user, ok := value.(string)
	if !ok || user == "" || len(user) > maxUserBytes {
		return nil, denied("the user claim is missing, no text, or longer than 512 bytes")
	}
	metadata := auth.Metadata{}
	for claim, key := range r.Mappings {
		if v, ok := text(said.at(claim)); ok {
			metadata[key] = v
		}
	}
	l := &engine.Login{DisplayName: auth.DisplayName(m, user), Alias: user, Token: r.TokenSettings}
	if r.GroupsClaim != "" {
		groups := r.join(l, list(said.at(r.GroupsClaim)))
		if len(groups) > 0 {
			metadata["groups"] = strings.Join(groups, ",")
		}
	}
	metadata["role"] = name
	if metadata.Check() != nil {
		return nil, denied("what the claims map to is too long for metadata")
	}
	l.Metadata = metadata
	return l, nil
}

// join adds the policies of the groups that the role knows, and returns these.
func (r *role) join(l *engine.Login, groups []string) (known []string) {
	policies := slices.Clone(l.Token.Policies)
	for _, g := range groups {
		if more, ok := r.GroupPolicy[g]; ok && !slices.Contains(known, g) {
			known = append(known, g)
			policies = append(policies, more...)
		}
	}
	slices.Sort(policies)
	l.Token.Policies = slices.Compact(policies)
	slices.Sort(known)
	return known
}
