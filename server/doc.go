// Package server assembles a node: it opens the rooms in order, hands each what
// it needs, and closes them in reverse. It has no behaviour of its own beyond
// the node's life: born (an identity, no cluster), member (founded or joined),
// sealed or unsealed, closed.
//
// Start at Start in node.go. Config is what an operator can set.
package server
