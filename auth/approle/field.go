package approle

import (
	"github.com/conclave-secrets/conclave/engine"
)

// A field of a role has a path of its own, to read, write and reset it.
type field struct {
	path, what string
	// pick copies what a request says about the field; nil: it cannot be written.
	pick func(from, to *roleFields)
	// read shows the field in an answer.
	read func(*role, fieldResponse)
	// reset puts it back to what a new role has.
	reset func(*role)
}

// fieldResponse is one field of a role, under its name.
type fieldResponse map[string]any

var fields = []field{
	{"policies", "the policies of the tokens",
		func(from, to *roleFields) { to.Policies, to.OldPolicies = from.Policies, from.OldPolicies },
		func(r *role, a fieldResponse) { a["token_policies"], a["policies"] = r.Policies, r.Policies },
		func(r *role) { r.Policies = nil }},
	{"bind-secret-id", "whether a login needs a secret id",
		func(from, to *roleFields) { to.BindSecretID = from.BindSecretID },
		func(r *role, a fieldResponse) { a["bind_secret_id"] = r.BindSecretID },
		func(r *role) { r.BindSecretID = true }},
	{"secret-id-bound-cidrs", "the addresses that may log in",
		func(from, to *roleFields) { to.SecretRanges = from.SecretRanges },
		func(r *role, a fieldResponse) { a["secret_id_bound_cidrs"] = r.SecretRanges },
		func(r *role) { r.SecretRanges = nil }},
	{"bound-cidr-list", "the addresses that may log in, under the older name",
		func(from, to *roleFields) { to.OldRanges = from.OldRanges },
		func(r *role, a fieldResponse) { a["bound_cidr_list"] = r.SecretRanges },
		func(r *role) { r.SecretRanges = nil }},
	{"secret-id-num-uses", "how often a secret id may be used",
		func(from, to *roleFields) { to.SecretUses = from.SecretUses },
		func(r *role, a fieldResponse) { a["secret_id_num_uses"] = r.SecretUses },
		func(r *role) { r.SecretUses = 0 }},
	{"secret-id-ttl", "the time to live of secret ids",
		func(from, to *roleFields) { to.SecretTTL = from.SecretTTL },
		func(r *role, a fieldResponse) { a["secret_id_ttl"] = r.SecretTTL },
		func(r *role) { r.SecretTTL = 0 }},
	{"token-bound-cidrs", "the addresses that may use the tokens",
		func(from, to *roleFields) { to.BoundCIDRs = from.BoundCIDRs },
		func(r *role, a fieldResponse) { a["token_bound_cidrs"] = r.BoundCIDRs },
		func(r *role) { r.BoundCIDRs = nil }},
	{"token-num-uses", "how often a token may be used",
		func(from, to *roleFields) { to.NumUses = from.NumUses },
		func(r *role, a fieldResponse) { a["token_num_uses"] = r.NumUses },
		func(r *role) { r.NumUses = 0 }},
	{"token-ttl", "the time to live of the tokens",
		func(from, to *roleFields) { to.TTL = from.TTL },
		func(r *role, a fieldResponse) { a["token_ttl"] = r.TTL },
		func(r *role) { r.TTL = 0 }},
	{"token-max-ttl", "the time to live of the tokens with all renewals",
		func(from, to *roleFields) { to.MaxTTL = from.MaxTTL },
		func(r *role, a fieldResponse) { a["token_max_ttl"] = r.MaxTTL },
		func(r *role) { r.MaxTTL = 0 }},
	{"period", "the period of the tokens",
		func(from, to *roleFields) { to.Period, to.OldPeriod = from.Period, from.OldPeriod },
		func(r *role, a fieldResponse) { a["token_period"], a["period"] = r.Period, r.Period },
		func(r *role) { r.Period = 0 }},
	{"local-secret-ids", "whether secret ids are local to a cluster", nil,
		func(r *role, a fieldResponse) { a["local_secret_ids"] = r.LocalSecretIDs }, nil},
}

func fieldRoutes() (routes []engine.Route) {
	for _, f := range fields {
		path := "role/{role_name}/" + f.path
		routes = append(routes, engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: path, Summary: "Read " + f.what}, f.show))
		if f.pick == nil {
			continue
		}
		routes = append(routes,
			engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: path, Writes: true, Summary: "Set " + f.what}, f.write),
			engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: path, Writes: true, Summary: "Reset " + f.what}, f.clear))
	}
	return routes
}

func (f field) show(c *engine.Call, q *roleName) (*fieldResponse, error) {
	_, r, err := existing(c, q.Name, false)
	if err != nil {
		return nil, err
	}
	a := fieldResponse{}
	f.read(r, a)
	return &a, nil
}

func (f field) write(c *engine.Call, q *writeRoleRequest) (*struct{}, error) {
	name, r, err := existing(c, q.Name, true)
	if err != nil {
		return nil, err
	}
	var picked roleFields
	f.pick(&q.roleFields, &picked)
	if picked == (roleFields{}) {
		return nil, &engine.InvalidError{Why: "the request does not say " + f.what}
	}
	if err := picked.apply(r); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, rolePath(name), r)
}

func (f field) clear(c *engine.Call, q *roleName) (*struct{}, error) {
	name, r, err := existing(c, q.Name, true)
	if err != nil {
		return nil, err
	}
	f.reset(r)
	if err := r.check(); err != nil {
		return nil, err
	}
	return nil, engine.PutJSON(c, rolePath(name), r)
}
