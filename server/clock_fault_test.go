//go:build faultclock

package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A clock is as wrong as its file says, says so, and never goes back on its
// monotonic side.
func TestFaultClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	c := &faultClock{path: path, turned: time.Now()}
	c.obey("0 0\n")
	if off := time.Until(c.Wall()); off > time.Millisecond || off < -time.Second {
		t.Errorf("it is off by %v before anybody asked", off)
	}
	before := c.Monotonic()
	for _, text := range []string{"3600000000000 0\n", "-60000000000 50000\n", "0 -50000\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.look()
		if seen, err := os.ReadFile(path + ".seen"); err != nil || string(seen) != text {
			t.Errorf("it was told %q and obeys %q, %v", text, seen, err)
		}
		for range 100_000 {
			now := c.Monotonic()
			if now < before {
				t.Fatalf("under %q it goes back from %v to %v", text, before, now)
			}
			before = now
		}
	}
	c.obey("3600000000000 0\n")
	if off := time.Until(c.Wall()); off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("it is off by %v, and should be by an hour", off)
	}
	began, real := c.Monotonic(), time.Now()
	c.obey("0 50000\n")
	for time.Since(real) < 50*time.Millisecond { // no sleep: the clock under test is the machine's
	}
	if lead := c.Monotonic() - began - time.Since(real); lead < 2*time.Millisecond || lead > 10*time.Millisecond {
		t.Errorf("5 %% fast for 50 ms, it is ahead by %v", lead)
	}
}
