package workload

import (
	"fmt"
	"strings"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A list is a secret to which clients append: they read it, add an element and write
// it back under check-and-set. As a secret it is judged like any other; as a list,
// nothing that was ever in it may go.

const (
	listsAtATime = 2
	appendsEach  = requestsEach / 2 // each is a read and a write
	separator    = "; "
	listPrefix   = "app/list-"
)

func listPath(age int64, i int) string { return fmt.Sprintf("%s%d-%d", listPrefix, age, i) }

// listNow is one of the lists of the moment.
func (c *Client) listNow() string {
	age := c.world.lists.Add(1) / (listsAtATime * appendsEach)
	return listPath(age, c.rng.IntN(listsAtATime))
}

// appendTo adds an element to a list.
func (c *Client) appendTo(path string, node int) {
	read := c.secretOp(history.Get, path)
	c.send(read, node)
	if read.Outcome != history.Done && read.Outcome != history.Refused {
		return
	}
	o := c.secretOp(history.Put, path)
	if read.Read != "" {
		o.Value = read.Read + separator + o.Value
	}
	number := read.Number
	o.CAS = &number
	if c.rng.Float64() < 0.5 {
		c.sendUntilKnown(o, node+1)
	} else {
		c.send(o, node+1)
	}
}

// judgeLists checks that lists only grow: of two values that were seen, the one
// under the lower number begins the other, and every acknowledged element is in the last.
func judgeLists(ops []*history.Op) (found []string) {
	newest := map[string]*history.Op{}
	for _, o := range ops {
		if isList(o) && (newest[o.Key] == nil || newest[o.Key].Number < o.Number) {
			newest[o.Key] = o
		}
	}
	for _, o := range ops {
		if !isList(o) {
			continue
		}
		last := newest[o.Key]
		if whole, part := text(last), text(o); whole != part && !strings.HasPrefix(whole, part+separator) {
			found = append(found, fmt.Sprintf("a list lost elements: %v\n\tis not the beginning of %v", o, last))
		}
		elements := strings.Split(text(o), separator)
		seen := map[string]bool{}
		for _, e := range elements {
			if seen[e] {
				found = append(found, fmt.Sprintf("an element twice in a list: %q in %v", e, o))
			}
			seen[e] = true
		}
	}
	return found
}

func isList(o *history.Op) bool {
	return strings.HasPrefix(o.Key, listPrefix) && o.Outcome == history.Done && (o.Kind == history.Put || o.Kind == history.Get)
}

func text(o *history.Op) string {
	if o.Kind == history.Put {
		return o.Value
	}
	return o.Read
}
