package core

import "testing"

// NewSingle is the ledger of a cluster of one, for tests outside of the package.
func NewSingle(t *testing.T) Ledger { return newSingle(t) }

// NewHandClock is a clock that stands still.
func NewHandClock() Clock { return &handClock{} }
