package sim

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// DefaultDuration is how long the faults of a run last, before stretch and leisure.
const DefaultDuration = 5 * time.Second

// Options says how a run goes. Zero means the stated default.
type Options struct {
	Seed     uint64        `json:"seed"`
	Nodes    int           `json:"nodes"`    // default: 3, and 5 for every tenth seed
	Clients  int           `json:"clients"`  // default 6
	Duration time.Duration `json:"duration"` // of the faults, in virtual time; default DefaultDuration

	Workloads []workload.Name `json:"workloads"` // default: all
	Faults    []string        `json:"faults"`    // by name; nil: all of FaultNames; empty, not nil: none

	// Stretch makes what takes time take so many times as long: the timers of the
	// consensus, the patience of clients, the faults. Default 1.
	Stretch int `json:"stretch"`
	// Leisure makes the pauses between requests and between faults so many times longer
	// still, and with them the lives of leases and the default Duration: with a stretch
	// of 20 and a leisure of 250 a run lasts seven hours, its leases up to three, and it
	// costs little more than one of five seconds. Default 1.
	Leisure int `json:"leisure"`

	Logger *slog.Logger `json:"-"` // hears what all nodes log; default: discard

	seams testcluster.Seams
	// front stands between a caller and the node: it may ask as another.
	front func(p *testcluster.Process, o *history.Op, who, root core.Caller, ask func(core.Caller) (*core.Reply, error)) (*core.Reply, error)
}

func (o *Options) fill() error {
	if o.Nodes == 0 {
		o.Nodes = 3
		if o.Seed%10 == 9 {
			o.Nodes = 5
		}
	}
	if o.Clients == 0 {
		o.Clients = 6
	}
	if o.Stretch == 0 {
		o.Stretch = 1
	}
	if o.Leisure == 0 {
		o.Leisure = 1
	}
	if o.Duration == 0 {
		o.Duration = o.leisurely(DefaultDuration)
	}
	if o.Workloads == nil {
		o.Workloads = workload.Names()
	}
	if o.Faults == nil {
		o.Faults = FaultNames()
	}
	return o.valid()
}

func (o *Options) valid() error {
	if o.Nodes < 3 || o.Clients < 1 || o.Duration < 0 || o.Stretch < 1 || o.Leisure < 1 {
		return fmt.Errorf("a run needs three nodes, a client and a length, not %d, %d and %v, with a stretch of %d and a leisure of %d", o.Nodes, o.Clients, o.Duration, o.Stretch, o.Leisure)
	}
	if err := workload.Valid(o.Workloads); err != nil {
		return err
	}
	for _, f := range o.Faults {
		if !slices.Contains(FaultNames(), f) {
			return fmt.Errorf("no fault is called %q", f)
		}
	}
	return nil
}

// slow returns d as long as it takes in this run.
func (o *Options) slow(d time.Duration) time.Duration { return d * time.Duration(o.Stretch) }

// leisurely returns d as long as a pause of it is in this run.
func (o *Options) leisurely(d time.Duration) time.Duration {
	return o.slow(d) * time.Duration(o.Leisure)
}

// leaseTTLs are short, so that leases expire while a run lasts.
var leaseTTLs = []time.Duration{400 * time.Millisecond, 900 * time.Millisecond, 2 * time.Second}

// asked says what the clients ask for.
func (o *Options) asked() workload.Options {
	w := workload.Options{Mix: o.Workloads, Canary: canary, Pause: o.leisurely(50 * time.Millisecond), MaxAge: o.slow(200 * time.Millisecond)}
	for _, ttl := range leaseTTLs {
		w.TTLs = append(w.TTLs, o.leisurely(ttl))
	}
	return w
}
