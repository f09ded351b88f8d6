package enginetest

import (
	"slices"

	"github.com/conclave-secrets/conclave/engine"
)

// Times are compared as instants: an implementer may choose its location.

func sameHead(a, b *engine.Head) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Current == b.Current && a.Oldest == b.Oldest && a.Keep == b.Keep &&
		a.Created.Equal(b.Created) && a.Updated.Equal(b.Updated)
}

func sameVersion(a, b *engine.Version) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Created.Equal(b.Created) && a.DeletedAt.IsZero() == b.DeletedAt.IsZero() && a.DeletedAt.Equal(b.DeletedAt) &&
		a.Deleted == b.Deleted && a.Destroyed == b.Destroyed && string(a.Value) == string(b.Value) &&
		(!a.Deleted && !a.Destroyed || a.Value == nil && b.Value == nil)
}

func sameNames(a, b []string) bool { return slices.Equal(a, b) }
