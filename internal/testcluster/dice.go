package testcluster

import (
	"math/rand/v2"
	"sync"
)

// dice is seeded randomness as an io.Reader, for concurrent use. It never fails.
type dice struct {
	mu  sync.Mutex
	rng *rand.ChaCha8 // guarded by mu
}

// newDice returns the dice of one use of a seed: equal arguments, equal bytes.
func newDice(seed uint64, use string) *dice {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	copy(key[8:], use)
	return &dice{rng: rand.NewChaCha8(key)}
}

// Read implements io.Reader.
func (d *dice) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Read(p)
}
