package core

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// single orders batches for a machine of its own: a cluster of one without
// Raft. hold, when set, is called before each proposal is ordered.
type single struct {
	t       testing.TB
	machine *fsm.Machine

	mu      sync.Mutex
	index   uint64
	now     fsm.LogTime
	next    uint64
	session fsm.SessionID
	hold    func(*fsm.Batch) error
	stale   *fsm.View // View returns this one once
}

func newSingle(t testing.TB) *single {
	store, err := state.Open("state", vfs.NewMem(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	s := &single{t: t, machine: m, now: fsm.LogTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()), session: fsm.SessionID{1}}
	s.apply(&fsm.Batch{Session: s.session, Operations: []fsm.Operation{{Kind: fsm.OpOpenSession}}})
	return s
}

func (s *single) apply(b *fsm.Batch) fsm.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	entry := fsm.EncodeEntry(&fsm.Entry{Time: s.now, Batches: [][]byte{fsm.EncodeBatch(b)}})
	results, err := s.machine.Apply([]fsm.LogEntry{{Index: s.index, Term: 1, Data: entry}})
	if err != nil {
		s.t.Error(err)
		return fsm.Result{}
	}
	return results[0][0]
}

func (s *single) Propose(_ context.Context, b *fsm.Batch) (fsm.Result, error) {
	s.mu.Lock()
	hold := s.hold
	s.next++
	c := *b
	c.Session, c.Sequence = s.session, s.next
	s.mu.Unlock()
	if hold != nil {
		if err := hold(b); err != nil {
			return fsm.Result{}, err
		}
	}
	return s.apply(&c), nil
}

func (s *single) ReadIndex(context.Context) (uint64, error) {
	index, _ := s.machine.Applied()
	return index, nil
}

func (s *single) WaitApplied(context.Context, uint64) error { return nil }

func (s *single) View() (*fsm.View, error) {
	s.mu.Lock()
	stale := s.stale
	s.stale = nil
	s.mu.Unlock()
	if stale != nil {
		return stale, nil
	}
	return s.machine.View()
}

// advance moves log time and ends what has expired.
func (s *single) advance(d time.Duration) {
	s.mu.Lock()
	s.now = s.now.Add(d)
	s.next++
	next := s.next
	s.mu.Unlock()
	s.apply(&fsm.Batch{Session: s.session, Sequence: next, Operations: []fsm.Operation{{Kind: fsm.OpExpireLeases, Number: 100}}})
}

// handClock moves by hand.
type handClock struct {
	mu sync.Mutex
	d  time.Duration
}

func (c *handClock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.d
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d += d
}

// house is an unsealed core on a cluster of one.
type house struct {
	t        *testing.T
	ledger   *single
	clock    *handClock
	gate     *Gate
	founding *Founding
	pipeline *Pipeline
	kv       kv.Engine
	root     Caller
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, ledger: newSingle(t), clock: &handClock{}, gate: NewGate(rand.Reader, Catalog{}, nil)}
	f, err := Found(rand.Reader, time.Unix(1_767_225_600, 0), 3, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.founding = f
	if r, err := h.ledger.Propose(t.Context(), f.Batch); err != nil || r.Code != fsm.Applied {
		t.Fatalf("founding: %+v %v", r, err)
	}
	h.pipeline = NewPipeline(Options{Gate: h.gate, Ledger: h.ledger, Clock: h.clock, Rand: rand.Reader, Writable: func() error { return nil }})
	h.root = Caller{Token: f.RootToken}
	h.unseal()
	return h
}

func (h *house) unseal() {
	h.t.Helper()
	for _, share := range h.founding.Shares[:2] {
		if _, err := h.gate.Submit(h.founding.Config, share); err != nil {
			h.t.Fatal(err)
		}
	}
	if h.gate.Sealed() {
		h.t.Fatal("still sealed after the threshold")
	}
}

func text(s string) map[string]*conclavev1.Field {
	return map[string]*conclavev1.Field{"v": {Kind: &conclavev1.Field_Text{Text: s}}}
}

func (h *house) put(r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
	return Call(h.t.Context(), h.pipeline, h.root, "secret/", h.kv.Put(), r)
}

func (h *house) get(path string) (*conclavev1.GetSecretResponse, error) {
	return Call(h.t.Context(), h.pipeline, h.root, "secret/", h.kv.Get(), &conclavev1.GetSecretRequest{Path: path})
}

func reason(err error) conclavev1.Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return conclavev1.Reason_REASON_UNSPECIFIED
}

func want(t *testing.T, err error, r conclavev1.Reason) {
	t.Helper()
	if reason(err) != r {
		t.Errorf("got %v (%v), want %v", reason(err), err, r)
	}
}

// A secret goes in and comes out, and its versions count up.
func TestPutGet(t *testing.T) {
	h := newHouse(t)
	for i := range 3 {
		r, err := h.put(&conclavev1.PutSecretRequest{Path: "a/b", Data: text(fmt.Sprint(i))})
		if err != nil || r.Version.Version != uint64(i+1) {
			t.Fatalf("put %d: %v %v", i, r, err)
		}
	}
	got, err := h.get("a/b")
	if err != nil || got.Secret.Data["v"].GetText() != "2" || got.Secret.Version.Version != 3 || got.Index == 0 {
		t.Errorf("got %v %v", got, err)
	}
	_, err = h.get("a")
	want(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// Check-and-set lets exactly one of many writers win, and the refused learn the
// version that is current.
func TestCheckAndSet(t *testing.T) {
	h := newHouse(t)
	zero := uint64(0)
	var wins sync.Map
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			_, err := h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Cas: &zero})
			if err == nil {
				wins.Store(i, true)
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_CAS_MISMATCH || e.CurrentVersion != 1 {
				t.Errorf("loser got %v", err)
			}
		})
	}
	group.Wait()
	n := 0
	wins.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d writers won, want 1", n)
	}
}

// The same request under the same key is done once and answered alike; the key
// with another request is refused; and the receipt ends with its lease.
func TestIdempotency(t *testing.T) {
	h := newHouse(t)
	r := &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Write: &conclavev1.WriteOptions{IdempotencyKey: "k1"}}
	first, err := h.put(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.put(r)
	if err != nil || again.Version.Version != first.Version.Version || again.Index != first.Index ||
		!again.Version.CreatedAt.AsTime().Equal(first.Version.CreatedAt.AsTime()) {
		t.Errorf("second answer %v %v differs from %v", again, err, first)
	}
	other := &conclavev1.PutSecretRequest{Path: "x", Data: text("w"), Write: r.Write}
	_, err = h.put(other)
	want(t, err, conclavev1.Reason_REASON_IDEMPOTENCY_MISMATCH)

	// Concurrently, too.
	r = &conclavev1.PutSecretRequest{Path: "y", Data: text("v"), Write: &conclavev1.WriteOptions{IdempotencyKey: "k2"}}
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if got, err := h.put(r); err != nil || got.Version.Version != 1 {
				t.Errorf("got %v %v, want version 1", got, err)
			}
		})
	}
	group.Wait()

	h.ledger.advance(2 * time.Hour)
	if got, err := h.put(r); err != nil || got.Version.Version != 2 {
		t.Errorf("after the receipt ended: %v %v, want a new version", got, err)
	}
}

// A write whose outcome is unknown says so, and the same key resolves it.
func TestUnknownOutcome(t *testing.T) {
	h := newHouse(t)
	r := &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Write: &conclavev1.WriteOptions{IdempotencyKey: "k"}}
	if _, err := h.put(&conclavev1.PutSecretRequest{Path: "warm", Data: text("v"), Write: &conclavev1.WriteOptions{IdempotencyKey: "w"}}); err != nil {
		t.Fatal(err)
	}
	h.ledger.hold = func(b *fsm.Batch) error {
		h.ledger.hold = nil
		c := *b
		if _, err := h.ledger.Propose(t.Context(), &c); err != nil { // it is carried out …
			return err
		}
		return fmt.Errorf("the answer was lost: %w", fsm.ErrUnknown) // … and nobody hears of it
	}
	_, err := h.put(r)
	var e *Error
	if !errors.As(err, &e) || e.Outcome != conclavev1.Outcome_OUTCOME_UNKNOWN {
		t.Fatalf("got %v, want an unknown outcome", err)
	}
	got, err := h.put(r)
	if err != nil || got.Version.Version != 1 {
		t.Errorf("retry: %v %v, want version 1", got, err)
	}
}

// A refusal that rests on an old view is not believed: the write runs again.
func TestStaleRefusalIsChecked(t *testing.T) {
	h := newHouse(t)
	old, err := h.ledger.machine.View()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text("v")}); err != nil {
		t.Fatal(err)
	}
	h.ledger.stale = old // the node lags: to it the secret does not exist
	one := uint64(1)
	r, err := h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text("w"), Cas: &one})
	if err != nil || r.Version.Version != 2 {
		t.Errorf("got %v %v, want version 2", r, err)
	}
}

// A token that is revoked while a write is under way makes the write fail.
func TestRevokedTokenLosesTheRace(t *testing.T) {
	h := newHouse(t)
	b, err := h.gate.Barrier()
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokenKey(b, h.root.Token)
	if err != nil {
		t.Fatal(err)
	}
	h.ledger.hold = func(*fsm.Batch) error {
		h.ledger.hold = nil
		_, err := h.ledger.Propose(t.Context(), &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpDeleteRecord, Key: key}}})
		return err
	}
	_, err = h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text("v")})
	want(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
}

// Without a token, with a wrong one, and while sealed nothing is answered.
func TestRefusals(t *testing.T) {
	h := newHouse(t)
	for _, c := range []Caller{{}, {Token: redact.New([]byte("hvs.wrong"))}, {Token: redact.New(make([]byte, 10_000))}} {
		_, err := Call(t.Context(), h.pipeline, c, "kv", h.kv.Get(), &conclavev1.GetSecretRequest{Path: "x"})
		want(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
		_, err = Call(t.Context(), h.pipeline, c, "kv", h.kv.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("v")})
		want(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	}
	for _, path := range []string{"", "/a", "a/", "a//b", "a/../b", ".", "a\x00b", "a\nb", "\xff", strings.Repeat("a", 1025)} {
		_, err := h.put(&conclavev1.PutSecretRequest{Path: path, Data: text("v")})
		want(t, err, conclavev1.Reason_REASON_INVALID)
		if err != nil && path != "" && path != "." && strings.Contains(err.Error(), path) {
			t.Errorf("the error repeats the path: %v", err)
		}
	}
	_, err := h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text(strings.Repeat("v", 1<<20))})
	want(t, err, conclavev1.Reason_REASON_TOO_LARGE)
	if err := h.gate.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = h.get("x")
	want(t, err, conclavev1.Reason_REASON_SEALED)
	h.unseal()
	_, err = h.get("x")
	want(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// Versions are deleted, brought back, destroyed, rolled back and listed.
func TestVersions(t *testing.T) {
	h := newHouse(t)
	for i := range 3 {
		if _, err := h.put(&conclavev1.PutSecretRequest{Path: "d/x", Data: text(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	call1 := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Delete(), &conclavev1.DeleteSecretRequest{Path: "d/x"})
	call1(err)
	_, err = h.get("d/x")
	want(t, err, conclavev1.Reason_REASON_VERSION_DELETED)
	_, err = Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "d/x", Versions: []uint64{3}})
	call1(err)
	_, err = Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Destroy(), &conclavev1.DestroySecretRequest{Path: "d/x", Versions: []uint64{1}})
	call1(err)
	_, err = Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "d/x", Versions: []uint64{1}})
	want(t, err, conclavev1.Reason_REASON_VERSION_DESTROYED)
	_, err = Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Delete(), &conclavev1.DeleteSecretRequest{Path: "d/x", Versions: []uint64{9}})
	want(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	rolled, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Rollback(), &conclavev1.RollbackSecretRequest{Path: "d/x", Version: 2})
	call1(err)
	if got, err := h.get("d/x"); err != nil || got.Secret.Data["v"].GetText() != "1" || rolled.Version.Version != 4 {
		t.Errorf("after rollback: %v %v", got, err)
	}
	m, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.GetMetadata(), &conclavev1.GetMetadataRequest{Path: "d/x"})
	if err != nil || len(m.Metadata.Versions) != 4 || !m.Metadata.Versions[0].Destroyed {
		t.Errorf("metadata: %v %v", m, err)
	}
	_, err = Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.DeleteMetadata(), &conclavev1.DeleteMetadataRequest{Path: "d/x"})
	call1(err)
	_, err = h.get("d/x")
	want(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// A listing shows names and directories once, sorted, page by page.
func TestList(t *testing.T) {
	h := newHouse(t)
	for _, p := range []string{"b", "a", "a/x", "a/y/z", "c/1", "c/2"} {
		if _, err := h.put(&conclavev1.PutSecretRequest{Path: p, Data: text("v")}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	after := ""
	for {
		r, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.List(), &conclavev1.ListSecretsRequest{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Names...)
		if !r.More {
			break
		}
		after = r.Names[len(r.Names)-1]
	}
	if fmt.Sprint(got) != "[a a/ b c/]" {
		t.Errorf("got %v", got)
	}
	r, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.List(), &conclavev1.ListSecretsRequest{Path: "a/"})
	if err != nil || fmt.Sprint(r.Names) != "[x y/]" {
		t.Errorf("below a: %v %v", r, err)
	}
}

// Bounded reads are served without the quorum while they are fresh enough.
func TestBoundedRead(t *testing.T) {
	h := newHouse(t)
	if _, err := h.put(&conclavev1.PutSecretRequest{Path: "x", Data: text("v")}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.get("x"); err != nil {
		t.Fatal(err)
	}
	asked := 0
	counting := &countingLedger{h.ledger, &asked}
	h.pipeline.views.ledger = counting
	read := func(age time.Duration) {
		t.Helper()
		_, err := Call(t.Context(), h.pipeline, h.root, "secret/", h.kv.Get(), &conclavev1.GetSecretRequest{Path: "x",
			Read: &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_BOUNDED, MaxAge: durationpb.New(age)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.clock.advance(time.Second)
	read(2 * time.Second)
	if asked != 0 {
		t.Error("a fresh enough read asked the quorum")
	}
	read(500 * time.Millisecond)
	if asked != 1 {
		t.Errorf("a read that is too old asked the quorum %d times, want once", asked)
	}
}

type countingLedger struct {
	*single
	asked *int
}

func (c *countingLedger) ReadIndex(ctx context.Context) (uint64, error) {
	*c.asked++
	return c.single.ReadIndex(ctx)
}

// A lease lives, is renewed within its maximum, owns others, and ends on log time.
func TestLeases(t *testing.T) {
	h := newHouse(t)
	l := NewLeases(h.pipeline)
	grant := func(r *conclavev1.GrantLeaseRequest) *conclavev1.Lease {
		t.Helper()
		got, err := l.Grant(t.Context(), h.root, r)
		if err != nil {
			t.Fatal(err)
		}
		return got.Lease
	}
	lookup := func(id string) error {
		_, err := l.Lookup(t.Context(), h.root, &conclavev1.LookupLeaseRequest{Id: id})
		return err
	}
	parent := grant(&conclavev1.GrantLeaseRequest{Prefix: "app/web", Ttl: durationpb.New(time.Minute), MaxTtl: durationpb.New(90 * time.Second), Data: text("secret")})
	child := grant(&conclavev1.GrantLeaseRequest{Prefix: "app/web", Ttl: durationpb.New(time.Hour), Owner: parent.Id})
	found, err := l.Lookup(t.Context(), h.root, &conclavev1.LookupLeaseRequest{Id: parent.Id})
	if err != nil || found.Lease.Data["v"].GetText() != "secret" || !found.Lease.ExpiresAt.AsTime().Equal(parent.ExpiresAt.AsTime()) {
		t.Errorf("lookup: %v %v, granted %v", found, err, parent)
	}
	h.ledger.advance(50 * time.Second)
	renewed, err := l.Renew(t.Context(), h.root, &conclavev1.RenewLeaseRequest{Id: parent.Id})
	if err != nil || renewed.Lease.ExpiresAt.AsTime().Sub(parent.IssuedAt.AsTime()) != 90*time.Second {
		t.Errorf("renewal is not cut at the maximum: %v %v", renewed, err)
	}
	h.ledger.advance(41 * time.Second)
	want(t, lookup(parent.Id), conclavev1.Reason_REASON_NOT_FOUND)
	want(t, lookup(child.Id), conclavev1.Reason_REASON_NOT_FOUND)

	for range 5 {
		grant(&conclavev1.GrantLeaseRequest{Prefix: "g/one", Ttl: durationpb.New(time.Minute)})
	}
	other := grant(&conclavev1.GrantLeaseRequest{Prefix: "g/two", Ttl: durationpb.New(time.Minute)})
	if _, err := l.Revoke(t.Context(), h.root, &conclavev1.RevokeLeaseRequest{Id: "g/one", Prefix: true}); err != nil {
		t.Fatal(err)
	}
	listed, err := l.List(t.Context(), h.root, &conclavev1.ListLeasesRequest{Prefix: "g"})
	if err != nil || len(listed.Leases) != 1 || listed.Leases[0].Id != other.Id {
		t.Errorf("after revoking the prefix: %v %v", listed, err)
	}
}

// A join token admits one node, once, and only in its own cluster.
func TestJoinToken(t *testing.T) {
	h := newHouse(t)
	a := NewAdmission(h.pipeline, func() time.Time { return time.Unix(1_767_225_600, 0) })
	make1 := func(h *house, a *Admission) string {
		t.Helper()
		made, err := a.CreateJoinToken(t.Context(), h.root, &conclavev1.CreateJoinTokenRequest{Ttl: durationpb.New(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return made.Token
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := func(token string) *conclavev1.JoinRequest {
		return &conclavev1.JoinRequest{Token: token, NodeId: "n1", PeerAddress: "10.0.0.1:8201",
			CsrPem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}
	}
	token := make1(h, a)
	var wins, losses int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			_, err := a.Admit(t.Context(), request(token))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins++
			} else if reason(err) == conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED {
				losses++
			}
		})
	}
	group.Wait()
	if wins != 1 || losses != 4 {
		t.Errorf("%d were admitted and %d refused, want 1 and 4", wins, losses)
	}
	late := make1(h, a)
	h.ledger.advance(2 * time.Minute)
	_, err = a.Admit(t.Context(), request(late))
	want(t, err, conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED)

	stranger := newHouse(t)
	_, err = a.Admit(t.Context(), request(make1(stranger, NewAdmission(stranger.pipeline, time.Now))))
	want(t, err, conclavev1.Reason_REASON_JOIN_TOKEN_INVALID)
	_, err = a.Admit(t.Context(), request("cvj_garbled"))
	want(t, err, conclavev1.Reason_REASON_JOIN_TOKEN_INVALID)
}
