// Package peer joins the nodes of a cluster over mutually authenticated TLS 1.3
// on one listener. It carries two protocols, told apart by ALPN: Raft's own
// messages ("conclave-raft/1", hashicorp/raft's network transport on our
// streams) and the calls between nodes ("conclave-node/1", frame.go).
//
// What lives here: connections, identities, frames. What never does: a decision
// of Raft, a batch's meaning, a certificate's making. Who may connect is a
// callback; certificates, listener and dialler come in from outside.
//
// Invariant: every byte that reaches Raft or a handler came over a connection
// whose other end proved to be a node that Config.Allowed accepted, and every
// byte that leaves goes to the very node that it is meant for, not merely to one
// of the cluster.
//
// Start reading at Transport.
package peer
