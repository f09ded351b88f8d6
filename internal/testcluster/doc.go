// Package testcluster runs a whole cluster of the real rooms in one process, on
// virtual time: the state machine over Pebble on a file system in memory, the
// hardened log over its memory, the snapshot store, the seal, the consensus node
// on a simulated network, and the request path with the kv engine and leases.
//
// It is made for testing/synctest bubbles: no socket, no file, no clock but the
// bubble's, and every choice from one seed. What requests are sent, what goes
// wrong and what is asserted is not here; jepsen does that. Start reading at
// Sim, then Replica, then Process.
package testcluster
