package cluster

// Fence has n give up the leadership it holds, as a leadership transfer that
// does not end would.
func Fence(n *Node) {
	if o := n.leadership.now().office; o != nil {
		n.fence(o.term)
	}
}

// SeeDeparted has the node believe that p's process has ended.
func SeeDeparted(n *Node, p Peer) { handler{n}.HandleDeparted(p) }
