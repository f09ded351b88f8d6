package sys

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// A token role lets those who may use it make tokens that they could not make on
// their own authority: with policies that they do not have, without a parent, with
// a period. It is filed in the mount of the token store.
type tokenRole struct {
	AllowedPolicies        engine.Strings  `json:"allowed_policies" doc:"policies that its tokens may have; none: those of the caller"`
	DisallowedPolicies     engine.Strings  `json:"disallowed_policies" doc:"policies that they may not have"`
	AllowedPoliciesGlob    engine.Strings  `json:"allowed_policies_glob" doc:"patterns of policies that they may have"`
	DisallowedPoliciesGlob engine.Strings  `json:"disallowed_policies_glob" doc:"patterns of policies that they may not have"`
	AllowedEntityAliases   engine.Strings  `json:"allowed_entity_aliases" doc:"patterns of whom its tokens may belong to"`
	Orphan                 engine.Bool     `json:"orphan" doc:"its tokens have no parent"`
	Renewable              engine.Bool     `json:"renewable" doc:"its tokens may be renewed"`
	PathSuffix             string          `json:"path_suffix" doc:"ends the path that its tokens are shown to come from"`
	BoundCIDRs             engine.Strings  `json:"token_bound_cidrs" doc:"addresses that may use the tokens"`
	ExplicitMaxTTL         engine.Duration `json:"token_explicit_max_ttl" doc:"hard limit that no tuning moves"`
	Period                 engine.Duration `json:"token_period" doc:"renewals set this time to live, without a maximum"`
	NoDefaultPolicy        engine.Bool     `json:"token_no_default_policy" doc:"without the policy named default"`
	NumUses                engine.Int      `json:"token_num_uses" doc:"how often a token may be used; 0: without limit"`
	Type                   string          `json:"token_type" doc:"service, batch, default-service or default-batch"`
}

type tokenRoleName struct {
	Name string `path:"name" doc:"the role"`
}

type writeTokenRole struct {
	tokenRoleName
	AllowedPolicies        *engine.Strings  `json:"allowed_policies" doc:"policies that its tokens may have; none: those of the caller"`
	DisallowedPolicies     *engine.Strings  `json:"disallowed_policies" doc:"policies that they may not have"`
	AllowedPoliciesGlob    *engine.Strings  `json:"allowed_policies_glob" doc:"patterns of policies that they may have"`
	DisallowedPoliciesGlob *engine.Strings  `json:"disallowed_policies_glob" doc:"patterns of policies that they may not have"`
	AllowedEntityAliases   *engine.Strings  `json:"allowed_entity_aliases" doc:"patterns of whom its tokens may belong to"`
	Orphan                 *engine.Bool     `json:"orphan" doc:"its tokens have no parent"`
	Renewable              *engine.Bool     `json:"renewable" doc:"its tokens may be renewed; true by default"`
	PathSuffix             *engine.Text     `json:"path_suffix" doc:"ends the path that its tokens are shown to come from"`
	BoundCIDRs             *engine.Strings  `json:"token_bound_cidrs" doc:"addresses that may use the tokens"`
	ExplicitMaxTTL         *engine.Duration `json:"token_explicit_max_ttl" doc:"hard limit that no tuning moves"`
	Period                 *engine.Duration `json:"token_period" doc:"renewals set this time to live, without a maximum"`
	NoDefaultPolicy        *engine.Bool     `json:"token_no_default_policy" doc:"without the policy named default"`
	NumUses                *engine.Int      `json:"token_num_uses" doc:"how often a token may be used; 0: without limit"`
	Type                   *engine.Text     `json:"token_type" doc:"service, batch, default-service or default-batch"`

	OldBoundCIDRs     *engine.Strings  `json:"bound_cidrs" doc:"older name of token_bound_cidrs"`
	OldExplicitMaxTTL *engine.Duration `json:"explicit_max_ttl" doc:"older name of token_explicit_max_ttl"`
	OldPeriod         *engine.Duration `json:"period" doc:"older name of token_period"`
}

// shownTokenRole has the older names, too, which clients still read.
type shownTokenRole struct {
	Name string `json:"name"`
	tokenRole
	OldExplicitMaxTTL engine.Duration `json:"explicit_max_ttl"`
	OldPeriod         engine.Duration `json:"period"`
}

func tokenRoleRoutes() []engine.Route {
	one := "roles/{name}"
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "roles", Summary: "List the token roles."},
			func(c *engine.Call, q *auth.ListRequest) (*auth.ListResponse, error) {
				return auth.List(c, engine.Path{"role"}, *q, "token role")
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Read a token role."}, readTokenRole),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true, Summary: "Write a token role."}, putTokenRole),
			func(c *engine.Call, q *writeTokenRole) (bool, error) {
				_, role, err := q.find(c)
				return role != nil, err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "Delete a token role; its tokens live on."},
			func(c *engine.Call, q *tokenRoleName) (*none, error) {
				name, err := auth.FoldName("token role", q.Name)
				if err != nil {
					return nil, err
				}
				return nil, c.DeleteRecord(tokenRoleAt(name))
			}),
	}
}

func tokenRoleAt(folded string) engine.Path { return engine.Path{"role", folded} }

func (q *tokenRoleName) find(c *engine.Call) (folded string, role *tokenRole, err error) {
	return auth.Named[tokenRole](c, "token role", q.Name, tokenRoleAt)
}

func readTokenRole(c *engine.Call, q *tokenRoleName) (*shownTokenRole, error) {
	name, role, err := q.find(c)
	if err == nil && role == nil {
		err = &engine.NotFoundError{What: "token role"}
	}
	if err != nil {
		return nil, err
	}
	return &shownTokenRole{name, *role, role.ExplicitMaxTTL, role.Period}, nil
}

func putTokenRole(c *engine.Call, q *writeTokenRole) (*none, error) {
	name, role, err := q.find(c)
	if err != nil {
		return nil, err
	}
	if role == nil {
		role = &tokenRole{Renewable: true, Type: "default-service"}
	}
	if err := q.apply(role); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, tokenRoleAt(name), role)
}

// apply puts what was sent into the role and checks the whole.
func (q *writeTokenRole) apply(r *tokenRole) (err error) {
	auth.Set(&r.AllowedPolicies, q.AllowedPolicies)
	auth.Set(&r.DisallowedPolicies, q.DisallowedPolicies)
	auth.Set(&r.AllowedPoliciesGlob, q.AllowedPoliciesGlob)
	auth.Set(&r.DisallowedPoliciesGlob, q.DisallowedPoliciesGlob)
	auth.Set(&r.AllowedEntityAliases, q.AllowedEntityAliases)
	auth.Set(&r.Orphan, q.Orphan)
	auth.Set(&r.Renewable, q.Renewable)
	auth.Set((*engine.Text)(&r.PathSuffix), q.PathSuffix)
	auth.Set(&r.BoundCIDRs, q.OldBoundCIDRs, q.BoundCIDRs)
	auth.Set(&r.ExplicitMaxTTL, q.OldExplicitMaxTTL, q.ExplicitMaxTTL)
	auth.Set(&r.Period, q.OldPeriod, q.Period)
	auth.Set(&r.NoDefaultPolicy, q.NoDefaultPolicy)
	auth.Set(&r.NumUses, q.NumUses)
	auth.Set((*engine.Text)(&r.Type), q.Type)
	if r.BoundCIDRs, err = auth.ParseRanges("token_bound_cidrs", r.BoundCIDRs); err != nil {
		return err
	}
	for _, list := range []*engine.Strings{&r.AllowedPolicies, &r.DisallowedPolicies, &r.AllowedPoliciesGlob, &r.DisallowedPoliciesGlob, &r.AllowedEntityAliases} {
		if *list = lowered(*list); len(*list) > maxRoleNames {
			return &engine.InvalidError{Why: fmt.Sprintf("a role names at most %d policies or patterns of one kind", maxRoleNames)}
		}
	}
	return r.check()
}

// maxRoleNames bounds the lists of a role: each use of it goes over them.
const maxRoleNames = 256

// maxEntityAlias bounds who a token belongs to, in bytes: each token carries it.
const maxEntityAlias = 256

func (r *tokenRole) check() error {
	invalid := func(why string) error { return &engine.InvalidError{Why: why} }
	for _, pattern := range slices.Concat(r.AllowedPoliciesGlob, r.DisallowedPoliciesGlob, r.AllowedEntityAliases) {
		if _, err := path.Match(pattern, ""); err != nil {
			return invalid("a pattern cannot be read: it may have * for any letters and ? for one")
		}
	}
	switch {
	case r.NumUses < 0:
		return invalid("the field \"token_num_uses\" is negative")
	case r.ExplicitMaxTTL > 0 && r.Period > r.ExplicitMaxTTL:
		return invalid("token_period is longer than token_explicit_max_ttl")
	case !slices.Contains([]string{"", "service", "batch", "default-service", "default-batch"}, r.Type):
		return invalid("the field \"token_type\" must be service, batch, default-service or default-batch")
	case r.Type == "batch" && (r.Period > 0 || r.NumUses > 0):
		return invalid("a batch token has neither a period nor a number of uses")
	}
	if r.PathSuffix != "" {
		if _, err := auth.FoldName("path suffix", r.PathSuffix); err != nil {
			return err
		}
	}
	return nil
}

// createByRole makes a token on the authority of a role, for whoever may write to
// the role's path.
type createRoleToken struct {
	Role string `path:"role" doc:"the role"`
	createToken
}

func createByRole(c *engine.Call, r *createRoleToken) (*core.Auth, error) {
	name, role, err := (&tokenRoleName{r.Role}).find(c)
	switch {
	case err != nil:
		return nil, err
	case role == nil:
		return nil, &engine.InvalidError{Why: fmt.Sprintf("unknown role %s", name)}
	}
	own, _ := ask[tokens](c).CallerPolicies()
	alias, entityAlias := (*storev1.Alias)(nil), r.EntityAlias
	r.EntityAlias = ""
	// Who chooses the text or a period of a token needs sudo on auth/token/create,
	// by a role, too.
	if err := r.check(false, ask[tokens](c).MaySudo(createPath)); err != nil {
		return nil, err
	}
	if entityAlias != "" {
		entityAlias = strings.ToLower(entityAlias) // as it is matched, so that one name is one entity
		if len(entityAlias) > maxEntityAlias || !matches(role.AllowedEntityAliases, entityAlias) {
			return nil, &engine.InvalidError{Why: "invalid 'entity_alias' value"}
		}
		alias = &storev1.Alias{MountAccessor: c.Mount.Accessor, Name: entityAlias, Inherited: true}
	}
	policies, err := role.policies(&r.createToken, own)
	if err != nil {
		return nil, err
	}
	return r.make(c, core.TokenSpec{
		Path: strings.TrimSuffix(c.Path+"/"+role.PathSuffix, "/"),
		Settings: engine.TokenSettings{TTL: max(r.TTL, r.Lease), ExplicitMaxTTL: shorter(role.ExplicitMaxTTL, r.ExplicitMaxTTL),
			Period: role.Period, NumUses: fewer(role.NumUses, r.NumUses), BoundCIDRs: role.BoundCIDRs},
		Batch: role.batch(r.Type), Renewable: bool(role.Renewable) && (r.Renewable == nil || bool(*r.Renewable)),
		Policies: policies, Role: name, Alias: alias,
	}, bool(role.Orphan))
}

// policies are those of a token by the role: within what the role allows or, if it
// says nothing, within what the caller has. The policy root is never among them.
func (r *tokenRole) policies(q *createToken, own []string) ([]string, error) {
	asked, root, err := namedPolicies(q.Policies)
	limited := len(r.AllowedPolicies)+len(r.AllowedPoliciesGlob) > 0
	switch {
	case err != nil:
		return nil, err
	case root:
		return nil, &engine.InvalidError{Why: "a role makes no root tokens"}
	case len(asked) > 0:
	case limited:
		asked = slices.Clone(r.AllowedPolicies)
	default:
		asked = slices.DeleteFunc(slices.Clone(own), func(p string) bool { return p == "root" })
	}
	forbidden := func(p string) bool {
		return slices.Contains(r.DisallowedPolicies, p) || matches(r.DisallowedPoliciesGlob, p)
	}
	withDefault := !bool(r.NoDefaultPolicy) && !bool(q.NoDefaultPolicy) && !forbidden("default")
	for _, p := range asked {
		allowed := slices.Contains(own, p) || slices.Contains(own, "root")
		if limited {
			allowed = slices.Contains(r.AllowedPolicies, p) || matches(r.AllowedPoliciesGlob, p)
		}
		switch {
		case p == "root":
			return nil, &engine.InvalidError{Why: "a role makes no root tokens"}
		case forbidden(p):
			return nil, &engine.InvalidError{Why: fmt.Sprintf("token policies (%q) may not have one that the role disallows", asked)}
		case !allowed && !(p == "default" && withDefault):
			return nil, &engine.InvalidError{Why: "token policies must be a subset of the role's allowed policies, or of the caller's"}
		}
	}
	return complete(asked, withDefault), nil
}

// batch decides the type of a token between the role and the request.
func (r *tokenRole) batch(asked string) bool {
	switch r.Type {
	case "service", "batch":
		return r.Type == "batch"
	}
	if asked == "service" || asked == "batch" {
		return asked == "batch"
	}
	return r.Type == "default-batch"
}

// matches tells whether a name matches one of the patterns, which have been checked.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

// shorter is the shorter of two times, of which 0 sets no limit.
func shorter(a, b engine.Duration) engine.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// fewer is the smaller of two numbers, of which 0 sets no limit.
func fewer(a, b engine.Int) engine.Int {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
