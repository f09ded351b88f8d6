// Package bubble runs functions on virtual time in an ordinary program. The standard
// library makes such bubbles for tests alone (testing/synctest), so this makes a test
// of the program and runs it. Nothing here knows what is simulated.
package bubble

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"testing/synctest"
)

// Environment is what a process needs in which a seed shall repeat: one goroutine at a
// time, none of them interrupted, and a global source that can be seeded. A process
// that runs bubbles is started with it.
func Environment() []string {
	return []string{"GOMAXPROCS=1", "GODEBUG=randseednop=0,asyncpreemptoff=1", "GOGC=400"}
}

// A Runner seeds the global source, on which the consensus library draws its timeouts,
// and runs f in a bubble of its own. It returns when f and every goroutine that it
// started has ended. One goroutine uses it.
type Runner func(seed uint64, f func())

// Main runs f and ends the process: with 0, or with 1 if a bubble did not end as it
// should, of which standard output then tells. If all goroutines of a bubble wait for
// ever, the process dies in a panic. It is for processes that do nothing else.
func Main(f func(in Runner)) {
	testing.Init()
	if err := flag.CommandLine.Parse(nil); err != nil { // the testing package demands it; ours are elsewhere
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "Bubbles", F: func(t *testing.T) {
		f(func(seed uint64, f func()) { Run(t, seed, f) })
	}}}, nil, nil)
}

// Run is a Runner for tests.
func Run(t *testing.T, seed uint64, f func()) {
	//lint:ignore SA1019 the consensus library uses the global source, and this is the only way to seed it
	rand.Seed(int64(seed))
	synctest.Test(t, func(*testing.T) { f() })
}
