package kv

import (
	"slices"

	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the engine as it is mounted: type "kv", in one of two versions,
// which the option "version" names. The zero value has the default limits.
//
// Both versions keep their secrets in the same form, so a mount may be tuned from
// version 1 to 2, and its secrets are there at once, with their history from then.
type Backend struct {
	// Engine has the limits; nil: the default ones.
	Engine *Engine
}

var _ engine.Backend = Backend{}

// Type implements engine.Backend.
func (Backend) Type() string { return "kv" }

// Summary implements engine.Backend.
func (Backend) Summary() string { return "key-value secrets, with versions (2) or without (1)" }

// Routes implements engine.Backend. The option "version" is "1", "2", or absent
// for 1, which is what Vault's clients mean by it.
func (b Backend) Routes(options map[string]string) ([]engine.Route, error) {
	e := b.Engine
	if e == nil {
		e = &Engine{}
	}
	switch options["version"] {
	case "", "1":
		return v1{e}.routes(), nil
	case "2":
		return v2{e}.routes(), nil
	}
	return nil, &engine.InvalidError{Why: `the option "version" of a kv mount is 1 or 2`}
}

// v2 answers Vault's routes of version 2.
type v2 struct{ *Engine }

func (k v2) routes() []engine.Route {
	return slices.Concat(k.configRoutes(), k.dataRoutes(), k.versionRoutes(), k.metadataRoutes(), k.listRoutes(), k.subkeyRoutes(), strayRoutes())
}

// serves refuses mounts whose secrets have no versions for the typed methods.
func serves(m engine.Mount) error {
	if m.Type != "kv" || m.Options["version"] != "2" {
		return &engine.InvalidError{Why: "this mount is not of the type kv, version 2: use read, write, list and delete with the whole path"}
	}
	return nil
}
