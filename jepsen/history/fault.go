package history

import "time"

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

// Bit tells whether the fault did anything.
func (f Fault) Bit() bool {
	for _, p := range f.Proofs {
		if p.Count > 0 {
			return true
		}
	}
	return false
}
