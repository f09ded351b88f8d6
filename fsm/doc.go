// Package fsm is the replicated state machine: batches of guards and operations
// on sealed values go in, results come out, and equal logs give equal contents.
//
// It holds no key, reads no clock, rolls no dice and opens no connection. Time
// comes stamped into each entry; values and names come sealed. What it cannot
// understand stops it, with the index, and is never skipped.
//
// Start at Batch (command.go) for what can be asked, at Machine (machine.go)
// for how an entry is applied, and at keys.go for what lies on disk. DESIGN.md
// gives the invariants.
package fsm
