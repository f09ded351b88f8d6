package core_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/cubbyhole"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// office is an unsealed core with its whole catalog on a cluster of one, whose
// audit log is a list.
type office struct {
	t        *testing.T
	ledger   *interposed
	pipeline *core.Pipeline
	log      *list
	root     core.Caller
}

// interposed lets something happen between the evaluation of a write and its order.
type interposed struct {
	core.Ledger
	mu      sync.Mutex
	before  func()
	confirm func()                 // in place of before, on the way of a read index
	unread  error                  // what a read index ends with
	refuse  func(*fsm.Batch) error // what becomes of a batch before it is ordered; nil: nothing
}

// refuseKind refuses batches with an operation of a kind.
func refuseKind(kind fsm.OperationKind, err error) func(*fsm.Batch) error {
	return func(b *fsm.Batch) error {
		if slices.ContainsFunc(b.Operations, func(op fsm.Operation) bool { return op.Kind == kind }) {
			return err
		}
		return nil
	}
}

func (l *interposed) ReadIndex(ctx context.Context) (uint64, error) {
	l.mu.Lock()
	confirm := l.confirm
	l.confirm = nil
	l.mu.Unlock()
	if confirm != nil {
		confirm()
	}
	if l.unread != nil {
		return 0, l.unread
	}
	return l.Ledger.ReadIndex(ctx)
}

func (l *interposed) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	l.mu.Lock()
	before := l.before
	l.before = nil
	l.mu.Unlock()
	if before != nil {
		before()
	}
	if l.refuse != nil {
		if err := l.refuse(b); err != nil {
			return fsm.Result{}, err
		}
	}
	return l.Ledger.Propose(ctx, b)
}

// list keeps entries, and fails when it is told to.
type list struct {
	mu      sync.Mutex
	entries []audit.Entry
	fail    audit.Type
	with    error // nil: that the disk is full
}

func (l *list) Append(ctx context.Context, e *audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Type == l.fail {
		return cmp.Or(l.with, errors.New("the disk is full"))
	}
	l.entries = append(l.entries, *e)
	return nil
}

func (l *list) Close() error { return nil }

func (l *list) last() audit.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[len(l.entries)-1]
}

func newOffice(t *testing.T) *office { return newOfficeWith(t, nil) }

// newOfficeWith has more engines in its catalog.
func newOfficeWith(t *testing.T, more map[string]engine.Backend) *office {
	t.Helper()
	o := &office{t: t, ledger: &interposed{Ledger: core.NewSingle(t)}, log: &list{}}
	catalog := core.Catalog{Engines: map[string]engine.Backend{"system": sys.Backend{}, "kv": kv.Backend{}, "cubbyhole": cubbyhole.Backend{}},
		Auth: map[string]engine.Backend{"token": sys.Tokens{}, "door": door{}}}
	maps.Copy(catalog.Engines, more)
	gate := core.NewGate(rand.Reader, catalog, func(*seal.Barrier) (core.Recorder, error) { return o.log, nil })
	f, err := core.Found(rand.Reader, time.Unix(1_767_225_600, 0), 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := o.ledger.Propose(t.Context(), f.Batch); err != nil || r.Code != fsm.Applied {
		t.Fatalf("founding: %+v %v", r, err)
	}
	o.pipeline = core.NewPipeline(core.Options{Gate: gate, Ledger: o.ledger, Clock: core.NewHandClock(), Rand: rand.Reader, Writable: func() error { return nil }})
	o.root = core.Caller{Token: f.RootToken}
	if _, err := gate.Submit(f.Config, f.Shares[0]); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) do(c core.Caller, verb engine.Verb, path, body string) (*core.Reply, error) {
	o.t.Helper()
	q := core.Request{Verb: verb, Path: path, Raw: []byte(body)}
	if body != "" {
		if err := json.Unmarshal([]byte(body), &q.Input.Body); err != nil {
			o.t.Fatal(err)
		}
	}
	return o.pipeline.Serve(o.t.Context(), c, q)
}

// index is how far the ledger is.
func (o *office) index() uint64 {
	o.t.Helper()
	index, err := o.ledger.ReadIndex(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	return index
}

// rows counts the secrets and records of the ledger.
func (o *office) rows() (n int) {
	o.t.Helper()
	view, err := o.ledger.View()
	if err != nil {
		o.t.Fatal(err)
	}
	for _, table := range []fsm.Table{fsm.Records, fsm.Secrets} {
		keys, err := view.Keys(table, nil)
		if err != nil {
			o.t.Fatal(err)
		}
		for keys.Next() {
			n++
		}
		if err := keys.Close(); err != nil {
			o.t.Fatal(err)
		}
	}
	if err := view.Close(); err != nil {
		o.t.Fatal(err)
	}
	return n
}

func (o *office) must(c core.Caller, verb engine.Verb, path, body string) *core.Reply {
	o.t.Helper()
	r, err := o.do(c, verb, path, body)
	if err != nil {
		o.t.Fatalf("%v %s: %v", verb, path, err)
	}
	return r
}

func (o *office) token(body string) (core.Caller, *core.Auth) {
	o.t.Helper()
	a := o.must(o.root, engine.VerbWrite, "auth/token/create", body).Auth
	return core.Caller{Token: redact.New(a.Text)}, a
}

func wants(t *testing.T, err error, reason conclavev1.Reason) {
	t.Helper()
	var e *core.Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Errorf("got %v, want %v", err, reason)
	}
}

const teamPolicy = `{"policy": "path \"secret/data/team/*\" { capabilities = [\"create\", \"update\", \"read\"] }"}`

// A decision is part of the write that rests on it: what takes the right away
// before the order makes the write fail, whichever input of the decision it was.
func TestRightsAreGuarded(t *testing.T) {
	for name, take := range map[string]func(o *office, a *core.Auth){
		"the token is revoked": func(o *office, a *core.Auth) {
			o.must(o.root, engine.VerbWrite, "auth/token/revoke-accessor", `{"accessor": "`+a.Token.Accessor+`"}`)
		},
		"the policy is deleted": func(o *office, _ *core.Auth) { o.must(o.root, engine.VerbDelete, "sys/policies/acl/team", "") },
		"the policy denies": func(o *office, _ *core.Auth) {
			o.must(o.root, engine.VerbWrite, "sys/policies/acl/team", `{"policy": "path \"secret/data/team/*\" { capabilities = [\"deny\"] }"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.must(o.root, engine.VerbWrite, "sys/policies/acl/team", teamPolicy)
			member, auth := o.token(`{"policies": ["team"]}`)
			o.must(member, engine.VerbWrite, "secret/data/team/x", `{"data": {"k": "1"}}`)
			o.ledger.before = func() { take(o, auth) }
			_, err := o.do(member, engine.VerbWrite, "secret/data/team/x", `{"data": {"k": "2"}}`)
			var e *core.Error
			if !errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_DENIED && e.Reason != conclavev1.Reason_REASON_UNAUTHENTICATED {
				t.Errorf("the write ends with %v", err)
			}
			r := o.must(o.root, engine.VerbRead, "secret/metadata/team/x", "")
			if raw, _ := r.Data.(json.RawMessage); !json.Valid(raw) || !contains(raw, `"current_version":1`) {
				t.Errorf("a version was written without the right to it: %s", raw)
			}
		})
	}
}

func contains(raw json.RawMessage, part string) bool {
	for i := range len(raw) - len(part) + 1 {
		if string(raw[i:i+len(part)]) == part {
			return true
		}
	}
	return false
}

// Without its record a request has no effect, and its answer does not leave.
func TestAuditComesFirst(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "secret/data/x", `{"data": {"k": "1"}}`)
	o.log.fail = audit.TypeRequest
	_, err := o.do(o.root, engine.VerbWrite, "secret/data/x", `{"data": {"k": "2"}}`)
	wants(t, err, conclavev1.Reason_REASON_INTERNAL)
	o.log.fail = ""
	if r := o.must(o.root, engine.VerbRead, "secret/metadata/x", ""); !contains(r.Data.(json.RawMessage), `"current_version":1`) {
		t.Error("a write without a record took effect")
	}
	o.log.fail = audit.TypeAccess
	if r, err := o.do(o.root, engine.VerbRead, "secret/data/x", ""); err == nil || r != nil {
		t.Errorf("an answer without a record left: %v", r)
	}
	o.log.fail = audit.TypeResponse
	_, err = o.do(o.root, engine.VerbWrite, "secret/data/x", `{"data": {"k": "3"}}`)
	var e *core.Error
	if !errors.As(err, &e) || e.Outcome != conclavev1.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("a write whose answer has no record ends with %v", err)
	}
}

// A node that is sealed while a request is under way says so, and not that its log
// failed; of what may be done already it says that this is not known.
func TestSealedUnderRequests(t *testing.T) {
	o := newOffice(t)
	o.log.with = audit.ErrClosed
	write := func() error {
		_, err := o.do(o.root, engine.VerbWrite, "secret/data/x", `{"data": {"k": "1"}}`)
		return err
	}
	o.log.fail = audit.TypeRequest
	wants(t, write(), conclavev1.Reason_REASON_SEALED)
	o.log.fail = audit.TypeAccess
	_, err := o.do(o.root, engine.VerbRead, "secret/config", "")
	wants(t, err, conclavev1.Reason_REASON_SEALED)
	o.log.fail = audit.TypeResponse
	err = write()
	wants(t, err, conclavev1.Reason_REASON_UNKNOWN_OUTCOME)
	var e *core.Error
	if !errors.As(err, &e) || e.Outcome != conclavev1.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("a write that was carried out ends with %v", err)
	}
}

// A node that has stopped is no error inside: a read can be asked of another, and so
// can a write whose refusal nobody is left to confirm.
func TestStoppedNodesReadNothing(t *testing.T) {
	o := newOffice(t)
	o.ledger.unread = fmt.Errorf("confirming a read: %w", fsm.ErrStopped)
	_, err := o.do(o.root, engine.VerbRead, "secret/config", "")
	wants(t, err, conclavev1.Reason_REASON_NO_LEADER)
	_, err = o.do(o.root, engine.VerbWrite, "secret/data/x", `{"options": {"cas": 7}, "data": {"k": "1"}}`)
	wants(t, err, conclavev1.Reason_REASON_NO_LEADER)
}

// A caller who leaves does not take the record of its answer along.
func TestRecordsOutliveCallers(t *testing.T) {
	o := newOffice(t)
	ctx, leave := context.WithCancel(t.Context())
	o.ledger.before = leave
	q := core.Request{Verb: engine.VerbWrite, Path: "secret/data/x", Input: engine.Input{Body: engine.Object{"data": json.RawMessage(`{"k":"v"}`)}}}
	if _, err := o.pipeline.Serve(ctx, o.root, q); err != nil {
		t.Fatal(err) // the ledger of one does not look at the context
	}
	if e := o.log.last(); e.Type != audit.TypeResponse || e.Outcome != audit.OutcomeOK {
		t.Errorf("recorded %+v", e)
	}
}

// A refusal says which rule decided in the log, and nothing of it to the caller.
func TestRefusalsAreExplainedToTheLogAlone(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/team", `{"policy": "path \"secret/data/team/*\" { capabilities = [\"read\"]\n required_reason = true }"}`)
	member, _ := o.token(`{"policies": ["team"]}`)
	_, err := o.do(member, engine.VerbRead, "secret/data/other", "")
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	if e := o.log.last(); !e.Rule.None || e.Outcome != audit.OutcomeDenied || e.Path != "secret/data/other" {
		t.Errorf("recorded %+v", e)
	}
	_, err = o.do(member, engine.VerbWrite, "secret/data/team/x", `{"data": {}}`)
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	if e := o.log.last(); e.Rule.Policy != "team" || e.Rule.Pattern != "secret/data/team/*" || e.Operation != "create" {
		t.Errorf("recorded %+v", e)
	}
	_, err = o.do(member, engine.VerbRead, "secret/data/team/x", "")
	wants(t, err, conclavev1.Reason_REASON_DENIED) // it asks for a reason
	member.Reason = "TICKET-1"
	_, err = o.do(member, engine.VerbRead, "secret/data/team/x", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	if e := o.log.last(); e.Reason != "TICKET-1" || e.Auth.DisplayName != "token" || e.Type != audit.TypeAccess {
		t.Errorf("recorded %+v", e)
	}
}

// When a token ends, so do its children and what is in its cubbyhole.
func TestTokenTree(t *testing.T) {
	o := newOffice(t)
	parent, _ := o.token(`{"policies": ["root"]}`)
	made := o.must(parent, engine.VerbWrite, "auth/token/create", `{"policies": ["default"]}`).Auth
	child := core.Caller{Token: redact.New(made.Text)}
	orphan := core.Caller{Token: redact.New(o.must(parent, engine.VerbWrite, "auth/token/create-orphan", `{"policies": ["default"]}`).Auth.Text)}
	o.must(child, engine.VerbWrite, "cubbyhole/a", `{"k": "v"}`)
	o.must(parent, engine.VerbWrite, "auth/token/revoke-self", "")
	for name, c := range map[string]core.Caller{"parent": parent, "child": child} {
		_, err := o.do(c, engine.VerbRead, "auth/token/lookup-self", "")
		wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
		_ = name
	}
	o.must(orphan, engine.VerbRead, "auth/token/lookup-self", "")
}

// No caller makes more of itself than it is.
func TestNobodyRises(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/maker", `{"policy": "path \"auth/token/create\" { capabilities = [\"update\"] }"}`)
	maker, _ := o.token(`{"policies": ["maker"]}`)
	for _, body := range []string{`{"policies": ["root"]}`, `{"policies": ["other"]}`, `{"no_parent": true}`, `{"id": "chosen"}`, `{"period": "1h"}`, `{"num_uses": -1}`} {
		if r, err := o.do(maker, engine.VerbWrite, "auth/token/create", body); err == nil {
			t.Errorf("%s made a token with %v", body, r.Auth.Token.Policies)
		}
	}
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/orphans", `{"policy": "path \"auth/token/create-orphan\" { capabilities = [\"update\"] }"}`)
	orphans, _ := o.token(`{"policies": ["orphans"]}`)
	for _, body := range []string{`{"policies": ["root"]}`, `{"policies": ["other"]}`, `{"id": "chosen"}`, `{"period": "1h"}`} {
		if r, err := o.do(orphans, engine.VerbWrite, "auth/token/create-orphan", body); err == nil {
			t.Errorf("%s made an orphan with %v", body, r.Auth.Token.Policies)
		}
	}
	if r := o.must(orphans, engine.VerbWrite, "auth/token/create-orphan", `{}`); !r.Auth.Token.Orphan {
		t.Error("create-orphan made a child")
	}
	for _, path := range []string{"auth/token/create-orphan", "sys/policies/acl/x", "sys/mounts/x", "auth/token/revoke", "sys/seal"} {
		_, err := o.do(maker, engine.VerbWrite, path, `{}`)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	for _, c := range []core.Caller{{}, {Token: redact.New([]byte("hvs.nosuch"))}} {
		for _, path := range []string{"secret/data/x", "nosuch/x", "sys/nosuch"} {
			_, err := o.do(c, engine.VerbRead, path, "")
			wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
		}
	}
}

// Nobody gets around a rule by another spelling of the same name.
func TestNamesHaveOneRule(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "auth/token/roles/deploy", `{"allowed_policies": "web"}`)
	o.must(o.root, engine.VerbWrite, "auth/token/roles/other", `{"allowed_policies": "web"}`)
	o.policy("wide", `path "auth/token/create/*" { capabilities = ["update"] }
path "auth/token/create/deploy" { capabilities = ["deny"] }
path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
path "sys/policies/acl/wide" { capabilities = ["read"] }
path "sys/leases/revoke-prefix/*" { capabilities = ["deny"] }`)
	o.policy("exact", `path "auth/token/create/Deploy" { capabilities = ["update"] }`)
	wide, _ := o.token(`{"policies": ["wide"]}`)
	for _, path := range []string{"auth/token/create/deploy", "auth/token/create/DEPLOY", "auth/token/create/dePloy", "sys/policy/wide",
		"sys/policies/acl/WIDE", "sys/policies/acl/Wide", "sys/policy/WIDE", "sys/policies/acl/wIde", "sys/revoke-prefix/a", "sys/leases/revoke-prefix/a"} {
		_, err := o.do(wide, engine.VerbWrite, path, `{"policy": "path \"*\" { capabilities = [\"sudo\", \"read\"] }"}`)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	o.must(wide, engine.VerbWrite, "auth/token/create/OTHER", `{}`)
	exact, _ := o.token(`{"policies": ["exact"]}`)
	o.must(exact, engine.VerbWrite, "auth/token/create/Deploy", `{}`) // no rule speaks of its own name
	for _, name := range []string{" wide", "wide ", "a/b", "", "a\x00"} {
		if _, err := o.do(o.root, engine.VerbWrite, "sys/policies/acl/"+name, `{"policy": "path \"a\" { capabilities = [\"read\"] }"}`); err == nil {
			t.Errorf("a policy was written under the name %q", name)
		}
	}
}

// A reason that the log would not show as it was sent is refused.
func TestReasonsAreOneLine(t *testing.T) {
	o := newOffice(t)
	c := o.root
	for _, c.Reason = range []string{"TICKET-123 (restore)", "größer", strings.Repeat("x", 512)} {
		o.must(c, engine.VerbRead, "sys/mounts", "")
		if e := o.log.last(); e.Reason != c.Reason {
			t.Errorf("recorded %q for %q", e.Reason, c.Reason)
		}
	}
	for _, c.Reason = range []string{"two\nlines", "\x00", "\xff", "bell\u0085", strings.Repeat("x", 513)} {
		_, err := o.do(c, engine.VerbRead, "sys/mounts", "")
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
}

// Who may not write keeps nobody waiting who may: the quorum that confirms the
// refusal is asked outside of the lane.
func TestRefusalsHoldNobodyUp(t *testing.T) {
	o := newOffice(t)
	asked, answer, done := make(chan struct{}), make(chan struct{}), make(chan error)
	o.ledger.confirm = func() {
		close(asked)
		<-answer
	}
	go func() {
		_, err := o.pipeline.Serve(t.Context(), core.Caller{}, core.Request{Verb: engine.VerbWrite, Path: "secret/data/hot"})
		done <- err
	}()
	<-asked
	o.must(o.root, engine.VerbWrite, "secret/data/hot", `{"data": {"k": "v"}}`)
	close(answer)
	wants(t, <-done, conclavev1.Reason_REASON_UNAUTHENTICATED)
}

// A request that fails costs a use as one that succeeds does.
func TestFailuresCostUses(t *testing.T) {
	o := newOffice(t)
	o.policy("some", `path "secret/*" { capabilities = ["read", "create"] }`)
	limited, made := o.token(`{"policies": ["some"], "num_uses": 4}`)
	_, err := o.do(limited, engine.VerbRead, "secret/data/missing", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	_, err = o.do(limited, engine.VerbRead, "sys/mounts", "")
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	_, err = o.do(limited, engine.VerbWrite, "secret/data/x", `{}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
	if got := data(t, o.must(o.root, engine.VerbWrite, "auth/token/lookup-accessor", `{"accessor": "`+made.Token.Accessor+`"}`)); got["num_uses"] != float64(1) {
		t.Errorf("after three failures of four uses: %v", got["num_uses"])
	}
	_, err = o.do(limited, engine.VerbRead, "secret/data/missing", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	_, err = o.do(limited, engine.VerbRead, "secret/data/missing", "")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
}

// Typed calls meet the rules that the same acts meet by path.
func TestTypedCallsMeetTheSameRules(t *testing.T) {
	o := newOffice(t)
	o.policy("rules", `path "sys/leases/*" { capabilities = ["update", "list", "sudo"] }
path "sys/leases/revoke-prefix/*" { capabilities = ["deny"] }
path "secret/data/*" { capabilities = ["create", "update", "delete"] denied_parameters = { "data" = [] } }`)
	o.policy("nosudo", `path "sys/leases/*" { capabilities = ["update", "list"] }`)
	member, _ := o.token(`{"policies": ["rules"]}`)
	plain, _ := o.token(`{"policies": ["nosudo"]}`)
	leases := core.NewLeases(o.pipeline)
	for _, c := range []core.Caller{member, plain} {
		_, err := leases.Revoke(t.Context(), c, &conclavev1.RevokeLeaseRequest{Id: "a", Prefix: true})
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	_, err := leases.List(t.Context(), plain, &conclavev1.ListLeasesRequest{})
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	secrets := &kv.Engine{}
	_, err = core.Call(t.Context(), o.pipeline, member, "secret/", secrets.Put(), &conclavev1.PutSecretRequest{Path: "x",
		Data: map[string]*conclavev1.Field{"k": {Kind: &conclavev1.Field_Text{Text: "v"}}}})
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	_, err = core.Call(t.Context(), o.pipeline, member, "secret/", secrets.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: []uint64{1}})
	wants(t, err, conclavev1.Reason_REASON_DENIED) // that is secret/delete/x
	_, err = core.Call(t.Context(), o.pipeline, member, "secret/", secrets.Delete(), &conclavev1.DeleteSecretRequest{Path: "x"})
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	_, err = o.do(member, engine.VerbWrite, "sys/leases/revoke/mine/x", `{"lease_id": "other/y"}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
}

// What was written is answered as it was written, wrapped or not.
func TestValuesStayAsWritten(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "secret/data/x", `{"data": {"k": "<a href='x'>&", "n": 12345678901234567890.10}}`)
	wrapped, err := o.pipeline.Serve(t.Context(), o.root, core.Request{Verb: engine.VerbRead, Path: "secret/data/x", WrapTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*core.Reply{
		"read":   o.must(o.root, engine.VerbRead, "secret/data/x", ""),
		"unwrap": o.must(core.Caller{Token: wrapped.Wrap.Token}, engine.VerbWrite, "sys/wrapping/unwrap", ""),
	} {
		if raw := r.Data.(json.RawMessage); !contains(raw, `"k":"<a href='x'>&"`) || !contains(raw, `12345678901234567890.10`) {
			t.Errorf("%s: %s", name, raw)
		}
	}
}
