package core

import (
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// Single is the ledger of a cluster of one, for tests outside of the package.
type Single struct{ *single }

// NewSingle makes one.
func NewSingle(t *testing.T) *Single { return &Single{newSingle(t)} }

// Advance moves log time and ends what has expired.
func (s *Single) Advance(d time.Duration) { s.advance(d) }

// Stale is the view that whoever asks next is shown.
func (s *Single) Stale(v *fsm.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = v
}

// NewHandClock is a clock that stands still.
func NewHandClock() Clock { return &handClock{} }
