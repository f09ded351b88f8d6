package auth

import (
	"slices"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// TokenFields are the fields of a request that shape the tokens of a role, under
// the names that all auth methods share, and under those that they had before.
// Embed it in a request. A nil field was not sent and changes nothing; where both
// names of one were sent, the newer counts.
type TokenFields struct {
	Policies        *engine.Strings  `json:"token_policies" doc:"policies of the tokens"`
	TTL             *engine.Duration `json:"token_ttl" doc:"time to live; 0: the mount's default"`
	MaxTTL          *engine.Duration `json:"token_max_ttl" doc:"time to live with all renewals; 0: the mount's maximum"`
	ExplicitMaxTTL  *engine.Duration `json:"token_explicit_max_ttl" doc:"hard limit that no tuning moves"`
	Period          *engine.Duration `json:"token_period" doc:"renewals set this time to live, without a maximum"`
	BoundCIDRs      *engine.Strings  `json:"token_bound_cidrs" doc:"addresses that may log in and use the tokens"`
	NoDefaultPolicy *engine.Bool     `json:"token_no_default_policy" doc:"without the policy named default"`
	NumUses         *engine.Int      `json:"token_num_uses" doc:"how often a token may be used; 0: without limit"`
	Type            *engine.Text     `json:"token_type" doc:"service, batch or default"`

	OldPolicies   *engine.Strings  `json:"policies" doc:"older name of token_policies"`
	OldTTL        *engine.Duration `json:"ttl" doc:"older name of token_ttl"`
	OldMaxTTL     *engine.Duration `json:"max_ttl" doc:"older name of token_max_ttl"`
	OldPeriod     *engine.Duration `json:"period" doc:"older name of token_period"`
	OldBoundCIDRs *engine.Strings  `json:"bound_cidrs" doc:"older name of token_bound_cidrs"`
	OldNumUses    *engine.Int      `json:"num_uses" doc:"older name of token_num_uses"`
}

// maxPolicies bounds the policies of a role: each token carries their names.
const maxPolicies = 256

// Apply puts what was sent into s and checks the whole. After an error, an
// engine.InvalidError, s is of no use.
func (f *TokenFields) Apply(s *engine.TokenSettings) error {
	Set(&s.Policies, f.OldPolicies, f.Policies)
	Set(&s.TTL, f.OldTTL, f.TTL)
	Set(&s.MaxTTL, f.OldMaxTTL, f.MaxTTL)
	Set(&s.ExplicitMaxTTL, f.ExplicitMaxTTL)
	Set(&s.Period, f.OldPeriod, f.Period)
	Set(&s.BoundCIDRs, f.OldBoundCIDRs, f.BoundCIDRs)
	Set(&s.NoDefaultPolicy, f.NoDefaultPolicy)
	Set(&s.NumUses, f.OldNumUses, f.NumUses)
	if f.Type != nil {
		s.Type = string(*f.Type)
	}
	return normalize(s)
}

// Set puts the last value that was sent, if any was, into to.
func Set[T any](to *T, sent ...*T) {
	for _, v := range sent {
		if v != nil {
			*to = *v
		}
	}
}

func normalize(s *engine.TokenSettings) (err error) {
	if s.Policies, err = FoldPolicies(s.Policies); err != nil {
		return err
	}
	if s.BoundCIDRs, err = ParseRanges("token_bound_cidrs", s.BoundCIDRs); err != nil {
		return err
	}
	invalid := func(why string) error { return &engine.InvalidError{Why: why} }
	switch {
	case s.NumUses < 0:
		return invalid("the field \"token_num_uses\" is negative")
	case s.MaxTTL > 0 && s.TTL > s.MaxTTL:
		return invalid("token_ttl is longer than token_max_ttl")
	case s.Period > 0 && s.ExplicitMaxTTL > 0 && s.Period > s.ExplicitMaxTTL:
		return invalid("token_period is longer than token_explicit_max_ttl")
	}
	switch s.Type {
	case "", "default", "service", "default-service", "default-batch":
	case "batch":
		if s.Period > 0 || s.NumUses > 0 {
			return invalid("a batch token has neither a period nor a number of uses")
		}
	default:
		return invalid("the field \"token_type\" must be service, batch or default")
	}
	return nil
}

// FoldPolicies returns names of policies as they are stored: in lower case,
// sorted, each once. The policy root is none that a login may give.
func FoldPolicies(names []string) (engine.Strings, error) {
	if len(names) > maxPolicies {
		return nil, &engine.InvalidError{Why: "there are more than 256 policies"}
	}
	folded := make(engine.Strings, 0, len(names))
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, err := engine.ParsePath(name, 256); err != nil {
			return nil, &engine.InvalidError{Why: "the name of a policy " + strings.TrimPrefix(err.Error(), "path ")}
		}
		if name == "root" {
			return nil, &engine.InvalidError{Why: "an auth method cannot give the policy root"}
		}
		folded = append(folded, name)
	}
	slices.Sort(folded)
	return slices.Compact(folded), nil
}

// Shown is how the settings are told to a reader: with the type spelled out.
func Shown(s engine.TokenSettings) engine.TokenSettings {
	if s.Type == "" {
		s.Type = "default"
	}
	return s
}
