package seal

import (
	"github.com/conclave-secrets/conclave/internal/invariant"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// lockedMemory is a piece of memory for raw keys: outside the Go heap, so that
// no garbage collection copies it, locked, so that it never goes to swap, and
// left out of core dumps. Where the system does not allow one of these, it
// works all the same and warning says what is missing.
//
// Not safe for concurrent use: the keyring's lock guards it.
type lockedMemory struct {
	bytes   []byte // nil once released
	warning string // empty if the memory is all that is promised above
	unmap   func() error
}

// newLockedMemory returns size zero bytes.
func newLockedMemory(size int) *lockedMemory {
	invariant.Check(size > 0, "locked memory of %d bytes", size)
	return mapLocked(size)
}

// release wipes the memory and gives it back; touching a slice of it afterwards
// is a fault. It may be called again.
func (m *lockedMemory) release() error {
	if m.bytes == nil {
		return nil
	}
	redact.Wipe(m.bytes)
	m.bytes = nil
	return m.unmap()
}

func onHeap(size int, warning string) *lockedMemory {
	return &lockedMemory{bytes: make([]byte, size), warning: warning, unmap: func() error { return nil }}
}
