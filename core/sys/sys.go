// Package sys is the administration of a cluster as routes: mounts, policies,
// capabilities, leases, wrapping. Each is a small table over the transaction that
// core opens for the mount "sys/"; what it needs of that transaction beyond
// engine.Tx, it asks for by the interfaces of this package.
//
// What concerns one node and not the ledger (health, unsealing, who leads) is no
// route: transports ask the node. Start reading at Backend.
package sys

import (
	"fmt"
	"reflect"

	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the type "system".
type Backend struct{}

// Type implements engine.Backend.
func (Backend) Type() string { return "system" }

// Summary implements engine.Backend.
func (Backend) Summary() string { return "administration of the cluster" }

// Routes implements engine.Backend.
func (Backend) Routes(map[string]string) ([]engine.Route, error) {
	var all []engine.Route
	for _, table := range [][]engine.Route{policyRoutes(), passwordRoutes(), mountRoutes(), capabilityRoutes(), wrappingRoutes(), leaseRoutes(),
		policyExplainRoutes(), rotateRoutes(), counterRoutes(), openapiRoutes(),
		auditRoutes()} {
		all = append(all, table...)
	}
	return all, nil
}

// ask returns what a route needs of its transaction. A transaction that is not
// core's is a mistake in the program.
func ask[T any](c *engine.Call) T {
	t, ok := c.Tx.(T)
	if !ok {
		panic(fmt.Sprintf("sys: %T is no %v", c.Tx, reflect.TypeFor[T]()))
	}
	return t
}

// none is the answer that has nothing to say.
type none struct{}
