package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// Whatever is written, evicted and read at the same time, a view reads through
// the cache what its own store view holds. The cache is so small that it evicts
// all the time.
func TestRowCacheAgreesWithTheStore(t *testing.T) {
	r := newRig(t)
	r.machine.cache = newRowCache(r.index, cacheShards*700)
	const keys = 40
	done := make(chan struct{})
	var readers sync.WaitGroup
	for n := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(n)))
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := compareOnce(r.machine, rng, keys); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(2, 0))
	for range 2000 {
		k := fmt.Appendf(nil, "k%02d", rng.IntN(keys))
		if rng.IntN(4) == 0 {
			r.do(Operation{Kind: OpDeleteRecord, Key: k})
			continue
		}
		r.do(Operation{Kind: OpPutRecord, Key: k, Value: bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(300))})
	}
	close(done)
	readers.Wait()
	if err := r.machine.Verify(); err != nil {
		t.Error(err)
	}
}

// compareOnce reads some rows of one view both ways.
func compareOnce(m *Machine, rng *rand.Rand, keys int) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	for range 10 {
		k := recordKey(fmt.Appendf(nil, "k%02d", rng.IntN(keys)))
		got, _, err := v.rows.from.Get(k)
		if err != nil {
			return err
		}
		want, _, err := v.shared.view.Get(k)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("at index %d the cache has %x for %s, the store %x", v.Index(), got, k, want)
		}
	}
	return v.Close()
}

// A reader of an older view cannot bring back a row that was written and
// evicted since.
func TestRowCacheKeepsOldRowsOut(t *testing.T) {
	c := newRowCache(1, cacheShards*400)
	key := recordKey([]byte("k"))
	c.wrote(key, []byte("new"), 5)
	for i := range 200 { // push it out
		c.wrote(recordKey(fmt.Appendf(nil, "other%d", i)), make([]byte, 200), 6)
	}
	c.found(key, []byte("old"), 4)
	if v, hit := c.get(key, 9); hit && string(v) != "new" {
		t.Errorf("the cache tells %q", v)
	}
	c.wrote(key, make([]byte, cacheLargest), 7) // too large to keep
	c.found(key, []byte("new"), 6)
	if _, hit := c.get(key, 9); hit {
		t.Error("an older row came back after one that is too large to keep")
	}
}
