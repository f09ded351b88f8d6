package jwt

import (
	"context"
	"net/netip"
	"net/url"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// config says where public keys come from. It is the record, what a request
// sends, and what a reader sees: there is no secret in it.
type config struct {
	JWKSURL     string         `json:"jwks_url" doc:"address of a JSON Web Key Set; https, or http on this machine"`
	JWKSCA      string         `json:"jwks_ca_pem" doc:"certificates that jwks_url is trusted through; the system's unless given"`
	PublicKeys  engine.Strings `json:"jwt_validation_pubkeys" doc:"public keys or certificates, PEM, in place of jwks_url"`
	Issuer      string         `json:"bound_issuer" doc:"the issuer that tokens must name"`
	DefaultRole string         `json:"default_role" doc:"role of a login that names none"`
	Algorithms  engine.Strings `json:"jwt_supported_algs" doc:"algorithms that tokens may be signed with; all that are known unless given"`
}

var configPath = engine.Path{"config"}

type configRequest struct {
	config
	Discovery string `json:"oidc_discovery_url" doc:"not supported"`
}

func readConfig(c *engine.Call, _ *struct{}) (*config, error) {
	out := &config{}
	found, err := engine.GetJSON(c, configPath, out)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &engine.NotFoundError{What: "configuration"}
	}
	return out, nil
}

func writeConfig(c *engine.Call, q *configRequest) (*struct{}, error) {
	if q.Discovery != "" {
		return nil, &engine.InvalidError{Why: "oidc_discovery_url is not supported; set jwks_url to the jwks_uri that discovery names"}
	}
	f := q.config
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.DefaultRole != "" {
		var err error
		if f.DefaultRole, err = auth.FoldName("role", f.DefaultRole); err != nil {
			return nil, err
		}
	}
	return nil, engine.PutJSON(c, configPath, f)
}

func (f *config) check() error {
	invalid := func(why string) error { return &engine.InvalidError{Why: why} }
	if (f.JWKSURL == "") == (len(f.PublicKeys) == 0) {
		return invalid("exactly one of jwks_url and jwt_validation_pubkeys must be set")
	}
	if len(f.PublicKeys) > maxKeys {
		return invalid("the field \"jwt_validation_pubkeys\" has more than 100 keys")
	}
	if _, err := f.staticKeys(); err != nil {
		return invalid("an element of the field \"jwt_validation_pubkeys\" " + errKey.Error() + ": RSA from 2048 bits, P-256, P-384, P-521 or Ed25519, in PEM")
	}
	if f.JWKSURL != "" {
		if why := badURL(f.JWKSURL); why != "" {
			return invalid("the field \"jwks_url\" " + why)
		}
		if _, err := newClient(f.JWKSCA); err != nil {
			return invalid("the field \"jwks_ca_pem\" holds no certificate")
		}
	}
	for _, name := range f.Algorithms {
		if _, ok := algorithms[name]; !ok {
			return invalid("the field \"jwt_supported_algs\" has an element that is none of RS, PS, ES with 256, 384, 512, and EdDSA")
		}
	}
	return nil
}

// badURL returns what is wrong with the address of a set of keys: whoever can
// change what is fetched can log in as anybody.
func badURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || len(text) > 2048:
		return "is no address"
	case u.User != nil:
		return "must not hold a password"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "must start with https://"
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && a.IsLoopback() {
		return ""
	}
	return "must start with https:// unless it is on this machine"
}

func (f *config) staticKeys() ([]publicKey, error) {
	keys := make([]publicKey, 0, len(f.PublicKeys))
	for _, text := range f.PublicKeys {
		key, err := parsePEM(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, publicKey{key: key})
	}
	return keys, nil
}

// proves tells whether a token is signed by one of the configured keys.
func (b *Backend) proves(ctx context.Context, f *config, t *jws) (bool, error) {
	if f.JWKSURL == "" {
		keys, err := f.staticKeys()
		return err == nil && t.verifies(keys), err
	}
	source, err := b.sources.open(f.JWKSURL, f.JWKSCA)
	if err != nil {
		return false, err
	}
	keys, err := source.find(ctx, t.kid, false)
	if err != nil || t.verifies(keys) {
		return err == nil, err
	}
	if t.kid != "" {
		return false, nil // an unknown name was looked for already
	}
	if keys, err = source.find(ctx, "", true); err != nil {
		return false, err
	}
	return t.verifies(keys), nil
}
