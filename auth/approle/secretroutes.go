package approle

import (
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

func secretRoutes() []engine.Route {
	const one = "role/{role_name}"
	routes := []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: one + "/secret-id", Summary: "List the accessors of a role's secret ids"}, listAccessors),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/secret-id", Writes: true, Parallel: true,
			Summary: "Draw a secret id of a role, which is shown once"}, generate),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/custom-secret-id", Writes: true,
			Summary: "Give a role a secret id of your choice"}, custom),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/secret-id/lookup", Summary: "Describe a secret id"}, lookup),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/secret-id-accessor/lookup",
			Summary: "Describe a secret id by its accessor"}, lookupAccessor),
	}
	for _, verb := range []engine.Verb{engine.VerbWrite, engine.VerbDelete} {
		routes = append(routes,
			engine.NewRoute(engine.Route{Verb: verb, Path: one + "/secret-id/destroy", Writes: true, Summary: "End a secret id"}, destroy),
			engine.NewRoute(engine.Route{Verb: verb, Path: one + "/secret-id-accessor/destroy", Writes: true,
				Summary: "End a secret id by its accessor"}, destroyAccessor))
	}
	return routes
}

type listAccessorsRequest struct {
	roleName
	auth.ListRequest
}

func listAccessors(c *engine.Call, q *listAccessorsRequest) (*auth.ListResponse, error) {
	_, r, err := existing(c, q.Name, false)
	if err != nil {
		return nil, err
	}
	return auth.List(c, accessorsOf(r.UID), q.ListRequest, "secret id")
}

type generateRequest struct {
	roleName
	secretFields
}

// generateResponse shows a secret id, this once.
type generateResponse struct {
	SecretID string          `json:"secret_id"`
	Accessor string          `json:"secret_id_accessor"`
	Uses     int64           `json:"secret_id_num_uses"`
	TTL      engine.Duration `json:"secret_id_ttl"`
}

func generate(c *engine.Call, q *generateRequest) (*generateResponse, error) {
	id, err := auth.NewUUID(c.Rand)
	if err != nil {
		return nil, err
	}
	return issue(c, q.Name, &q.secretFields, id)
}

type customRequest struct {
	roleName
	secretFields
	SecretID engine.Text `json:"secret_id" doc:"the secret id"`
}

func custom(c *engine.Call, q *customRequest) (*generateResponse, error) {
	if q.SecretID == "" {
		return nil, &engine.InvalidError{Why: "missing secret_id"}
	}
	if len(q.SecretID) > maxIDBytes {
		return nil, &engine.InvalidError{Why: "the field \"secret_id\" has more than 4096 bytes"}
	}
	return issue(c, q.Name, &q.secretFields, string(q.SecretID))
}

func issue(c *engine.Call, name string, f *secretFields, id string) (*generateResponse, error) {
	_, r, err := existing(c, name, true)
	if err != nil {
		return nil, err
	}
	if !r.BindSecretID {
		return nil, &engine.InvalidError{Why: "the role has no use for secret ids: bind_secret_id is not set"}
	}
	s, err := f.newSecret(c, r)
	if err != nil {
		return nil, err
	}
	if err := s.stage(c, id); err != nil {
		return nil, err
	}
	return &generateResponse{id, s.Accessor, s.Uses, s.TTL}, nil
}

type secretIDRequest struct {
	roleName
	SecretID engine.Text `json:"secret_id" doc:"the secret id"`
}

type accessorRequest struct {
	roleName
	Accessor engine.Text `json:"secret_id_accessor" doc:"accessor of the secret id"`
}

// secretResponse is what a reader sees of a secret id.
type secretResponse struct {
	Accessor    string            `json:"secret_id_accessor"`
	Uses        int64             `json:"secret_id_num_uses"`
	TTL         engine.Duration   `json:"secret_id_ttl"`
	Created     time.Time         `json:"creation_time"`
	Expires     time.Time         `json:"expiration_time"`
	Updated     time.Time         `json:"last_updated_time"`
	Metadata    map[string]string `json:"metadata"`
	Ranges      engine.Strings    `json:"cidr_list"`
	TokenRanges engine.Strings    `json:"token_bound_cidrs"`
}

func (s *secret) response() *secretResponse {
	if s == nil {
		return nil
	}
	metadata := s.Metadata
	if metadata == nil {
		metadata = map[string]string{} // clients look into it
	}
	return &secretResponse{s.Accessor, s.Uses, s.TTL, s.Created.UTC(), s.Expires.UTC(), s.Updated.UTC(), metadata, s.Ranges, s.TokenRanges}
}

// bySecretID finds what a request with a secret id is about; nil if there is none.
func bySecretID(c *engine.Call, q *secretIDRequest) (*secret, error) {
	_, r, err := existing(c, q.Name, true)
	if err != nil {
		return nil, err
	}
	if q.SecretID == "" {
		return nil, &engine.InvalidError{Why: "missing secret_id"}
	}
	if len(q.SecretID) > maxIDBytes {
		return nil, nil
	}
	return findSecret(c, r.UID, string(q.SecretID))
}

func lookup(c *engine.Call, q *secretIDRequest) (*secretResponse, error) {
	s, err := bySecretID(c, q)
	if err != nil {
		return nil, err
	}
	return s.response(), nil // nil: there is none, which clients expect as an empty answer
}

func destroy(c *engine.Call, q *secretIDRequest) (*struct{}, error) {
	s, err := bySecretID(c, q)
	if err != nil || s == nil {
		return nil, err
	}
	return nil, s.remove(c)
}

// theAccessor finds what a request with an accessor is about.
func theAccessor(c *engine.Call, q *accessorRequest) (*secret, error) {
	_, r, err := existing(c, q.Name, true)
	if err != nil {
		return nil, err
	}
	if q.Accessor == "" {
		return nil, &engine.InvalidError{Why: "missing secret_id_accessor"}
	}
	s, err := byAccessor(c, r.UID, string(q.Accessor))
	if err == nil && s == nil {
		err = &engine.NotFoundError{What: "secret id: failed to find accessor entry"}
	}
	return s, err
}

func lookupAccessor(c *engine.Call, q *accessorRequest) (*secretResponse, error) {
	s, err := theAccessor(c, q)
	if err != nil {
		return nil, err
	}
	return s.response(), nil
}

func destroyAccessor(c *engine.Call, q *accessorRequest) (*struct{}, error) {
	s, err := theAccessor(c, q)
	if err != nil {
		return nil, err
	}
	return nil, s.remove(c)
}
