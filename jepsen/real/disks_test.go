package real

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// A disk that is replaced keeps what was on the old one apart, a new one holds what
// its image did, and nothing stays mounted; with FUSE and without.
func TestDisks(t *testing.T) {
	for name, fuse := range map[string]bool{"plain": false, "FUSE": true} {
		t.Run(name, func(t *testing.T) {
			if err := faultfs.Usable(); err != nil && fuse {
				t.Skipf("\n*** NOT TESTED: %v ***", err)
			}
			dir := t.TempDir()
			d := &disk{backing: filepath.Join(dir, "node1"), at: filepath.Join(dir, "node1")}
			if fuse {
				d.backing = filepath.Join(dir, "disks", "node1")
			}
			r := &run{disks: []*disk{d}}
			try(t, os.Mkdir(d.at, 0o700), d.mount(fuse), os.Mkdir(r.dataDir(0), 0o700))
			try(t, os.WriteFile(filepath.Join(r.dataDir(0), "identity.json"), []byte(`{"node_id":"n1"}`), 0o600))
			if id, err := r.idOf(0); err != nil || id != "n1" || r.isMount(d.at) != fuse {
				t.Errorf("%q, %v", id, err)
			}
			old, err := d.swap("")
			try(t, err)
			if _, err := os.Stat(r.dataDir(0)); !os.IsNotExist(err) {
				t.Errorf("a new disk is not empty: %v", err)
			}
			_, err = d.swap(old)
			try(t, err)
			if id, err := r.idOf(0); err != nil || id != "n1" {
				t.Errorf("from an image: %q, %v", id, err)
			}
			r.retire(old)
			if all := r.allFiles(); len(all) != 2 || all[1] != old {
				t.Errorf("to be looked at in the end: %v", all)
			}
			try(t, r.closeDisks())
			if left, err := os.ReadDir(d.at); err != nil || (len(left) == 0) != fuse {
				t.Errorf("after closing: %v, %v", left, err)
			}
		})
	}
}

func try(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Faults that need a cluster which is well have it to themselves; disks go wrong
// beside the network only.
func TestWhatGoesTogether(t *testing.T) {
	kinds := []kind{network, process, alone, clock, disks, damage}
	for _, a := range kinds {
		for _, b := range kinds {
			want := (a == network || b == network) && a != alone && b != alone && a != damage && b != damage
			if got := compatible(fault{kind: a}, fault{kind: b}); got != want {
				t.Errorf("%d and %d together: %v", a, b, got)
			}
		}
	}
}

// A process that holds much more than a fresh one leaks; a little more is its age.
func TestLeaksAreFound(t *testing.T) {
	fresh := held{testprocess.Usage{Descriptors: 40, Threads: 10}, 170}
	for name, old := range map[string]held{
		"descriptors": {testprocess.Usage{Descriptors: 300, Threads: 10}, 170},
		"threads":     {testprocess.Usage{Descriptors: 40, Threads: 100}, 170},
		"goroutines":  {testprocess.Usage{Descriptors: 40, Threads: 10}, 700},
		"":            {testprocess.Usage{Descriptors: 90, Threads: 25}, 220},
	} {
		r := &run{}
		compareHeld(r.report, 0, old, fresh)
		if (len(r.found) == 1) != (name != "") {
			t.Errorf("leaked %q, found %v", name, r.found)
		}
	}
}
