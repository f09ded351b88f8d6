package core_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// archivist is the node whose log it is.
const archivist = "node-of-the-archive"

// archive is an office whose audit log is a file, opened with what the ledger knows
// of it.
type archive struct {
	*office
	gate    *core.Gate
	config  seal.Config
	share   string
	path    string
	barrier *seal.Barrier
	events  []audit.Event
	anchors *core.Anchors
	now     time.Time
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	a := &archive{office: &office{t: t, ledger: &interposed{Ledger: core.NewSingle(t)}}, path: filepath.Join(t.TempDir(), "audit.log"),
		now: time.Unix(1_767_225_600, 0)}
	catalog := core.Catalog{Engines: map[string]engine.Backend{"system": sys.Backend{}, "kv": kv.Backend{}}, Auth: map[string]engine.Backend{"token": sys.Tokens{}}}
	a.gate = core.NewGate(rand.Reader, catalog, a.open)
	f, err := core.Found(rand.Reader, a.now, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := a.ledger.Propose(t.Context(), f.Batch); err != nil || r.Code != fsm.Applied {
		t.Fatalf("founding: %+v %v", r, err)
	}
	a.config, a.share = f.Config, f.Shares[0]
	a.pipeline = core.NewPipeline(core.Options{Gate: a.gate, Ledger: a.ledger, Clock: core.NewHandClock(), Rand: rand.Reader, Writable: func() error { return nil }})
	a.root = core.Caller{Token: f.RootToken, Reason: "TICKET-1"}
	a.anchors = core.NewAnchors(a.pipeline, archivist, func() time.Time { return a.now })
	a.unseal()
	t.Cleanup(func() {
		if err := a.gate.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (a *archive) open(b *seal.Barrier) (core.Recorder, error) {
	view, err := a.ledger.View()
	if err != nil {
		return nil, err
	}
	anchor, err := core.LastAnchor(view, b, archivist)
	if err = errors.Join(err, view.Close()); err != nil {
		return nil, err
	}
	hash, err := core.AuditHasher(b)
	if err != nil {
		return nil, err
	}
	a.barrier = b
	return audit.Open(audit.Options{Path: a.path, Node: archivist, Cluster: "c1", Hash: hash, Anchor: anchor,
		Notify: func(e audit.Event) { a.events = append(a.events, e) }})
}

func (a *archive) unseal() {
	a.t.Helper()
	if _, err := a.gate.Submit(a.config, a.share); err != nil {
		a.t.Fatal(err)
	}
}

func (a *archive) head() audit.Head { return a.gate.Recorder().(*audit.Log).Head() }

func (a *archive) note() {
	a.t.Helper()
	a.now = a.now.Add(10 * time.Second)
	if err := a.anchors.Note(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// known asks the API for the anchors of the node.
func (a *archive) known() []audit.Anchor {
	a.t.Helper()
	raw, ok := a.must(a.root, engine.VerbRead, "sys/audit/anchors", "").Data.(json.RawMessage)
	var out struct{ Nodes map[string][]audit.Anchor }
	if err := json.Unmarshal(raw, &out); err != nil || !ok {
		a.t.Fatal(err)
	}
	return out.Nodes[archivist]
}

// The head of the log goes into the ledger when it is a new one, and only then; the
// API shows what is there, and there is never too much of it.
func TestAnchors(t *testing.T) {
	a := newArchive(t)
	a.note()
	first, index := a.head(), a.index()
	a.note() // nothing was recorded
	if a.index() != index {
		t.Error("an anchor of nothing new was committed")
	}
	if known := a.known(); len(known) != 1 || known[0].Head != first || known[0].Seq != 1 {
		t.Errorf("known %v, want %v", known, first)
	}
	var newest audit.Head
	for range 3 * audit.MaxAnchors {
		a.must(a.root, engine.VerbRead, "sys/audit", "")
		newest = a.head()
		a.note()
	}
	known := a.known()
	if len(known) > audit.MaxAnchors || known[0].Head != first || known[len(known)-1].Head != newest || !known[len(known)-1].Time.Equal(a.now) {
		t.Errorf("%d anchors, the last %v, want %v", len(known), known[len(known)-1], newest)
	}
	files, err := audit.Files(nil, a.path)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := audit.Verify(t.Context(), audit.VerifyOptions{Files: files, Anchors: audit.Heads(known), Live: true}); err != nil || r.Anchored != len(known) {
		t.Errorf("%d of %d anchors, %v", r.Anchored, len(known), err)
	}
	for raw := range a.values() {
		if strings.Contains(raw, newest.Hash.String()) || strings.Contains(raw, archivist) {
			t.Error("an anchor lies in the ledger in clear")
		}
	}
}

// values yields what lies in the ledger.
func (a *archive) values() func(func(string) bool) {
	return func(yield func(string) bool) {
		view, err := a.ledger.View()
		if err != nil {
			a.t.Fatal(err)
		}
		defer func() { _ = view.Close() }()
		keys, err := view.Keys(fsm.Records, nil)
		if err != nil {
			a.t.Fatal(err)
		}
		for keys.Next() {
			r, err := view.Record(keys.Key())
			if err != nil {
				a.t.Fatal(err)
			}
			if !yield(string(keys.Key()) + string(r.Value)) {
				break
			}
		}
		if err := keys.Close(); err != nil {
			a.t.Fatal(err)
		}
	}
}

// A sealed node anchors nothing; when it opens its log again, the anchor is known and
// the log is the one that it left.
func TestAnchorsAcrossSeal(t *testing.T) {
	a := newArchive(t)
	a.must(a.root, engine.VerbRead, "sys/audit", "")
	a.note()
	anchored := a.head()
	if err := a.gate.Close(); err != nil {
		t.Fatal(err)
	}
	index := a.index()
	a.note()
	if a.index() != index {
		t.Error("a sealed node committed an anchor")
	}
	a.unseal()
	if a.head() != anchored || len(a.events) > 0 {
		t.Errorf("after the seal: %v, want %v; %v", a.head(), anchored, a.events)
	}

	// The file is lost while the node is sealed.
	if err := a.gate.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	a.unseal()
	if a.head().Seq <= anchored.Seq || len(a.events) != 1 || a.events[0].Kind != audit.EventTampered {
		t.Errorf("after a loss: %v, events %v", a.head(), a.events)
	}
	a.note() // it goes on above
	if known := a.known(); known[len(known)-1].Seq <= anchored.Seq {
		t.Errorf("known %v", known)
	}
}

// A log that is behind its own anchor is not anchored: the older anchor is what shows
// that records are gone.
func TestAnchorsNeverGoBack(t *testing.T) {
	a := newArchive(t)
	for range 5 {
		a.must(a.root, engine.VerbRead, "sys/audit", "")
	}
	a.note()
	anchored := a.head()
	if err := a.gate.Close(); err != nil {
		t.Fatal(err)
	}
	// Another log, shorter, takes the place of the first without looking at the anchor.
	path := filepath.Join(t.TempDir(), "other.log")
	gate := core.NewGate(rand.Reader, core.Catalog{}, func(b *seal.Barrier) (core.Recorder, error) {
		hash, err := core.AuditHasher(b)
		if err != nil {
			return nil, err
		}
		return audit.Open(audit.Options{Path: path, Node: archivist, Cluster: "c1", Hash: hash})
	})
	if _, err := gate.Submit(a.config, a.share); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gate.Close() }()
	p := core.NewPipeline(core.Options{Gate: gate, Ledger: a.ledger, Clock: core.NewHandClock(), Rand: rand.Reader, Writable: func() error { return nil }})
	if err := core.NewAnchors(p, archivist, time.Now).Note(t.Context()); !errors.Is(err, core.ErrAnchorAhead) {
		t.Errorf("got %v, want ErrAnchorAhead", err)
	}
	a.unseal()
	if known := a.known(); known[len(known)-1].Head != anchored {
		t.Errorf("known %v, want %v", known, anchored)
	}
}

// Another proposal that wins the race for the row costs another try, and no error.
func TestAnchorConflict(t *testing.T) {
	a := newArchive(t)
	a.must(a.root, engine.VerbRead, "sys/audit", "")
	second := core.NewAnchors(a.pipeline, archivist, time.Now)
	a.ledger.before = func() {
		if err := second.Note(t.Context()); err != nil {
			t.Error(err)
		}
	}
	a.note()
	if known := a.known(); len(known) != 1 {
		t.Errorf("known %v", known)
	}
}

// A typed call leaves the same in the log as the same call by path: names in clear,
// values as hashes that can be searched for.
func TestTypedCallsAreRecorded(t *testing.T) {
	a := newArchive(t)
	kvEngine := &kv.Engine{MaxValueBytes: 1 << 20, MaxPathBytes: 1024}
	_, err := core.Call(t.Context(), a.pipeline, a.root, "secret/", kvEngine.Put(), &conclavev1.PutSecretRequest{
		Path: "app/db", Data: map[string]*conclavev1.Field{
			"password": {Kind: &conclavev1.Field_Text{Text: "hunter2"}},
			"key":      {Kind: &conclavev1.Field_Binary{Binary: []byte("hunter3")}},
		}, Write: &conclavev1.WriteOptions{IdempotencyKey: "k1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.Call(t.Context(), a.pipeline, a.root, "secret/", kvEngine.Get(), &conclavev1.GetSecretRequest{Path: "app/db"}); err != nil {
		t.Fatal(err)
	}
	hashOf := func(value string) string {
		raw := a.must(a.root, engine.VerbWrite, "sys/audit-hash/file", `{"input":"`+value+`"}`).Data.(json.RawMessage)
		var out struct{ Hash string }
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return out.Hash
	}
	files, err := audit.Files(nil, a.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"hunter2", "hunter3"} {
		var found []string
		for r, err := range audit.Query(context.Background(), nil, files, audit.Filter{Value: hashOf(value), Path: "secret/*"}) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, string(r.Type)+" "+r.Operation+" "+r.Path+" "+r.Mount+" "+r.Reason)
		}
		want := "request create secret/data/app/db secret/ TICKET-1|response create secret/data/app/db secret/ TICKET-1|access read secret/data/app/db secret/ TICKET-1"
		if got := strings.Join(found, "|"); got != want {
			t.Errorf("%s: got  %s\nwant %s", value, got, want)
		}
	}
	raw, err := os.ReadFile(a.path)
	if err != nil || strings.Contains(string(raw), "hunter") || strings.Contains(string(raw), "k1") || !strings.Contains(string(raw), `"password":{"text":"hmac-sha256:`) {
		t.Errorf("%v\n%s", err, raw)
	}
}

// The sinks are shown to who has sudo, and cannot be changed; no sink, no hash.
func TestAuditRoutes(t *testing.T) {
	a := newArchive(t)
	for _, verb := range []engine.Verb{engine.VerbRead, engine.VerbList} {
		raw := string(a.must(a.root, verb, "sys/audit", "").Data.(json.RawMessage))
		if !strings.Contains(raw, `"file/":{"type":"file"`) || !strings.Contains(raw, a.path) || !strings.Contains(raw, `"strictness":"required"`) {
			t.Error(raw)
		}
	}
	for verb, want := range map[engine.Verb]string{engine.VerbWrite: "cannot enable", engine.VerbDelete: "cannot disable"} {
		_, err := a.do(a.root, verb, "sys/audit/file", "")
		wants(t, err, conclavev1.Reason_REASON_INVALID)
		if err == nil || !strings.Contains(err.Error(), want+" audit device via API; use declarative configuration") {
			t.Error(err)
		}
	}
	for _, body := range []string{`{}`, `{"input":null}`} {
		_, err := a.do(a.root, engine.VerbWrite, "sys/audit-hash/file", body)
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
	_, err := a.do(a.root, engine.VerbWrite, "sys/audit-hash/syslog", `{"input":"x"}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
	weak, _ := a.token(`{"policies":["default"]}`)
	for path, verb := range map[string]engine.Verb{"sys/audit": engine.VerbRead, "sys/audit/anchors": engine.VerbRead, "sys/audit-hash/file": engine.VerbWrite} {
		_, err := a.do(weak, verb, path, "")
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
}
