// Package cluster is one Raft node: it orders batches, confirms reads, keeps
// the membership, and stops rather than guess.
//
// What lives here: proposals and their sessions (propose.go, order.go,
// forward.go), the read index (readindex.go), leadership and its duties
// (office.go, duties.go, transfer.go), members (members.go), discovery
// (gossip.go), and the armour around hashicorp/raft: the transport that counts
// who accepted what (observe.go) and the stores that end everything on the
// first failed write (disk.go).
//
// What never does: a key, a plaintext, a policy, a listener, a file. Disks come
// in as stores, peers as a Transport, time as a Clock.
//
// Start reading at Node in node.go; DESIGN.md says which fault of the library
// each part closes.
package cluster
