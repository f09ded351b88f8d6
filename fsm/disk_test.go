package fsm

import (
	"bytes"
	"testing"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// A disk is a machine with the file system under it, to be switched off and on.
type disk struct {
	t       testing.TB
	fs      *vfs.MemFS
	store   *state.Store
	machine *Machine
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, fs: vfs.NewMem()}
	d.open()
	t.Cleanup(d.close)
	return d
}

func (d *disk) open() {
	d.t.Helper()
	var err error
	if d.store, err = state.Open("state", d.fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}); err != nil {
		d.t.Fatal(err)
	}
	if d.machine, err = Open(d.store); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) close() {
	d.t.Helper()
	if err := d.machine.Close(); err != nil {
		d.t.Error(err)
	}
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
}

// restart reads everything from the disk again.
func (d *disk) restart() {
	d.t.Helper()
	d.close()
	d.open()
}

// move carries the state over to a fresh disk, through a snapshot.
func (d *disk) move() *disk {
	d.t.Helper()
	to := newDisk(d.t)
	if err := to.machine.Restore(bytes.NewReader(d.image())); err != nil {
		d.t.Fatal(err)
	}
	return to
}

// image returns a snapshot of the machine.
func (d *disk) image() []byte {
	d.t.Helper()
	s, err := d.machine.Snapshot()
	if err != nil {
		d.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		d.t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		d.t.Fatal(err)
	}
	return b.Bytes()
}

// verify compares the rows with their sum.
func (d *disk) verify(when string, args ...any) {
	d.t.Helper()
	if err := d.machine.Verify(); err != nil {
		d.t.Errorf(when+": %v", append(args, err)...)
	}
}

// rows returns every row but the meta row.
func rows(t testing.TB, s *state.Store) map[string]string {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	err = eachState(v, func(k, v []byte) error { all[string(k)] = string(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}
