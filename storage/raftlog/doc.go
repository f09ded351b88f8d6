// Package raftlog keeps the Raft log, the term and the vote: a raft.LogStore and
// raft.StableStore around raft-boltdb that closes from outside what
// hashicorp/raft and bbolt leave open (L4, L8, L10, L11, L12 in cluster/DESIGN.md).
//
// Invariant: what [Store] acknowledged is on disk, and what it returns is what
// was acknowledged. When it can keep either half no longer, it says so once and
// never answers again (fail-stop).
//
// What never lives here: the meaning of an entry, keys, the network (a repair
// is a function that the caller supplies), a watchdog (cluster has one for every
// store), and any decision to throw entries away that Raft did not ask for.
//
// The package writes past the storage/vfs seam, because bbolt maps its file into
// memory. Its crash tests therefore copy the file at
// every write boundary and kill real processes; [Memory] stands in for the disk
// in simulation.
//
// Start reading at [Store], then entry.go for the bytes.
package raftlog
