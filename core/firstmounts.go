package core

import (
	"time"

	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// firstMounts stages the mounts that every cluster begins with. Those that can
// never be moved or disabled have fixed ids.
func firstMounts(t *tx, now time.Time) error {
	rows := &storev1.MountTable{Mounts: []*storev1.Mount{
		{Id: "sys", Path: "sys/", Type: "system", Description: "system endpoints used for control, policy and debugging"},
		{Id: "token", Path: "auth/token/", Type: "token", Description: "token based credentials"},
		{Id: "cubbyhole", Path: "cubbyhole/", Type: "cubbyhole", Description: "per-token private secret storage"},
		{Id: "secret", Path: "secret/", Type: "kv", Description: "key/value secret storage", Options: map[string]string{"version": "2"}},
	}}
	for _, row := range rows.Mounts {
		if err := t.christen(row, now); err != nil {
			return err
		}
	}
	return t.putMounts(rows)
}

// defaultPolicy lets a token look after itself: look itself up, renew and revoke
// itself, see what it may do and what there is to do, use its cubbyhole, wrap and unwrap, and renew leases
// that it knows.
const defaultPolicy = `path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/renew" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "sys/internal/ui/mounts" { capabilities = ["read"] }
path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
path "sys/internal/specs/openapi" { capabilities = ["read"] }
`
