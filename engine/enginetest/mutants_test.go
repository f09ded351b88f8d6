package enginetest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// altered is a harness whose transactions are altered ones of a Store.
type altered struct {
	*Store
	alter func(*Tx) Transaction
}

func (a altered) Begin(mount string) Transaction { return a.alter(a.Store.Begin(mount)) }

func alter(f func(*Tx) Transaction) func(*Store) Harness {
	return func(s *Store) Harness { return altered{s, f} }
}

// txMutants break one promise of engine.Tx each.
var txMutants = map[string]func(*Store) Harness{
	"sees what it staged":       alter(func(t *Tx) Transaction { return &seesStaged{Tx: t} }),
	"empty record is absent":    alter(func(t *Tx) Transaction { return emptyIsAbsent{t} }),
	"records unguarded":         alter(func(t *Tx) Transaction { return unguarded{t, "Record"} }),
	"heads unguarded":           alter(func(t *Tx) Transaction { return unguarded{t, "Head"} }),
	"versions unguarded":        alter(func(t *Tx) Transaction { return unguarded{t, "Version"} }),
	"appends unguarded":         alter(func(t *Tx) Transaction { return unguarded{t, "AppendVersion"} }),
	"writes guarded":            alter(func(t *Tx) Transaction { return eager{t} }),
	"no expiry":                 alter(func(t *Tx) Transaction { return noExpiry{t} }),
	"destroyed is deleted":      alter(func(t *Tx) Transaction { return softDestroy{t} }),
	"deleted value is readable": alter(func(t *Tx) Transaction { return readsDeleted{t} }),
	"after is included":         alter(func(t *Tx) Transaction { return children{t, before} }),
	"limit is ignored":          alter(func(t *Tx) Transaction { return children{t, func(a string, n int) (string, int) { return a, 1000 }} }),
	"keeps the slice":           alter(func(t *Tx) Transaction { return &keepsSlice{Tx: t} }),
	"time moves":                alter(func(t *Tx) Transaction { return timeMoves{t} }),
	"limits are forgotten":      alter(func(t *Tx) Transaction { return noLimits{t} }),
	"refusal is a success":      alter(func(t *Tx) Transaction { return optimist{t, ErrRefused} }),
	"conflict is a success":     alter(func(t *Tx) Transaction { return optimist{t, ErrConflict} }),
	"discard commits":           alter(func(t *Tx) Transaction { return commits{t} }),
	"nothing expires":           alter(func(t *Tx) Transaction { return lasting{t} }),
	"expires too early":         alter(func(t *Tx) Transaction { return hasty{t} }),
	"records show secrets":      alter(func(t *Tx) Transaction { return mixed{t} }),
	"one hash for all mounts":   alter(func(t *Tx) Transaction { return oneHash{t} }),
	"nobody owns":               alter(func(t *Tx) Transaction { return ownerless{t} }),
	"tokens leave things":       func(s *Store) Harness { return heirs{storeHarness{s}} },
	"tokens take all":           func(s *Store) Harness { return greedy{storeHarness{s}} },
	"one mount":                 func(s *Store) Harness { return oneMount{s} },
	"time stands still":         func(s *Store) Harness { return stopped{s.Harness()} },
}

type seesStaged struct {
	*Tx
	record []byte
}

func (m *seesStaged) PutRecord(p engine.Path, v []byte) error {
	m.record = v
	return m.Tx.PutRecord(p, v)
}

func (m *seesStaged) Record(p engine.Path) ([]byte, error) {
	if m.record != nil {
		return m.record, nil
	}
	return m.Tx.Record(p)
}

type emptyIsAbsent struct{ *Tx }

func (m emptyIsAbsent) Record(p engine.Path) ([]byte, error) {
	v, err := m.Tx.Record(p)
	return append([]byte(nil), v...), err
}

// unguarded forgets the guards of one kind of read.
type unguarded struct {
	*Tx
	call string
}

func (m unguarded) forget(call string) func() {
	before := len(m.guards)
	return func() {
		if call == m.call {
			m.guards = m.guards[:before]
		}
	}
}

func (m unguarded) Record(p engine.Path) ([]byte, error) {
	defer m.forget("Record")()
	return m.Tx.Record(p)
}

func (m unguarded) Head(p engine.Path) (*engine.Head, error) {
	defer m.forget("Head")()
	return m.Tx.Head(p)
}

func (m unguarded) Version(p engine.Path, n uint64) (*engine.Version, error) {
	defer m.forget("Version")()
	return m.Tx.Version(p, n)
}

func (m unguarded) AppendVersion(p engine.Path, v []byte, ttl time.Duration) (uint64, error) {
	defer m.forget("AppendVersion")()
	return m.Tx.AppendVersion(p, v, ttl)
}

type eager struct{ *Tx }

func (m eager) PutRecord(p engine.Path, v []byte) error {
	_, err := m.Record(p)
	return errors.Join(err, m.Tx.PutRecord(p, v))
}

type noExpiry struct{ *Tx }

func (m noExpiry) AppendVersion(p engine.Path, v []byte, ttl time.Duration) (uint64, error) {
	return m.Tx.AppendVersion(p, v, min(ttl, 0))
}

type softDestroy struct{ *Tx }

func (m softDestroy) ChangeVersions(p engine.Path, c engine.Change, n []uint64) error {
	if c == engine.Destroy {
		c = engine.Delete
	}
	return m.Tx.ChangeVersions(p, c, n)
}

type readsDeleted struct{ *Tx }

func (m readsDeleted) Version(p engine.Path, n uint64) (*engine.Version, error) {
	v, err := m.Tx.Version(p, n)
	if v != nil && v.Deleted && !v.Destroyed {
		v.Value = m.view.secrets[m.at(p)].versions[n].Value
	}
	return v, err
}

// before moves after to just before it.
func before(after string, limit int) (string, int) {
	if after == "" {
		return after, limit
	}
	last := len(after) - 1
	return after[:last] + string(after[last]-1) + "\xff", limit
}

type children struct {
	*Tx
	ask func(after string, limit int) (string, int)
}

func (m children) Children(dir engine.Path, after string, limit int) ([]string, bool, error) {
	after, limit = m.ask(after, limit)
	return m.Tx.Children(dir, after, limit)
}

type keepsSlice struct {
	*Tx
	later []func() error
}

func (m *keepsSlice) PutRecord(p engine.Path, v []byte) error {
	m.later = append(m.later, func() error { return m.Tx.PutRecord(p, v) })
	return nil
}

func (m *keepsSlice) Commit() error {
	for _, do := range m.later {
		if err := do(); err != nil {
			return err
		}
	}
	return m.Tx.Commit()
}

type timeMoves struct{ *Tx }

func (m timeMoves) Now() time.Time { return m.store.moment().time }

type noLimits struct{ *Tx }

func (m noLimits) SetLimits(p engine.Path, _ uint64) error { return m.Tx.SetLimits(p, 0) }

type optimist struct {
	*Tx
	hidden error
}

func (m optimist) Commit() error {
	if err := m.Tx.Commit(); !errors.Is(err, m.hidden) {
		return err
	}
	return nil
}

type commits struct{ *Tx }

func (m commits) Discard() { _ = m.Commit() } // the mutation is that it takes place

type lasting struct{ *Tx }

func (m lasting) PutExpiring(p engine.Path, v []byte, ttl time.Duration) error {
	if ttl <= 0 || ttl > maxTTL {
		return m.Tx.PutExpiring(p, v, ttl)
	}
	return m.PutRecord(p, v)
}

type hasty struct{ *Tx }

func (m hasty) PutExpiring(p engine.Path, v []byte, ttl time.Duration) error {
	if ttl > maxTTL {
		return m.Tx.PutExpiring(p, v, ttl)
	}
	return m.Tx.PutExpiring(p, v, ttl-1)
}

type mixed struct{ *Tx }

func (m mixed) Records(dir engine.Path, after string, limit int) ([]string, bool, error) {
	if names, more, err := m.Tx.Records(dir, after, limit); len(names) > 0 || err != nil {
		return names, more, err
	}
	return m.Children(dir, after, limit)
}

type oneHash struct{ *Tx }

func (m oneHash) Hash(value string) (string, error) {
	return (&Tx{store: m.store, view: m.view}).Hash(value)
}

type ownerless struct{ *Tx }

func (m ownerless) PutOwned(p engine.Path, v []byte) error { return m.PutRecord(p, v) }

type heirs struct{ storeHarness }

func (heirs) EndToken(string) {}

type greedy struct{ storeHarness }

func (h greedy) EndToken(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.copy()
	clear(h.now.records)
}

type oneMount struct{ *Store }

func (m oneMount) Begin(string) Transaction { return m.Store.Begin(home) }

type stopped struct{ Harness }

func (stopped) Advance(time.Duration) {}

// methodMutants break one promise of engine.Method each.
var methodMutants = map[string]func(*testing.T){
	"unknown name":      mutateRead(func(m *readMethod) { m.Name = "/conclave.v1.Secrets/Unknown" }),
	"not a full name":   mutateRead(func(m *readMethod) { m.Name = "conclave.v1.Secrets.GetMetadata" }),
	"another's name":    mutateRead(func(m *readMethod) { m.Name = conclavev1.Secrets_Get_FullMethodName }),
	"own capability":    mutateRead(func(m *readMethod) { m.Capability = "sudo" }),
	"no finish":         mutateRead(func(m *readMethod) { m.Finish = nil }),
	"refuses all":       mutateRead(func(m *readMethod) { m.Handle = refuseAll }),
	"reads and writes":  mutateRead(func(m *readMethod) { m.Handle = stagingRead(m.Handle) }),
	"is never the same": mutateRead(func(m *readMethod) { m.Handle = countingRead(m.Handle) }),
	"remembers":         mutateRead(func(m *readMethod) { m.Handle = rememberingRead(m.Handle) }),
	"panics on a path": mutateRead(func(m *readMethod) {
		m.Path = func(r *conclavev1.GetMetadataRequest) string { return r.Path[:1] }
	}),
	"panics on a request": mutateRead(func(m *readMethod) { m.Handle = panickyRead(m.Handle) }),
	"tells the request":   mutateRead(func(m *readMethod) { m.Handle = tellingRead(m.Handle) }),
	"alters the request":  mutateRead(func(m *readMethod) { m.Handle = alteringRead(m.Handle) }),
	"finishes by adding": mutateRead(func(m *readMethod) {
		m.Finish = func(r *conclavev1.GetMetadataResponse, c engine.Commit) { r.Index += c.Index + 1 }
	}),
	"wraps errors":    mutateWrite(func(m *writeMethod) { m.Handle = wrappingWrite(m.Handle) }),
	"swallows errors": mutateWrite(func(m *writeMethod) { m.Handle = swallowingWrite }),
	"goes on after errors": mutateWrite(func(m *writeMethod) {
		m.Handle = func(tx engine.Tx, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
			_, err := tx.Head(engine.Path{"p"})
			_, err2 := tx.Record(engine.Path{"p"})
			if err == nil {
				err = err2
			}
			if err != nil {
				return nil, err
			}
			return &conclavev1.PutMetadataResponse{}, tx.PutRecord(engine.Path{"p"}, nil)
		}
	}),
	"never writes": mutateWrite(func(m *writeMethod) {
		m.Handle = func(tx engine.Tx, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
			_, err := tx.Head(engine.Path{"p"})
			return &conclavev1.PutMetadataResponse{}, err
		}
	}),
	"two of one name": func(t *testing.T) { TestMethods(t, Options{}, readCase(goodRead()), readCase(goodRead())) },
}

type (
	readMethod  = engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse]
	writeMethod = engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse]
	readHandle  = func(engine.Tx, *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error)
	writeHandle = func(engine.Tx, *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error)
)

func mutateRead(change func(*readMethod)) func(*testing.T) {
	return func(t *testing.T) {
		m := goodRead()
		change(&m)
		TestMethods(t, Options{}, readCase(m))
	}
}

func mutateWrite(change func(*writeMethod)) func(*testing.T) {
	return func(t *testing.T) {
		m := goodWrite()
		change(&m)
		TestMethods(t, Options{}, writeCase(m))
	}
}

func refuseAll(engine.Tx, *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
	return nil, &engine.NotFoundError{What: "anything"}
}

func stagingRead(h readHandle) readHandle {
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		if err := tx.PutRecord(engine.Path{"seen"}, nil); err != nil {
			return nil, err
		}
		return h(tx, r)
	}
}

func countingRead(h readHandle) readHandle {
	var runs atomic.Uint64
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		resp, err := h(tx, r)
		if err == nil {
			resp.Metadata.CurrentVersion = runs.Add(1)
		}
		return resp, err
	}
}

// rememberingRead answers with the time of the view before.
func rememberingRead(h readHandle) readHandle {
	var last atomic.Pointer[conclavev1.GetMetadataResponse]
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		resp, err := h(tx, r)
		if err != nil {
			return nil, err
		}
		if before := last.Swap(resp); before != nil {
			return before, nil
		}
		return resp, nil
	}
}

func panickyRead(h readHandle) readHandle {
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		if r.Path == ".." {
			panic("two dots")
		}
		return h(tx, r)
	}
}

func tellingRead(h readHandle) readHandle {
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		if strings.Contains(r.Path, "\n") {
			return nil, fmt.Errorf("no line feeds in %q", r.Path)
		}
		return h(tx, r)
	}
}

func alteringRead(h readHandle) readHandle {
	return func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
		r.Path = strings.TrimSuffix(r.Path, "/")
		return h(tx, r)
	}
}

func wrappingWrite(h writeHandle) writeHandle {
	return func(tx engine.Tx, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
		resp, err := h(tx, r)
		if err != nil {
			return nil, fmt.Errorf("putting metadata: %w", err)
		}
		return resp, nil
	}
}

func swallowingWrite(tx engine.Tx, _ *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
	if _, err := tx.Head(engine.Path{"p"}); err != nil {
		return &conclavev1.PutMetadataResponse{}, nil // nil of all things: that is the mutation
	}
	return &conclavev1.PutMetadataResponse{}, tx.PutRecord(engine.Path{"p"}, nil)
}
