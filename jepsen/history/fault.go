package history

import (
	"fmt"
	"time"
)

// A Fault is something that was done to the cluster, and the proof that it bit.
type Fault struct {
	Name   string        // "leader cut off", "power cut", …
	Nodes  []int         // that it was done to
	Began  time.Duration // on the clock of the ops
	Ended  time.Duration
	Proofs []Proof // empty: nobody saw it bite, which makes a run invalid
}

// A Proof counts what a fault did: packets dropped, bytes that differ, errors returned.
type Proof struct {
	What  string
	Count int64
}

// String describes the fault in one line.
func (f Fault) String() string {
	s := f.Name
	if len(f.Nodes) > 0 {
		s += fmt.Sprintf(", nodes %v", f.Nodes)
	}
	s += fmt.Sprintf(", for %v", (f.Ended - f.Began).Round(time.Millisecond))
	for _, p := range f.Proofs {
		s += fmt.Sprintf("; %s: %d", p.What, p.Count)
	}
	if !f.Bit() {
		s += "; nobody saw it bite"
	}
	return s
}

// Bit tells whether the fault did anything.
func (f Fault) Bit() bool {
	for _, p := range f.Proofs {
		if p.Count > 0 {
			return true
		}
	}
	return false
}
