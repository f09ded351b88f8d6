package raftlog

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// A file that is cut off anywhere, or in which bits of any page rotted, is refused
// with an error, or serves what was written and refuses the rest. It never ends the
// process: bbolt would, on a goroutine of its own. Page headers and elements are hit
// more often than chance would.
func TestDamagedPages(t *testing.T) {
	path := boltWith(t, batch(2, 1, 400))
	whole, err := os.ReadFile(path)
	must(t, err)
	if err := inspect(path); err != nil {
		t.Fatal("a whole file: ", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	tries := 600
	if testing.Short() {
		tries = 150
	}
	refused, served := 0, 0
	for try := range tries {
		damaged := append([]byte(nil), whole...)
		switch page := rng.IntN(len(whole)/os.Getpagesize()) * os.Getpagesize(); try % 3 {
		case 0:
			damaged = damaged[:1+rng.IntN(len(damaged)-1)]
		case 1:
			damaged[page+rng.IntN(pageHeader)] ^= 1 << rng.IntN(8)
		default:
			for range 1 + rng.IntN(8) {
				damaged[page+rng.IntN(256)] ^= 1 << rng.IntN(8)
			}
		}
		path := filepath.Join(t.TempDir(), FileName)
		must(t, os.WriteFile(path, damaged, 0o600))
		if useDamaged(t, path) == nil {
			served++
		} else {
			refused++
		}
	}
	t.Logf("%d refused, %d served", refused, served)
	if refused < tries/10 || served < tries/10 {
		t.Error("too little of either to prove anything")
	}
}

// useDamaged opens, reads and writes a log.
func useDamaged(t *testing.T, path string) error {
	s, err := Open(filepath.Dir(path), quiet(Options{}))
	if err != nil {
		return err
	}
	defer func() { must(t, s.Close()) }()
	for i := uint64(1); i <= 400; i++ {
		var e raft.Log
		err := s.Peek(i, &e)
		if err == nil && string(e.Data) != string(entry(i, 2).Data) {
			t.Fatalf("entry %d is another", i)
		}
	}
	return errors.Join(s.CheckAgainst(400, 0), s.Mend(context.Background(), 1), s.StoreLogs(batch(2, 401, 500)), s.DeleteRange(1, 300))
}
