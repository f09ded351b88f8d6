package sys

import (
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// keyring is what the routes of this file need of a transaction.
type keyring interface {
	KeyStatus() (term uint32, since time.Time, err error)
	RotateKey() error
}

type keyStatus struct {
	Term        uint32 `json:"term" doc:"number of the data key that seals new values"`
	InstallTime string `json:"install_time" doc:"since when"`
}

// rotateConfig is as clients know it. There is no rotation by itself: the data key
// seals with nonces of 24 random bytes, which no use exhausts.
type rotateConfig struct {
	Enabled       bool  `json:"enabled"`
	Interval      int64 `json:"interval"`
	MaxOperations int64 `json:"max_operations"`
}

type setRotateConfig struct {
	Enabled engine.Bool `json:"enabled" doc:"must be false: the data key does not rotate by itself"`
}

func rotateRoutes() []engine.Route {
	rotate := func(c *engine.Call, _ *struct{}) (*none, error) { return nil, ask[keyring](c).RotateKey() }
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "key-status", Summary: "Tell which data key seals new values."},
			func(c *engine.Call, _ *struct{}) (*keyStatus, error) {
				term, since, err := ask[keyring](c).KeyStatus()
				return &keyStatus{term, since.UTC().Format(time.RFC3339Nano)}, err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "rotate", Writes: true, Sudo: true, Summary: "Make a new data key."}, rotate),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "rotate/keyring", Writes: true, Sudo: true, Summary: "Make a new data key."}, rotate),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "rotate/config", Summary: "Tell when the data key rotates by itself: never."},
			func(*engine.Call, *struct{}) (*rotateConfig, error) { return &rotateConfig{}, nil }),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "rotate/config", Sudo: true, Summary: "Refuse to rotate the data key by itself."},
			func(_ *engine.Call, r *setRotateConfig) (*none, error) {
				if bool(r.Enabled) {
					return nil, &engine.InvalidError{Why: "the data key does not rotate by itself; rotate it with sys/rotate"}
				}
				return nil, nil
			}),
	}
}
