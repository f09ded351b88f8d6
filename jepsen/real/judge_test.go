package real

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
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
	if got := gaps(ops, []history.Fault{kill}, []history.Fault{kill}, time.Hour); !slices.Equal(got, []time.Duration{610 * ms}) {
		t.Errorf("the gap is %v, want 610 ms", got)
	}
	beside := history.Fault{Name: "loss", Began: 500 * ms, Ended: 800 * ms}
	if got := gaps(ops, []history.Fault{kill}, []history.Fault{kill, beside}, time.Hour); got != nil {
		t.Errorf("the gap is %v although something else was at work", got)
	}
	if got := gaps(ops, []history.Fault{kill}, []history.Fault{kill}, kill.Ended-1); got != nil {
		t.Errorf("gaps of a kill that the clients did not see the end of: %v", got)
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

// A lease that is shorter or longer than was asked is seen beside others.
func TestTerms(t *testing.T) {
	grant := func(index uint64, expires, returned int64) *history.Op {
		return &history.Op{Kind: history.Grant, Index: index, Expires: time.Unix(expires, 0), TTL: 10 * time.Second, LogTime: time.Unix(returned, 0), Outcome: history.Done}
	}
	for name, c := range map[string]struct {
		third *history.Op
		found int
	}{
		"as asked": {grant(9, 33, 24), 0},
		"shorter":  {grant(9, 31, 24), 1},
		"longer":   {grant(9, 35, 24), 1},
	} {
		ops := []*history.Op{grant(3, 30, 21), grant(5, 32, 23), c.third}
		if found := workload.Judge(ops, logTimes(ops)); len(found) != c.found {
			t.Errorf("%s: %v", name, found)
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

// What the SDK says, or that nothing was said over HTTP, becomes what the workload
// knows.
func TestFailure(t *testing.T) {
	mismatch := conclavev1.Reason_REASON_CAS_MISMATCH
	r, write, limited := &run{}, history.Put, model.UseLimited
	for _, c := range []struct {
		kind history.Kind
		err  client.Error
		want workload.Failure
	}{
		{write, client.Error{Reason: client.ReasonCASMismatch, Outcome: client.OutcomeNotDone, CurrentVersion: 3}, workload.Failure{Reason: mismatch, Current: 3}},
		{write, client.Error{Reason: client.ReasonCASMismatch, Outcome: client.OutcomeUnknown, CurrentVersion: 3}, workload.Failure{Reason: mismatch, Current: 3, Unknown: true}},
		{write, client.Error{Reason: client.ReasonUnavailable, Outcome: client.OutcomeNotDone}, workload.Failure{}},
		{write, client.Error{Reason: client.ReasonEnded, Outcome: client.OutcomeUnknown}, workload.Failure{Unknown: true}},
		{limited, client.Error{Reason: client.ReasonUnavailable, Outcome: client.OutcomeNotDone}, workload.Failure{Unknown: true}},
		{limited, client.Error{Reason: client.ReasonSealed, Outcome: client.OutcomeNotDone}, workload.Failure{Reason: conclavev1.Reason_REASON_SEALED}},
	} {
		var got *workload.Failure
		if err := r.failure(&history.Op{Kind: c.kind}, &c.err); !errors.As(err, &got) {
			t.Fatalf("%+v became %v", c.err, err)
		}
		got.Cause = nil
		if *got != c.want {
			t.Errorf("%s: %+v became %+v, want %+v", c.kind, c.err, *got, c.want)
		}
	}
	dialling := fmt.Errorf("asking: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	for err, sent := range map[error]bool{dialling: false, &net.OpError{Op: "read", Err: syscall.ECONNRESET}: true, io.ErrUnexpectedEOF: true} {
		var got *workload.Failure
		if !errors.As(brokenOff(err), &got) || got.Unknown != sent {
			t.Errorf("%v became %+v", err, got)
		}
	}
	if other := errors.New("something"); r.failure(put(0, 0), other) != other || r.failure(put(0, 0), nil) != nil {
		t.Error("what is no error of the SDK does not stay as it is")
	}
}

// mark is one of index 42.
var mark = base64.StdEncoding.EncodeToString([]byte("v1:some-cluster:42:42:0abc"))

// What Vault's API says of a secret becomes what the workload knows; what it cannot
// say is no failure of a request but a finding.
func TestWebSecrets(t *testing.T) {
	get, write := &history.Op{Kind: history.Get}, &history.Op{Kind: history.Put}
	none := conclavev1.Reason_REASON_UNSPECIFIED
	for _, c := range []struct {
		o       *history.Op
		status  int
		body    string
		want    workload.Answer
		reason  conclavev1.Reason
		failed  bool
		unknown bool
	}{
		{write, 200, `{"data":{"version":7}}`, workload.Answer{Number: 7, Index: 42}, none, false, false},
		{get, 200, `{"data":{"data":{"value":"x"},"metadata":{"version":7}}}`, workload.Answer{Number: 7, Index: 42, Read: "x"}, none, false, false},
		{get, 404, `{"errors":[]}`, workload.Answer{}, conclavev1.Reason_REASON_NOT_FOUND, true, false},
		{get, 404, `{"data":{"data":null,"metadata":{"version":7,"deletion_time":"2026-01-01T00:00:00Z"}}}`, workload.Answer{}, conclavev1.Reason_REASON_VERSION_DELETED, true, false},
		{get, 404, `{"data":{"data":null,"metadata":{"version":7,"destroyed":true}}}`, workload.Answer{}, conclavev1.Reason_REASON_VERSION_DESTROYED, true, false},
		{write, 400, `{"errors":["check-and-set parameter did not match the current version"]}`, workload.Answer{}, conclavev1.Reason_REASON_CAS_MISMATCH, true, false},
		{write, 400, `{"errors":["no JSON"]}`, workload.Answer{}, conclavev1.Reason_REASON_INVALID, true, false},
		{get, 503, ``, workload.Answer{}, none, true, false},
		{write, 500, `{"errors":["whether this was done is not known"]}`, workload.Answer{}, none, true, true},
		{write, 500, `{"errors":["internal error"]}`, workload.Answer{}, conclavev1.Reason_REASON_INTERNAL, true, true},
		{get, 403, `{"errors":[]}`, workload.Answer{}, conclavev1.Reason_REASON_DENIED, true, false},
	} {
		var got workload.Answer
		err := webAnswer{c.status, []byte(c.body), mark}.secret(c.o, &got)
		f := &workload.Failure{}
		if errors.As(err, &f) != c.failed || (err != nil) != c.failed || got != c.want || f.Reason != c.reason || f.Unknown != c.unknown {
			t.Errorf("%s %d %s became %+v, %v", c.o.Kind, c.status, c.body, got, err)
		}
	}
	for _, wrong := range []struct {
		o      *history.Op
		answer webAnswer
	}{{write, webAnswer{404, []byte(`{"errors":[]}`), mark}}, {get, webAnswer{200, []byte(`no JSON`), mark}}, {get, webAnswer{418, nil, mark}}, {get, webAnswer{200, []byte(`{}`), "no mark"}}} {
		f := &workload.Failure{}
		if err := wrong.answer.secret(wrong.o, &workload.Answer{}); err == nil || errors.As(err, &f) {
			t.Errorf("%s %v became %v", wrong.o.Kind, wrong.answer, err)
		}
	}
}

// What Vault's API says around access becomes what the workload knows.
func TestWebReplies(t *testing.T) {
	for body, want := range map[string]workload.Reply{
		``: {Index: 42},
		`{"auth":{"client_token":"t"},"data":null}`:      {Index: 42, Token: redact.New([]byte("t"))},
		`{"wrap_info":{"token":"w"},"auth":null}`:        {Index: 42, Token: redact.New([]byte("w"))},
		`{"data":{"text":"x"},"wrap_info":null}`:         {Index: 42, Text: "x"},
		`{"data":{"data":{"text":"y"},"metadata":null}}`: {Index: 42},
	} {
		got, err := webAnswer{200, []byte(body), mark}.reply()
		if err != nil || got.Index != want.Index || got.Text != want.Text || !got.Token.Equal(want.Token) {
			t.Errorf("%s became %+v, %v", body, got, err)
		}
	}
	for status, want := range map[int]conclavev1.Reason{400: conclavev1.Reason_REASON_INVALID, 403: conclavev1.Reason_REASON_DENIED, 404: conclavev1.Reason_REASON_NOT_FOUND} {
		var f *workload.Failure
		if _, err := (webAnswer{status, []byte(`{"errors":[]}`), ""}).reply(); !errors.As(err, &f) || f.Reason != want || f.Unknown {
			t.Errorf("%d became %v", status, err)
		}
	}
	if _, err := (webAnswer{200, []byte(`no JSON`), ""}).reply(); err == nil {
		t.Error("an answer was made of no JSON")
	}
}
