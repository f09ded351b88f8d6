package real

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

const ms = time.Millisecond

func put(called, returned time.Duration) *history.Op {
	return &history.Op{Kind: history.Put, Called: called, Returned: returned, Outcome: history.Done}
}

// A gap is the longest silence of all writers from the kill until the node is back,
// and a kill with something else beside it has none.
func TestGaps(t *testing.T) {
	ops := []*history.Op{put(0, 10*ms), put(0, 90*ms), put(95*ms, 700*ms), put(700*ms, 2000*ms), {Kind: history.Get, Returned: 300 * ms, Outcome: history.Done},
		{Kind: history.Put, Returned: 400 * ms, Outcome: history.Unknown}}
	kill := history.Fault{Began: 100 * ms, Ended: 600 * ms}
	if got := gaps(ops, []history.Fault{kill}, []history.Fault{kill}); !slices.Equal(got, []time.Duration{610 * ms}) {
		t.Errorf("the gap is %v, want 610 ms", got)
	}
	beside := history.Fault{Name: "loss", Began: 500 * ms, Ended: 800 * ms}
	if got := gaps(ops, []history.Fault{kill}, []history.Fault{kill, beside}); got != nil {
		t.Errorf("the gap is %v although something else was at work", got)
	}
}

// A run proves nothing if a fault did not bite, if nothing was under way, or if the
// cluster hardly answered while it was well.
func TestVacuous(t *testing.T) {
	good := func() *Outcome {
		out := &Outcome{Ops: []*history.Op{put(0, 10*ms), put(20*ms, 30*ms)},
			Faults: []history.Fault{{Name: "loss", Began: 5 * ms, Ended: 25 * ms, Proofs: []history.Proof{{What: "packets dropped", Count: 1}}}}}
		out.Counts = count(out.Ops, out.Faults)
		return out
	}
	if why := vacuous(good()); why != nil {
		t.Fatalf("a good run proves nothing: %v", why)
	}
	for want, spoil := range map[string]func(*Outcome){
		"no fault":                 func(o *Outcome) { o.Faults = nil },
		"nobody saw":               func(o *Outcome) { o.Faults[0].Proofs[0].Count = 0 },
		"no request was under way": func(o *Outcome) { o.Faults[0].Began, o.Faults[0].Ended = 12*ms, 18*ms },
		"were answered":            func(o *Outcome) { o.Counts.CalmOK = 1 },
	} {
		o := good()
		spoil(o)
		if why := vacuous(o); len(why) != 1 || !strings.Contains(why[0], want) {
			t.Errorf("%s: %v", want, why)
		}
	}
}

// What grants and renewals say bounds the log time at an index from below.
func TestLeastLogTime(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	lease := func(kind history.Kind, index uint64, expires int) *history.Op {
		return &history.Op{Kind: kind, Index: index, Expires: at(expires), TTL: 10 * time.Second, Outcome: history.Done}
	}
	least := leastLogTime([]*history.Op{lease(history.Renew, 7, 25), lease(history.Grant, 3, 20), lease(history.Renew, 9, 22), lease(history.Lookup, 8, 99)})
	for index, want := range map[uint64]time.Time{2: {}, 3: at(10), 6: at(10), 7: at(15), 8: at(15), 9: at(15), 100: at(15)} {
		if got, ok := least(index); !ok || !got.Equal(want) {
			t.Errorf("at %d it is %v, %t, want %v", index, got, ok, want)
		}
	}
}

func TestLateLeases(t *testing.T) {
	began := time.Unix(1000, 0)
	o := &history.Op{Kind: history.Lookup, Outcome: history.Done, Called: 10 * time.Second, Expires: began.Add(6 * time.Second)}
	if found := lateLeases([]*history.Op{o}, began); found != nil {
		t.Errorf("4 s are within the slack: %v", found)
	}
	o.Called = 12 * time.Second
	if found := lateLeases([]*history.Op{o}, began); len(found) != 1 {
		t.Errorf("6 s after its end: %v", found)
	}
	o.Faulty = true
	if found := lateLeases([]*history.Op{o}, began); found != nil {
		t.Errorf("under faults log time may stand still: %v", found)
	}
}

// What a client is told becomes what the history says, and a refusal after an
// attempt that nobody knows the end of is no refusal.
func TestClassify(t *testing.T) {
	cas, unavailable := conclavev1.Reason_REASON_CAS_MISMATCH, conclavev1.Reason_REASON_UNSPECIFIED
	for _, c := range []struct {
		err    client.Error
		want   history.Outcome
		reason conclavev1.Reason
		number uint64
	}{
		{client.Error{Reason: client.ReasonCASMismatch, Outcome: client.OutcomeNotDone, CurrentVersion: 3}, history.Refused, cas, 3},
		{client.Error{Reason: client.ReasonCASMismatch, Outcome: client.OutcomeUnknown, CurrentVersion: 3}, history.Unknown, cas, 0},
		{client.Error{Reason: client.ReasonUnavailable, Outcome: client.OutcomeNotDone}, history.NotDone, unavailable, 0},
		{client.Error{Reason: client.ReasonUnavailable, Outcome: client.OutcomeUnknown}, history.Unknown, unavailable, 0},
		{client.Error{Reason: client.ReasonSealed, Outcome: client.OutcomeNotDone}, history.NotDone, conclavev1.Reason_REASON_SEALED, 0},
	} {
		w, a := &worker{run: &run{}}, &answer{}
		w.classify(put(0, 0), a, &c.err)
		if a.outcome != c.want || a.reason != c.reason || a.number != c.number || w.run.found != nil {
			t.Errorf("%+v became %+v; %v", c.err, a, w.run.found)
		}
	}
	w, a := &worker{run: &run{}}, &answer{}
	if w.classify(put(0, 0), a, &client.Error{Reason: client.ReasonInternal, Outcome: client.OutcomeNotDone}); len(w.run.found) != 1 {
		t.Errorf("an internal error is no violation: %v", w.run.found)
	}
}

func TestWebAnswers(t *testing.T) {
	get, write := &history.Op{Kind: history.Get}, &history.Op{Kind: history.Put}
	mark := base64.StdEncoding.EncodeToString([]byte("v1:some-cluster:42:42:0abc"))
	for _, c := range []struct {
		o      *history.Op
		status int
		body   string
		want   answer
		wrong  bool
	}{
		{write, 200, `{"data":{"version":7}}`, answer{outcome: history.Done, number: 7, index: 42}, false},
		{get, 200, `{"data":{"data":{"value":"x"},"metadata":{"version":7}}}`, answer{outcome: history.Done, number: 7, index: 42, read: "x"}, false},
		{get, 404, `{"errors":[]}`, answer{outcome: history.Refused, reason: conclavev1.Reason_REASON_NOT_FOUND}, false},
		{get, 404, `{"data":{"data":null,"metadata":{"version":7,"deletion_time":"2026-01-01T00:00:00Z"}}}`, answer{outcome: history.Refused, reason: conclavev1.Reason_REASON_VERSION_DELETED}, false},
		{get, 404, `{"data":{"data":null,"metadata":{"version":7,"destroyed":true}}}`, answer{outcome: history.Refused, reason: conclavev1.Reason_REASON_VERSION_DESTROYED}, false},
		{get, 503, ``, answer{outcome: history.NotDone}, false},
		{write, 0, ``, answer{outcome: history.NotDone}, false},
		{write, 404, `{"errors":[]}`, answer{outcome: history.NotDone}, true},
		{get, 403, `{"errors":[]}`, answer{outcome: history.NotDone}, true},
		{get, 200, `no JSON`, answer{outcome: history.NotDone}, true},
	} {
		got := answer{outcome: history.NotDone}
		if err := got.readWeb(c.o, c.status, []byte(c.body), mark); (err != nil) != c.wrong || got != c.want {
			t.Errorf("%s %d %s became %+v, %v", c.o.Kind, c.status, c.body, got, err)
		}
	}
}
