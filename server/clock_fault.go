//go:build faultclock

package server

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
)

// clockVariable names a file that says how wrong the clocks of this process are:
// an offset of the wall clock in nanoseconds, a space, and by how many parts per
// million time runs too fast, from now on. The process looks at it all the time and
// repeats what it obeys in a file beside it that ends in .seen. No file: the time is
// right. It panics on a file that it cannot understand: a mistake in a test.
const clockVariable = "CONCLAVE_FAULT_CLOCK"

const clockLookEvery = 5 * time.Millisecond

// systemClock is the clock of a node, as wrong as the file wants it.
func systemClock() cluster.Clock {
	path := os.Getenv(clockVariable)
	if path == "" {
		return cluster.SystemClock()
	}
	return theFaultClock(path)
}

var theFaultClock = func() func(string) *faultClock {
	var once sync.Once
	var clock *faultClock
	return func(path string) *faultClock {
		once.Do(func() {
			clock = &faultClock{path: path, turned: time.Now()}
			clock.obey("0 0\n")
			clock.look()
			go func() {
				for range time.Tick(clockLookEvery) {
					clock.look()
				}
			}()
		})
		return clock
	}
}()

// faultClock never goes back on its monotonic side: a change of the drift counts from
// the moment at which it is seen.
type faultClock struct {
	path string
	text string // what is obeyed; of the one goroutine that looks

	mu     sync.Mutex
	offset time.Duration // guarded by mu
	ppm    int64         // guarded by mu
	turned time.Time     // guarded by mu; when ppm was last changed
	gained time.Duration // guarded by mu; by the drifts before that
}

func (c *faultClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return now.Add(c.offset + c.lead(now))
}

func (c *faultClock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return now.Sub(processStart) + c.lead(now)
}

var processStart = time.Now()

// lead is how far drifts have brought the clock ahead. Callers hold mu. (A drift of
// 5 % overflows after two days; no test takes that long.)
func (c *faultClock) lead(now time.Time) time.Duration {
	return c.gained + now.Sub(c.turned)*time.Duration(c.ppm)/1_000_000
}

func (c *faultClock) look() {
	raw, err := os.ReadFile(c.path)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		panic(fmt.Sprintf("reading %s: %v", clockVariable, err))
	}
	if string(raw) != c.text {
		c.obey(string(raw))
	}
}

func (c *faultClock) obey(text string) {
	var offset, ppm int64
	if _, err := fmt.Sscanf(text, "%d %d\n", &offset, &ppm); err != nil {
		panic(fmt.Sprintf("%s holds %q", c.path, text))
	}
	c.mu.Lock()
	now := time.Now()
	c.gained, c.turned = c.lead(now), now
	c.offset, c.ppm = time.Duration(offset), ppm
	c.mu.Unlock()
	c.text = text
	if err := os.WriteFile(c.path+".seen", []byte(text), 0o600); err != nil {
		panic(fmt.Sprintf("writing beside %s: %v", clockVariable, err))
	}
}
