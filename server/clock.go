//go:build !faultclock

package server

import "github.com/conclave-secrets/conclave/cluster"

// systemClock is the clock of a node. A binary that is built with the tag
// faultclock has one that can be set wrong from outside, for tests; see
// clock_fault.go.
func systemClock() cluster.Clock { return cluster.SystemClock() }
