package main

import (
	"time"

	"github.com/conclave-secrets/conclave/auth/approle"
	"github.com/conclave-secrets/conclave/auth/jwt"
	"github.com/conclave-secrets/conclave/auth/userpass"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/cubbyhole"
	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/engine/database/postgresql"
	"github.com/conclave-secrets/conclave/engine/kv"
)

// builtin is what this binary can mount.
func builtin() core.Catalog {
	return core.Catalog{
		Engines: byType(sys.Backend{}, kv.Backend{}, cubbyhole.Backend{}, database.New(postgresql.Plugin{})),
		Auth:    byType(sys.Tokens{}, approle.Backend{}, userpass.New(), jwt.New(time.Now)),
	}
}

func byType(backends ...engine.Backend) map[string]engine.Backend {
	all := map[string]engine.Backend{}
	for _, b := range backends {
		all[b.Type()] = b
	}
	return all
}
