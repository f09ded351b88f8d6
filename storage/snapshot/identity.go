package snapshot

import (
	"cmp"
	"fmt"
	"strings"
)

const (
	fileSuffix    = ".snap"
	damagedSuffix = ".damaged"
)

// identity names a snapshot. The sequence tells snapshots of one index apart; it
// is counted, not timed, so that a simulated node needs no clock here.
type identity struct {
	index, term, sequence uint64
}

// String returns the form that is the snapshot's ID and, with ".snap", its file
// name: fixed width, so that names sort like snapshots.
func (id identity) String() string {
	return fmt.Sprintf("%020d-%020d-%06d", id.index, id.term, id.sequence)
}

// parseIdentity accepts exactly what String produces. It is the guard between an
// ID from outside and a path.
func parseIdentity(s string) (identity, bool) {
	var id identity
	if _, err := fmt.Sscanf(s, "%d-%d-%d", &id.index, &id.term, &id.sequence); err != nil {
		return identity{}, false
	}
	return id, id.String() == s
}

// parseFileName returns the identity in a file name of this store.
func parseFileName(name string) (identity, bool) {
	base, ok := strings.CutSuffix(name, fileSuffix)
	if !ok {
		return identity{}, false
	}
	return parseIdentity(base)
}

// newer orders identities newest first.
func newer(a, b identity) int {
	return cmp.Or(cmp.Compare(b.index, a.index), cmp.Compare(b.term, a.term), cmp.Compare(b.sequence, a.sequence))
}
