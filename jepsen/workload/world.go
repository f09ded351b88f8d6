package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A Name is that of a workload: requests of one kind.
type Name string

// The workloads.
const (
	Secrets  Name = "secrets"  // versions of secrets: check-and-set, delete, undelete, destroy
	Lists    Name = "lists"    // append and read
	Leases   Name = "leases"   // grant, renew, revoke, look up
	Tokens   Name = "tokens"   // families of tokens, and tokens for a number of uses
	Policies Name = "policies" // a policy changes while requests ask for its permission
	Wrapping Name = "wrapping" // answers that are given out once
	// Transfers move what two records hold in one batch. They are for the ledger, which
	// only the simulation can reach.
	Transfers Name = "transfers"
)

// OfAPI returns the workloads that the API can carry.
func OfAPI() []Name {
	return slices.DeleteFunc(Names(), func(n Name) bool { return n == Transfers })
}

// Names returns the names of all workloads.
func Names() []Name { return []Name{Secrets, Lists, Leases, Tokens, Policies, Wrapping, Transfers} }

// weights says how often each workload has its turn, beside the others.
var weights = map[Name]int{Secrets: 44, Lists: 8, Leases: 22, Tokens: 14, Policies: 7, Wrapping: 5, Transfers: 6}

// requestsEach is about how many requests a key has before clients leave it for
// another: the search for an order takes longer the more there are.
const requestsEach = 90

// Options say what the clients of a run ask for. Each is needed.
type Options struct {
	Mix    []Name          // the workloads
	Canary string          // begins every value that is written
	Pause  time.Duration   // the longest between two requests of a client
	MaxAge time.Duration   // of reads whose age is bounded
	TTLs   []time.Duration // of leases
}

// A Watch sees the whole of a run. Its methods may be called at any time.
type Watch interface {
	// Now is the time since the run began.
	Now() time.Duration
	// LogTime is a time that the log of no node has passed.
	LogTime() time.Time
	// Disturbed tells whether a fault was at work at some time since then.
	Disturbed(since time.Duration) bool
	// Report takes what is wrong for certain.
	Report(format string, args ...any)
}

// A World is what the clients of one run have in common.
type World struct {
	Book history.Log // of all that was asked

	options   Options
	watch     Watch
	wait      func(time.Duration)
	secrets   atomic.Int64 // requests, which pick the secrets
	lists     atomic.Int64 // appends, likewise
	transfers atomic.Int64 // likewise

	mu     sync.Mutex
	leases []granted // guarded by mu
	purse  purse     // guarded by mu
}

// NewWorld returns a world in which nothing was asked yet.
func NewWorld(o Options, w Watch) *World {
	return &World{options: o, watch: w, purse: newPurse(), wait: func(d time.Duration) { Pause(context.Background(), d) }}
}

// Valid tells whether there are workloads of these names.
func Valid(mix []Name) error {
	for _, name := range mix {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("no workload is called %q", name)
		}
	}
	if len(mix) == 0 {
		return fmt.Errorf("a run needs a workload")
	}
	return nil
}

// draw chooses a workload.
func (w *World) draw(rng *rand.Rand) Name {
	sum := 0
	for _, name := range w.options.Mix {
		sum += weights[name]
	}
	n := rng.IntN(sum)
	for _, name := range w.options.Mix {
		if n -= weights[name]; n < 0 {
			return name
		}
	}
	return w.options.Mix[0]
}
