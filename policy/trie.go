package policy

import (
	"math"
	"sort"
	"strings"
)

// A node of the tree of patterns with wildcards: a radix tree over bytes, in
// which a + is an edge of its own that takes one whole segment. Each node is
// reached on one way only, so a lookup visits it at most once.
type trieNode struct {
	label    string      // bytes on the edge from the parent; empty after a +
	here     *mergedRule // its pattern ends here
	glob     *mergedRule // its pattern ends here with a *
	plus     *trieNode   // after one segment of any content
	children []*trieNode // by the first byte of their labels
	best     int         // the best rank in this node and below
}

func newTrie(rules []*mergedRule) *trieNode {
	root := &trieNode{}
	for _, r := range rules {
		n := root.insert(r.pattern.pieces[0])
		for _, piece := range r.pattern.pieces[1:] {
			if n.plus == nil {
				n.plus = &trieNode{}
			}
			n = n.plus.insert(piece)
		}
		if r.pattern.glob {
			n.glob = r
		} else {
			n.here = r
		}
	}
	root.rank()
	return root
}

// insert returns the node at the end of text below n.
func (n *trieNode) insert(text string) *trieNode {
	if text == "" {
		return n
	}
	i := n.search(text[0])
	if i == len(n.children) || n.children[i].label[0] != text[0] {
		leaf := &trieNode{label: text}
		n.children = append(n.children, nil)
		copy(n.children[i+1:], n.children[i:])
		n.children[i] = leaf
		return leaf
	}
	child := n.children[i]
	shared := 1
	for shared < len(child.label) && shared < len(text) && child.label[shared] == text[shared] {
		shared++
	}
	if shared < len(child.label) {
		lower := *child
		lower.label = child.label[shared:]
		*child = trieNode{label: child.label[:shared], children: []*trieNode{&lower}}
	}
	return child.insert(text[shared:])
}

func (n *trieNode) search(first byte) int {
	return sort.Search(len(n.children), func(i int) bool { return n.children[i].label[0] >= first })
}

func (n *trieNode) rank() int {
	n.best = math.MaxInt
	for _, r := range []*mergedRule{n.here, n.glob} {
		if r != nil {
			n.best = min(n.best, r.rank)
		}
	}
	if n.plus != nil {
		n.best = min(n.best, n.plus.rank())
	}
	for _, child := range n.children {
		n.best = min(n.best, child.rank())
	}
	return n.best
}

// find returns the rule of the best rank that matches rest, or found if that is
// better. It allocates nothing.
func (n *trieNode) find(rest string, found *mergedRule) *mergedRule {
	for found == nil || n.best < found.rank {
		found = better(found, n.glob)
		if n.plus != nil {
			found = n.plus.find(afterSegment(rest), found)
		}
		if rest == "" {
			return better(found, n.here)
		}
		child := n.child(rest[0])
		if child == nil || !strings.HasPrefix(rest, child.label) {
			return found
		}
		rest, n = rest[len(child.label):], child
	}
	return found
}

func (n *trieNode) child(first byte) *trieNode {
	low, high := 0, len(n.children)
	for low < high {
		middle := (low + high) / 2
		if n.children[middle].label[0] < first {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < len(n.children) && n.children[low].label[0] == first {
		return n.children[low]
	}
	return nil
}

func better(a, b *mergedRule) *mergedRule {
	if a == nil || b != nil && b.rank < a.rank {
		return b
	}
	return a
}
