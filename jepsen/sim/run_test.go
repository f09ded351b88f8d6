package sim_test

import (
	"encoding/json"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/sim"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// A result survives being written as JSON, with every request and every fault.
func TestResultAsJSON(t *testing.T) {
	r, err := sim.Run(on(t), sim.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back sim.Result
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Run.Ops) != len(r.Run.Ops) || len(back.Run.Ops) == 0 || len(back.Run.Faults) != len(r.Run.Faults) || len(back.Run.Times) != len(r.Run.Times) ||
		back.Counts.Ops != r.Counts.Ops || back.Fingerprint != r.Fingerprint || back.Run.Seed != 1 {
		t.Errorf("%d requests, %d faults became %d and %d", len(r.Run.Ops), len(r.Run.Faults), len(back.Run.Ops), len(back.Run.Faults))
	}
	for i, o := range back.Run.Ops {
		if o.String() != r.Run.Ops[i].String() {
			t.Fatalf("request %d was %v and is %v", i, r.Run.Ops[i], o)
		}
	}
}

// A run has the workloads and the faults that were asked for, and no others.
func TestSwitches(t *testing.T) {
	r, err := sim.Run(on(t), sim.Options{Seed: 2, Workloads: []workload.Name{workload.Wrapping}, Faults: []string{"leader killed"}})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := 0
	for _, o := range r.Run.Ops {
		switch {
		case o.Kind == model.MakeWrapped || o.Kind == model.Unwrap:
			wrapped++
		case o.Kind != history.Get: // the last look back reads
			t.Errorf("nobody asked for this: %v", o)
		}
	}
	if wrapped == 0 || len(r.Run.Faults) == 0 {
		t.Errorf("%d requests and %d faults of those that were asked for", wrapped, len(r.Run.Faults))
	}
	for _, f := range r.Run.Faults {
		if f.Name != "leader killed" {
			t.Errorf("nobody asked for %s", f.Name)
		}
	}
	for _, v := range r.Violations() {
		t.Error(v)
	}
}

// Options that make no run are refused.
func TestBadOptions(t *testing.T) {
	for _, o := range []sim.Options{{Nodes: 2}, {Clients: -1}, {Duration: -1}, {Stretch: -1}, {Leisure: -1},
		{Workloads: []workload.Name{"none"}}, {Workloads: []workload.Name{}}, {Faults: []string{"none"}}} {
		if _, err := sim.Run(on(t), o); err == nil {
			t.Errorf("a run was made of %+v", o)
		}
	}
}
