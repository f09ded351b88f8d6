package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// scene is a world with one client, a clock that counts, and a cluster that does as
// it is told.
type scene struct {
	*World
	client *Client
	answer func(o *history.Op) *Answer // nil: all is done, and once only

	mu    sync.Mutex // guards all below
	clock time.Duration
	found []string
	sent  []sent
	known map[string]*Answer // by idempotency key
}

type sent struct {
	kind history.Kind
	node int
	key  string
}

func newScene() *scene {
	s := &scene{known: map[string]*Answer{}}
	s.World = NewWorld(Options{Mix: Names(), Canary: "canary ", Pause: time.Second, MaxAge: time.Second, TTLs: []time.Duration{time.Second, time.Minute}}, s)
	s.wait = func(time.Duration) {}
	s.client = s.NewClient(3, rand.New(rand.NewPCG(1, 2)), s)
	return s
}

func (s *scene) LogTime() time.Time           { return time.Unix(0, int64(s.Now())) }
func (s *scene) Disturbed(time.Duration) bool { return false }
func (s *scene) Nodes() int                   { return 3 }

func (s *scene) Now() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	return s.clock
}

func (s *scene) Report(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, fmt.Sprintf(format, args...))
}

func (s *scene) Send(o *history.Op, node int, key string) *Answer {
	o.Sent++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, sent{o.Kind, node, key})
	if s.answer != nil {
		return s.answer(o)
	}
	if a := s.known[key]; a != nil && key != "" {
		return a
	}
	number := uint64(len(s.sent))
	a := &Answer{Node: node, Outcome: history.Done, Index: number}
	s.known[key] = a
	switch {
	case o.Kind == history.Grant:
		a.ID = fmt.Sprintf("jobs/%d", number)
	case o.Kind == history.Put:
		a.Number = number
	case model.IsAccess(o.Kind):
		err := s.ByPath(o, a, func(q Request) (*Reply, error) {
			text := ""
			if q.Path == "sys/wrapping/unwrap" {
				text = s.wrapped(&history.Op{Key: o.Key})
			}
			return &Reply{Index: number, Token: redact.New([]byte("token")), Text: text}, nil
		})
		if err != nil {
			s.found = append(s.found, err.Error())
		}
	}
	return a
}

// Every request that a workload has is drawn, each under a key of its own kind, and
// no key has many more than requestsEach.
func TestAllIsDrawn(t *testing.T) {
	s := newScene()
	var names []Name
	for range 5000 {
		name := s.draw(s.client.rng)
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		s.client.request(name)
	}
	if len(names) != len(Names()) {
		t.Errorf("only %v were drawn", names)
	}
	kinds, perKey, levels := map[history.Kind]int{}, map[string]int{}, map[conclavev1.Consistency]int{}
	cas, old := 0, 0
	for _, o := range s.Book.Ops() {
		kinds[o.Kind]++
		perKey[o.Key]++
		levels[o.Level]++
		if o.CAS != nil && !strings.HasPrefix(o.Key, listPrefix) {
			cas++
		}
		if o.Kind == history.Get && o.Version > 0 {
			old++
		}
	}
	for _, kind := range []history.Kind{history.Put, history.Get, history.Delete, history.Undelete, history.Destroy, history.Grant, history.Renew, history.Revoke, history.Lookup,
		model.MakeToken, model.UseToken, model.RevokeToken, model.MakeLimited, model.UseLimited, model.MakeGate, model.SetPolicy, model.UsePolicy, model.MakeWrapped, model.Unwrap, history.Transfer, history.Balances} {
		if kinds[kind] == 0 {
			t.Errorf("%s was never drawn", kind)
		}
	}
	if len(levels) != 4 || cas == 0 || old == 0 {
		t.Errorf("levels %v, %d check-and-sets, %d reads of a version", levels, cas, old)
	}
	for key, n := range perKey {
		if most := 2 * requestsEach; n > most || strings.HasPrefix(key, "make-limited") && n > 1+uses(model.MakeLimited) {
			t.Errorf("%s had %d requests", key, n)
		}
	}
	if s.found != nil {
		t.Errorf("%d findings, the first: %s", len(s.found), s.found[0])
	}
}

// A mix of one workload has that workload only, and names that nobody knows are refused.
func TestMix(t *testing.T) {
	s := newScene()
	s.options.Mix = []Name{Wrapping}
	for range 100 {
		s.client.request(s.draw(s.client.rng))
	}
	for _, o := range s.Book.Ops() {
		if o.Kind != model.MakeWrapped && o.Kind != model.Unwrap {
			t.Fatalf("nobody asked for this: %v", o)
		}
	}
	if Valid(Names()) != nil || Valid(nil) == nil || Valid([]Name{"none"}) == nil {
		t.Error("a run needs workloads that there are")
	}
}

// A request is sent again, through the next node and under its key, while nobody knows
// what became of it, and "not done" after that is not believed.
func TestUntilKnown(t *testing.T) {
	for _, c := range []struct {
		answers []history.Outcome
		sent    int
		want    history.Outcome
	}{
		{[]history.Outcome{history.Done}, 1, history.Done},
		{[]history.Outcome{history.NotDone}, 1, history.NotDone},
		{[]history.Outcome{history.Unknown, history.Done}, 2, history.Done},
		{[]history.Outcome{history.Unknown, history.NotDone, history.Done}, 3, history.Done},
		{[]history.Outcome{history.Unknown, history.Refused, history.NotDone}, 3, history.Unknown},
	} {
		s := newScene()
		s.answer = func(*history.Op) *Answer { return &Answer{Outcome: c.answers[len(s.sent)-1]} }
		o := s.client.secretOp(history.Put, "p")
		if s.client.sendUntilKnown(o, 1); o.Sent != c.sent || o.Outcome != c.want {
			t.Errorf("%v: sent %d times, %v", c.answers, o.Sent, o.Outcome)
		}
		for i, x := range s.sent {
			if x.node != (1+i)%3 || x.key != "c3-1" {
				t.Errorf("attempt %d was %+v", i, x)
			}
		}
	}
}

// What is acknowledged and does not come back, or gives no answer, is found in the last look.
func TestLookBack(t *testing.T) {
	s := newScene()
	s.keepLease(granted{id: "jobs/1", ttl: time.Second})
	s.keep(model.MakeToken, &credential{key: "family"})
	s.keep(model.MakeGate, &credential{key: "gate"})
	s.client.LookBack(1, []string{"other"}, func() bool { return true })
	var keys []string
	for _, o := range s.Book.Ops() {
		keys = append(keys, o.Key)
	}
	if want := append(s.Paths(), "other", "jobs/1", "family", "family", "gate"); !slices.Equal(keys, want) || s.found != nil {
		t.Errorf("read %v, want %v; %v", keys, want, s.found)
	}
	s.answer = func(*history.Op) *Answer { return &Answer{Outcome: history.NotDone} }
	if s.client.LookBack(1, nil, func() bool { return true }); len(s.found) != len(s.Paths())+4 {
		t.Errorf("%d findings for %d paths and four others without an answer", len(s.found), len(s.Paths()))
	}
	s.found = nil
	if s.client.LookBack(1, nil, func() bool { return false }); len(s.found) != 1 {
		t.Errorf("a last look that was ended early: %v", s.found)
	}
}
