// Package invariant checks, in test builds, what must always be true.
//
// Checks are compiled in under the build tag "invariants" and under the race
// detector, and cost a branch on a constant otherwise. What never lives here:
// validation of input, which must happen in every build and returns an error.
// Start reading at Check.
package invariant

import "fmt"

// Check panics with the formatted message when Enabled and ok is false. The
// message names the invariant and the numbers, never a secret. Where computing
// ok or an argument is expensive, ask Enabled first.
func Check(ok bool, format string, args ...any) {
	if Enabled && !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
