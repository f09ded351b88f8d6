package cluster_test

import (
	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// The real state machine is what the node asks for.
var _ cluster.Machine = (*fsm.Machine)(nil)
