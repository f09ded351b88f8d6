// Package snapshot keeps Raft snapshots on disk: a raft.SnapshotStore in which
// every byte, metadata included, is under a checksum, and in which a damaged
// snapshot is set aside and reported instead of being passed over in silence
// (L9 in cluster/DESIGN.md; L10 and L14 in part).
//
// Invariant: under its final name a snapshot is whole and durable, or it is damaged
// and [Store.Damaged] names it.
//
// What never lives here: the content (storage/state and fsm own it; we see
// bytes), keys (a sealed node takes snapshots too), and the decision when to
// take one.
//
// Start reading at format.go for the bytes, then [Store].
package snapshot
