package fsm

import (
	"errors"
	"testing"

	"github.com/conclave-secrets/conclave/storage/state"
)

// Readers of a replica whose store is closed learn that it has stopped, and may ask
// another.
func TestReadersOfAClosedStore(t *testing.T) {
	d := newDisk(t)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.machine.View(); !errors.Is(err, ErrStopped) || !errors.Is(err, state.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
