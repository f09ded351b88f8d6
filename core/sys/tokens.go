package sys

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// Tokens is the type "token": the token store as an auth method.
type Tokens struct{}

// Type implements engine.Backend.
func (Tokens) Type() string { return "token" }

// Summary implements engine.Backend.
func (Tokens) Summary() string { return "tokens: create, look up, renew, revoke" }

// tokens is what the routes of this file need of a transaction.
type tokens interface {
	OwnToken() (*core.Token, error)
	TokenByText(text redact.Bytes) (*core.Token, error)
	TokenByAccessor(accessor string) (*core.Token, error)
	CreateToken(s core.TokenSpec) (*core.NewToken, error)
	RenewToken(token *core.Token, increment time.Duration) (time.Duration, error)
	RevokeToken(token *core.Token)
	ReleaseToken(token *core.Token)
	Accessors(limit int) ([]string, error)
	CallerPolicies() (names []string, root bool)
	MaySudo(path string) bool
	PolicyText(name string) (string, bool, error)
	CallerToken() redact.Bytes
}

// Routes implements engine.Backend.
func (Tokens) Routes(map[string]string) ([]engine.Route, error) {
	write := func(path, summary string) engine.Route {
		return engine.Route{Verb: engine.VerbWrite, Path: path, Writes: true, Summary: summary}
	}
	making := func(path, summary string) engine.Route {
		r := write(path, summary)
		r.Parallel = true
		return r
	}
	sudo := func(r engine.Route) engine.Route {
		r.Sudo = true
		return r
	}
	routes := []engine.Route{
		engine.NewRoute(making("create", "Create a token, a child of the caller's."),
			func(c *engine.Call, r *createToken) (*core.Auth, error) { return r.create(c, bool(r.NoParent)) }),
		engine.NewRoute(making("create-orphan", "Create a token without a parent."),
			func(c *engine.Call, r *createToken) (*core.Auth, error) { return r.create(c, true) }),
		engine.NewRoute(making("create/{role}", "Create a token by a role."), createByRole),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "lookup-self", Summary: "Describe the caller's token."}, lookupSelf),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "lookup-self", Summary: "Describe the caller's token."}, lookupSelf),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "lookup", Summary: "Describe a token."}, lookup),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "lookup", Summary: "Describe the caller's token."}, lookupSelf),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "lookup-accessor", Summary: "Describe the token of an accessor."}, lookupAccessor),
		engine.NewRoute(write("renew-self", "Renew the caller's token."),
			func(c *engine.Call, r *renewToken) (*core.Auth, error) {
				token, err := ask[tokens](c).OwnToken()
				r.Token = string(ask[tokens](c).CallerToken().Expose())
				return r.renew(c, token, err)
			}),
		engine.NewRoute(write("renew", "Renew a token."),
			func(c *engine.Call, r *renewToken) (*core.Auth, error) {
				token, err := ask[tokens](c).TokenByText(redact.New([]byte(r.Token)))
				return r.renew(c, token, err)
			}),
		engine.NewRoute(write("renew-accessor", "Renew the token of an accessor."),
			func(c *engine.Call, r *renewToken) (*core.Auth, error) {
				token, err := ask[tokens](c).TokenByAccessor(r.Accessor)
				if err == nil && token == nil {
					err = errBadAccessor
				}
				return r.renew(c, token, err)
			}),
		engine.NewRoute(write("revoke-self", "Revoke the caller's token, with its children."),
			func(c *engine.Call, _ *struct{}) (*none, error) {
				token, err := ask[tokens](c).OwnToken()
				return nil, revoke(c, token, err)
			}),
		engine.NewRoute(write("revoke", "Revoke a token, with its children."),
			func(c *engine.Call, r *namedToken) (*none, error) {
				token, err := ask[tokens](c).TokenByText(redact.New([]byte(r.Token)))
				return nil, revoke(c, token, err)
			}),
		engine.NewRoute(sudo(write("revoke-orphan", "Revoke a token; its children live on as orphans.")),
			func(c *engine.Call, r *namedToken) (*none, error) {
				token, err := ask[tokens](c).TokenByText(redact.New([]byte(r.Token)))
				return nil, release(c, token, err)
			}),
		engine.NewRoute(write("revoke-accessor", "Revoke the token of an accessor, with its children."),
			func(c *engine.Call, r *namedToken) (*none, error) {
				token, err := ask[tokens](c).TokenByAccessor(r.Accessor)
				if err == nil && token == nil {
					c.Warn("No token found with this accessor")
				}
				return nil, revoke(c, token, err)
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "accessors", Sudo: true, Summary: "List the accessors of all tokens."}, listAccessors),
		engine.NewRoute(sudo(engine.Route{Verb: engine.VerbWrite, Path: "tidy", Summary: "Tell that there is nothing to tidy."}), tidy),
	}
	return append(routes, tokenRoleRoutes()...), nil
}

var (
	errBadToken    = core.Denied("bad token")
	errBadAccessor = &engine.InvalidError{Why: "invalid accessor"}
)

type namedToken struct {
	Token    string `json:"token" doc:"the token"`
	Accessor string `json:"accessor" doc:"the accessor of the token"`
}

type createToken struct {
	ID              string          `json:"id" doc:"the token itself, chosen; needs sudo"`
	Policies        engine.Strings  `json:"policies" doc:"policies, of those of the caller; all of them when none are named"`
	Meta            engine.Map      `json:"meta" doc:"shown with the token and in the audit log"`
	NoParent        engine.Bool     `json:"no_parent" doc:"an orphan; needs sudo"`
	NoDefaultPolicy engine.Bool     `json:"no_default_policy" doc:"without the policy named default"`
	Renewable       *engine.Bool    `json:"renewable" doc:"may be renewed; true by default"`
	TTL             engine.Duration `json:"ttl" doc:"time to live"`
	Lease           engine.Duration `json:"lease" doc:"the same, under its old name"`
	ExplicitMaxTTL  engine.Duration `json:"explicit_max_ttl" doc:"time to live with all renewals, which no tuning moves"`
	DisplayName     string          `json:"display_name" doc:"for people"`
	NumUses         engine.Int      `json:"num_uses" doc:"how often it may be used; 0: without limit"`
	Period          engine.Duration `json:"period" doc:"renewals set this time to live, without a maximum; needs sudo"`
	Type            string          `json:"type" doc:"service, or batch: stored nowhere, neither renewed nor revoked"`
	EntityAlias     string          `json:"entity_alias" doc:"who it belongs to; only by a role that allows it"`
}

// path of the route that all privileges of token creation hang on.
const createPath = "auth/token/create"

// create makes a token on the caller's own authority.
func (r *createToken) create(c *engine.Call, orphan bool) (*core.Auth, error) {
	t := ask[tokens](c)
	own, root := t.CallerPolicies()
	sudo := root || t.MaySudo(createPath)
	// For an orphan it takes sudo, or the right to the path that makes nothing else.
	mayOrphan := sudo || strings.HasSuffix(c.Path, "/create-orphan")
	if err := r.check(orphan && !mayOrphan, sudo); err != nil {
		return nil, err
	}
	policies, err := r.policies(own, sudo)
	if err != nil {
		return nil, err
	}
	return r.make(c, core.TokenSpec{
		Settings: engine.TokenSettings{TTL: max(r.TTL, r.Lease), ExplicitMaxTTL: r.ExplicitMaxTTL, Period: r.Period, NumUses: r.NumUses},
		Path:     c.Path, Batch: r.Type == "batch", Renewable: r.Renewable == nil || bool(*r.Renewable), Policies: policies,
	}, orphan)
}

// make makes a token of what was decided, and of what the request may always say.
// What bounds the caller's own token bounds those that it makes: nobody gets rid of a
// number of uses, of an end or of a range of addresses by way of another token.
func (r *createToken) make(c *engine.Call, s core.TokenSpec, orphan bool) (*core.Auth, error) {
	t := ask[tokens](c)
	parent, err := t.OwnToken()
	if err == nil {
		err = mayHaveChildren(parent)
	}
	if err != nil {
		return nil, err
	}
	if !orphan {
		s.Parent = parent
		if s.Alias == nil {
			s.Alias = parent.InheritedAlias()
		}
	}
	if len(s.Settings.BoundCIDRs) == 0 {
		s.Settings.BoundCIDRs = parent.BoundCidrs
	}
	for _, p := range s.Policies {
		if _, ok, err := t.PolicyText(p); err != nil {
			return nil, err
		} else if !ok && p != "root" {
			c.Warn("Policy %q does not exist", p)
		}
	}
	s.Endless = slices.Contains(s.Policies, "root") && s.Settings.TTL == 0 && s.Settings.ExplicitMaxTTL == 0 && s.Settings.Period == 0
	if _, _, ends := parent.Times(); ends && s.Endless {
		return nil, &engine.InvalidError{Why: "expiring root tokens cannot create non-expiring root tokens"}
	}
	s.DisplayName, s.Metadata, s.Mount, s.Text = displayName(r.DisplayName), r.Meta, c.Mount.ID, r.ID
	s.DefaultTTL, s.MaxTTL = c.Mount.DefaultTTL, c.Mount.MaxTTL
	made, err := t.CreateToken(s)
	if errors.Is(err, core.ErrTokenExists) {
		return nil, &engine.InvalidError{Why: "cannot create a token with a duplicate ID"}
	}
	if err != nil {
		return nil, err
	}
	return &core.Auth{Token: &made.Token, Text: made.Text.Expose(), TTL: made.TTL, Renewable: made.Renewable}, nil
}

// mayHaveChildren tells whether a caller's token can make others, orphans too.
func mayHaveChildren(parent *core.Token) error {
	switch {
	case parent == nil:
		return errBadToken
	case parent.Batch():
		return &engine.InvalidError{Why: "batch tokens cannot create more tokens"}
	case parent.UsesLeft > 0:
		return &engine.InvalidError{Why: "restricted use token cannot generate child tokens"}
	}
	return nil
}

// check refuses what makes no sense, and what takes sudo.
func (r *createToken) check(forbiddenOrphan, sudo bool) error {
	switch {
	case !slices.Contains([]string{"", "default", "service", "batch"}, r.Type):
		return &engine.InvalidError{Why: "the type of a token is service or batch"}
	case r.NumUses < 0:
		return &engine.InvalidError{Why: "number of uses cannot be negative"}
	case len(r.DisplayName) > maxDisplayName:
		return &engine.InvalidError{Why: fmt.Sprintf("the display name has more than %d bytes", maxDisplayName)}
	case r.EntityAlias != "":
		return &engine.InvalidError{Why: "'entity_alias' is only allowed in combination with token role"}
	case forbiddenOrphan, !sudo && (r.ID != "" || r.Period > 0):
		return &engine.InvalidError{Why: "root or sudo privileges required to create orphan token, to choose its id or to give it a period"}
	}
	if err := auth.Metadata(r.Meta).Check(); err != nil {
		return err
	}
	return checkText(r.ID)
}

// maxDisplayName bounds what a token is called, in bytes: the token and each record in
// the audit log carry it.
const maxDisplayName = 256

// maxTokenText bounds a token that a caller chooses.
const maxTokenText = 128

func checkText(text string) error {
	switch {
	case text == "":
		return nil
	case len(text) > maxTokenText || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return &engine.InvalidError{Why: fmt.Sprintf("a chosen token has at most %d printable characters without spaces", maxTokenText)}
	case strings.Contains(text, "."):
		return &engine.InvalidError{Why: "custom token ID cannot contain a '.' character"}
	case strings.HasPrefix(text, "s-"), strings.HasPrefix(text, "hvs"):
		return &engine.InvalidError{Why: "custom token ID cannot have the prefix of tokens that are drawn"}
	}
	return nil
}

// policies are those of the new token: the caller's own where none are named, else a
// part of these, unless it may do more. The policy default is no exception: it says
// what somebody wrote in it.
func (r *createToken) policies(own []string, sudo bool) ([]string, error) {
	asked, root, err := namedPolicies(r.Policies)
	if err != nil {
		return nil, err
	}
	if !root && len(asked) == 0 {
		asked, root = slices.Clone(own), slices.Contains(own, "root")
	}
	if root {
		if !slices.Contains(own, "root") {
			return nil, &engine.InvalidError{Why: "tokens may not be created with the root policy by a token without it"}
		}
		return []string{"root"}, nil
	}
	for _, p := range asked {
		if !sudo && !slices.Contains(own, p) {
			return nil, &engine.InvalidError{Why: "child policies must be subset of parent"}
		}
	}
	return complete(asked, !bool(r.NoDefaultPolicy) && (sudo || slices.Contains(own, "default"))), nil
}

// namedPolicies checks the names of policies for a token and folds them. Names that
// nobody can write a policy under are refused: what is not there can be no threat, but
// a list of names is looked up as a whole. root is told apart.
func namedPolicies(sent []string) (names []string, root bool, err error) {
	rest := slices.DeleteFunc(lowered(sent), func(name string) bool {
		root = root || name == "root"
		return name == "root"
	})
	names, err = auth.FoldPolicies(rest)
	return names, root, err
}

func lowered(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, strings.ToLower(strings.TrimSpace(name)))
	}
	return out
}

// complete is a token's list of policies, in the form in which it is stored.
func complete(policies []string, withDefault bool) []string {
	if withDefault {
		policies = append(policies, "default")
	}
	slices.Sort(policies)
	return slices.Compact(policies)
}

func displayName(sent string) string {
	if sent == "" {
		return "token"
	}
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, sent)
	return strings.TrimSuffix("token-"+clean, "-")
}

// tokenData is how a token is shown.
type tokenData struct {
	Accessor       string            `json:"accessor"`
	CreationTime   int64             `json:"creation_time"`
	CreationTTL    int64             `json:"creation_ttl"`
	DisplayName    string            `json:"display_name"`
	EntityID       string            `json:"entity_id"`
	ExpireTime     *string           `json:"expire_time"`
	ExplicitMaxTTL int64             `json:"explicit_max_ttl"`
	ID             string            `json:"id"`
	IssueTime      *string           `json:"issue_time,omitempty"`
	LastRenewal    *string           `json:"last_renewal,omitempty"`
	Meta           map[string]string `json:"meta"`
	NumUses        uint64            `json:"num_uses"`
	Orphan         bool              `json:"orphan"`
	Path           string            `json:"path"`
	Period         int64             `json:"period,omitempty"`
	Policies       []string          `json:"policies"`
	Renewable      bool              `json:"renewable"`
	Role           string            `json:"role,omitempty"`
	BoundCIDRs     []string          `json:"bound_cidrs,omitempty"`
	TTL            int64             `json:"ttl"`
	Type           string            `json:"type"`
}

// describe shows a token; id is its text, where the caller knows that already.
func describe(c *engine.Call, token *core.Token, id string) *tokenData {
	d := &tokenData{
		Accessor: token.Accessor, CreationTime: token.CreatedAt.AsTime().Unix(), CreationTTL: seconds(token.CreationTtl),
		DisplayName: token.Name, ExplicitMaxTTL: seconds(token.ExplicitMaxTtl), ID: id, Meta: token.Metadata, NumUses: token.UsesLeft,
		Orphan: token.Alone(), Path: token.Path, Period: seconds(token.Period), Policies: token.Policies, Renewable: token.Renewable,
		Role: token.Role, BoundCIDRs: token.BoundCidrs, Type: token.Type(), EntityID: token.EntityID,
	}
	if issued, expires, ok := token.Times(); ok {
		d.TTL = int64(max(expires.Sub(c.Now()), 0) / time.Second)
		d.ExpireTime, d.IssueTime = instant(expires), instant(issued)
	}
	return d
}

func instant(t time.Time) *string {
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}

func lookupSelf(c *engine.Call, _ *struct{}) (*tokenData, error) {
	token, err := ask[tokens](c).OwnToken()
	if err != nil || token == nil {
		return nil, orElse(err, errBadToken)
	}
	return describe(c, token, string(ask[tokens](c).CallerToken().Expose())), nil
}

func lookup(c *engine.Call, r *namedToken) (*tokenData, error) {
	if r.Token == "" {
		return lookupSelf(c, nil)
	}
	token, err := ask[tokens](c).TokenByText(redact.New([]byte(r.Token)))
	if err != nil || token == nil {
		return nil, orElse(err, errBadToken)
	}
	return describe(c, token, r.Token), nil
}

func lookupAccessor(c *engine.Call, r *namedToken) (*tokenData, error) {
	token, err := ask[tokens](c).TokenByAccessor(r.Accessor)
	if err != nil || token == nil {
		return nil, orElse(err, errBadAccessor)
	}
	return describe(c, token, ""), nil
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

type renewToken struct {
	namedToken
	Increment engine.Duration `json:"increment" doc:"how long it shall live from now"`
}

func (r *renewToken) renew(c *engine.Call, token *core.Token, err error) (*core.Auth, error) {
	switch {
	case err != nil:
		return nil, err
	case token == nil:
		return nil, &engine.InvalidError{Why: "token not found"}
	case token.Batch():
		return nil, &engine.InvalidError{Why: "batch tokens cannot be renewed"}
	case !token.Renewable || token.Lease == nil:
		return nil, &engine.InvalidError{Why: "lease is not renewable"}
	}
	wanted := time.Duration(r.Increment)
	ttl, err := ask[tokens](c).RenewToken(token, wanted)
	if err != nil {
		return nil, err
	}
	if ttl < wanted && token.Period.AsDuration() == 0 {
		c.Warn("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly", wanted, ttl)
	}
	return &core.Auth{Token: token, Text: []byte(r.Token), TTL: ttl, Renewable: true}, nil
}

// revoke ends a token. One that is not there has ended.
func revoke(c *engine.Call, token *core.Token, err error) error {
	return end(token, err, ask[tokens](c).RevokeToken)
}

// release ends a token without its children.
func release(c *engine.Call, token *core.Token, err error) error {
	if err == nil && token == nil {
		return &engine.InvalidError{Why: "token to revoke not found"}
	}
	return end(token, err, ask[tokens](c).ReleaseToken)
}

func end(token *core.Token, err error, how func(*core.Token)) error {
	switch {
	case err != nil || token == nil:
		return err
	case token.Batch():
		return &engine.InvalidError{Why: "batch tokens cannot be revoked"}
	}
	how(token)
	return nil
}

// tidy has nothing to do: a token and all that belongs to it end in one step.
func tidy(c *engine.Call, _ *struct{}) (*none, error) {
	c.Warn("There is nothing to tidy: what belongs to a token ends with it.")
	return nil, nil
}

type accessorKeys struct {
	Keys []string `json:"keys"`
}

// maxAccessors bounds a list that has no pages.
const maxAccessors = 100_000

func listAccessors(c *engine.Call, _ *struct{}) (*accessorKeys, error) {
	keys, err := ask[tokens](c).Accessors(maxAccessors)
	if err == nil && len(keys) == 0 {
		return nil, &engine.NotFoundError{What: "token"}
	}
	return &accessorKeys{keys}, err
}
