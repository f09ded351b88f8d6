package kv

import (
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

type configAnswer struct {
	CASRequired        bool   `json:"cas_required"`
	DeleteVersionAfter string `json:"delete_version_after"`
	MaxVersions        uint64 `json:"max_versions"`
}

type configChange struct {
	CASRequired        *engine.Bool     `json:"cas_required" doc:"every write must name the version it expects to be current"`
	DeleteVersionAfter *engine.Duration `json:"delete_version_after" doc:"time after which a new version deletes itself; 0: never"`
	MaxVersions        *engine.Int      `json:"max_versions" doc:"how many versions a secret keeps, if it does not ask for more itself; 0: the default, 10"`
}

func (k v2) configRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "config", Summary: "read what the mount demands of all its secrets"},
			func(c *engine.Call, _ *struct{}) (*configAnswer, error) {
				now, err := readConfig(c)
				if err != nil {
					return nil, err
				}
				return &configAnswer{CASRequired: now.CASRequired, DeleteVersionAfter: now.DeleteVersionAfter.String(), MaxVersions: now.MaxVersions}, nil
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "config", Writes: true,
			Summary:     "change what the mount demands of all its secrets",
			Description: "What is not named stays as it is. A secret that demands more, or a shorter life, has its way."},
			func(c *engine.Call, r *configChange) (*struct{}, error) { return nil, changeConfig(c, r) }),
	}
}

func changeConfig(tx engine.Tx, r *configChange) error {
	now, err := readConfig(tx)
	if err != nil {
		return err
	}
	if r.CASRequired != nil {
		now.CASRequired = bool(*r.CASRequired)
	}
	if r.DeleteVersionAfter != nil {
		now.DeleteVersionAfter = time.Duration(*r.DeleteVersionAfter)
		if err := checkExpiry(now.DeleteVersionAfter); err != nil {
			return err
		}
	}
	if r.MaxVersions != nil {
		if now.MaxVersions, err = count("max_versions", *r.MaxVersions); err != nil {
			return err
		}
		if err := checkLimit(now.MaxVersions); err != nil {
			return err
		}
		now.Limits = now.Limits || now.MaxVersions > 0
	}
	return engine.PutJSON(tx, configPath, now)
}

// count takes a number that a client sent and that cannot be negative.
func count(field string, n engine.Int) (uint64, error) {
	if n < 0 {
		return 0, &engine.InvalidError{Why: field + " must not be negative"}
	}
	return uint64(n), nil
}
