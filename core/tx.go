package core

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

// tx is a transaction on a view: it opens what it reads, seals what is staged,
// and guards the one with the other. It implements engine.Tx for one mount.
// One goroutine; it lives as long as its view.
type tx struct {
	view    *fsm.View
	barrier *seal.Barrier
	mount   string
	writes  bool // reads of a transaction that writes nothing need no guard

	account *account // never nil where a request is carried out
	caller  Caller
	who     *identity // nil: nobody, or not known yet
	rand    io.Reader
	cache   *directory // nil where a transaction needs none

	batch   fsm.Batch
	first   []func(context.Context) error // must succeed outside before the batch is proposed
	guarded map[string]bool               // by kind and key

	// What was looked up already: methods ask for the same few names and heads
	// again and again, and a view never changes.
	names map[string]fsm.Key   // by path
	heads map[string]*fsm.Head // by key; nil: there is none
}

func newTx(view *fsm.View, k *keys, rand io.Reader, writes bool) *tx {
	return &tx{view: view, barrier: k.barrier, cache: k.directory, rand: rand, writes: writes,
		names: map[string]fsm.Key{}, heads: map[string]*fsm.Head{}}
}

// on returns t for the mount with the given id.
func (t *tx) on(mount string) *tx {
	t.mount = mount
	return t
}

func (t *tx) Now() time.Time { return t.view.Time().Time() }

// guard adds a condition once and returns its place, -1 if it was there already
// or is not needed.
func (t *tx) guard(g fsm.Guard) int {
	if !t.writes {
		return -1
	}
	name := string(rune(g.Kind)) + string(g.Key)
	if t.guarded[name] {
		return -1
	}
	if t.guarded == nil {
		t.guarded = map[string]bool{}
	}
	t.guarded[name] = true
	t.batch.Guards = append(t.batch.Guards, g)
	return len(t.batch.Guards) - 1
}

func (t *tx) stage(op fsm.Operation) { t.batch.Operations = append(t.batch.Operations, op) }

// name blinds a path of the mount.
func (t *tx) name(p engine.Path) (fsm.Key, error) {
	path := t.mount + "\x00" + p.String()
	if key, ok := t.names[path]; ok {
		return key, nil
	}
	key, err := t.barrier.BlindPrefix(spaceSecret, append([]string{t.mount}, p...))
	if err == nil {
		t.names[path] = key
	}
	return key, err
}

// row reads the record at key, sealed, and guards it; nil when there is none.
func (t *tx) row(key fsm.Key) (*fsm.Record, error) {
	r, err := t.view.Record(key)
	if err != nil {
		return nil, err
	}
	g := fsm.Guard{Kind: fsm.GuardRecord, Key: key}
	if r != nil {
		g.Revision = r.Revision
	}
	t.guard(g)
	return r, nil
}

// record reads the record at key, guards it and opens its value.
func (t *tx) record(key fsm.Key) (*fsm.Record, []byte, error) {
	r, err := t.row(key)
	if err != nil || r == nil {
		return nil, nil, err
	}
	value, err := t.openSealed(seal.TableRecord, key, 0, r.Value)
	return r, value, err
}

// message reads the record at key into m and returns the record; nil when there
// is none.
func (t *tx) message(key fsm.Key, m proto.Message) (*fsm.Record, error) {
	r, value, err := t.record(key)
	if err != nil || r == nil {
		return nil, err
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("reading a stored %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return r, nil
}

// putMessage stages m as the record at key, owned by lease unless that is nil.
func (t *tx) putMessage(key fsm.Key, m proto.Message, lease fsm.Key) error {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return t.putRecord(key, value, lease)
}

// hashedKey is the key in a space of what is known by the keyed hash of secret:
// who reads the disk cannot tell the secret, nor test a guess without the keys.
func hashedKey(b *seal.Barrier, space fsm.Space, kind string, secret []byte) (fsm.Key, error) {
	hash, err := b.ID(kind, secret)
	if err != nil {
		return nil, err
	}
	return append(fsm.Key{byte(space)}, hash...), nil
}

// putRecord stages a record, sealed, owned by lease unless that is nil.
func (t *tx) putRecord(key fsm.Key, value []byte, lease fsm.Key) error {
	sealed, err := t.barrier.Seal(seal.TableRecord, key, 0, value)
	if err != nil {
		return err
	}
	t.stage(fsm.Operation{Kind: fsm.OpPutRecord, Key: key, Value: sealed, Lease: lease})
	return nil
}

// Record implements engine.Tx.
func (t *tx) Record(p engine.Path) ([]byte, error) {
	key, err := t.name(p)
	if err != nil {
		return nil, err
	}
	_, value, err := t.record(key)
	return value, err
}

// PutRecord implements engine.Tx.
func (t *tx) PutRecord(p engine.Path, value []byte) error {
	key, err := t.name(p)
	if err != nil {
		return err
	}
	return t.putRecord(key, value, nil)
}

// PutExpiring implements engine.Tx. Each put has a lease of its own: the lease of
// an earlier one ends without effect, for it owns the record no more.
func (t *tx) PutExpiring(p engine.Path, value []byte, ttl time.Duration) error {
	key, err := t.name(p)
	if err != nil {
		return err
	}
	lease, err := t.randomKey(spaceExpiry)
	if err != nil {
		return err
	}
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: lease, TTL: ttl, State: fsm.LeaseActive})
	return t.putRecord(key, value, lease)
}

// PutOwned implements engine.Tx.
func (t *tx) PutOwned(p engine.Path, value []byte) error {
	key, err := t.name(p)
	if err != nil {
		return err
	}
	if t.who == nil || t.who.lease == nil {
		return &engine.InvalidError{Why: "this belongs to a token, and the request has none that could own it"}
	}
	return t.putRecord(key, value, t.who.lease)
}

// randomKey draws a key in a space.
func (t *tx) randomKey(space fsm.Space) (fsm.Key, error) {
	key := make(fsm.Key, 17)
	key[0] = byte(space)
	if _, err := io.ReadFull(t.rand, key[1:]); err != nil {
		return nil, fmt.Errorf("drawing an id: %w", err)
	}
	return key, nil
}

// Hash implements engine.Tx.
func (t *tx) Hash(value string) (string, error) {
	hash, err := t.barrier.ID("engine/"+t.mount, []byte(value))
	return hex.EncodeToString(hash), err
}

// DeleteRecord implements engine.Tx.
func (t *tx) DeleteRecord(p engine.Path) error {
	key, err := t.name(p)
	if err == nil {
		t.stage(fsm.Operation{Kind: fsm.OpDeleteRecord, Key: key})
	}
	return err
}

// head reads the head of a secret and guards it.
func (t *tx) head(key fsm.Key) (*fsm.Head, error) {
	if h, ok := t.heads[string(key)]; ok {
		return h, nil
	}
	h, err := t.view.Head(key)
	if err != nil {
		return nil, err
	}
	t.heads[string(key)] = h
	g := fsm.Guard{Kind: fsm.GuardHead, Key: key}
	if h != nil {
		g.Number, g.Revision = h.Current, h.Revision
	}
	t.guard(g)
	return h, nil
}

// Head implements engine.Tx.
func (t *tx) Head(p engine.Path) (*engine.Head, error) {
	key, err := t.name(p)
	if err != nil {
		return nil, err
	}
	h, err := t.head(key)
	if err != nil || h == nil {
		return nil, err
	}
	return &engine.Head{Current: h.Current, Oldest: h.Oldest, Keep: h.Keep,
		Created: wall(h.Created), Updated: wall(h.Updated)}, nil
}

// Version implements engine.Tx. The head guards it: every change of a version
// changes the head's revision.
func (t *tx) Version(p engine.Path, n uint64) (*engine.Version, error) {
	key, err := t.name(p)
	if err != nil {
		return nil, err
	}
	if _, err := t.head(key); err != nil {
		return nil, err
	}
	v, err := t.view.Version(key, n)
	if err != nil || v == nil {
		return nil, err
	}
	out := &engine.Version{Created: wall(v.Created), DeletedAt: wall(v.DeletedAt),
		Deleted: v.Deleted(t.view.Time()), Destroyed: v.Destroyed}
	if out.Deleted || out.Destroyed {
		return out, nil
	}
	out.Value, err = t.openSealed(seal.TableVersion, key, n, v.Value)
	return out, err
}

// AppendVersion implements engine.Tx.
func (t *tx) AppendVersion(p engine.Path, value []byte, ttl time.Duration) (uint64, error) {
	key, err := t.name(p)
	if err != nil {
		return 0, err
	}
	h, err := t.head(key)
	if err != nil {
		return 0, err
	}
	n := uint64(1)
	if h != nil {
		n = h.Current + 1
	}
	sealed, err := t.barrier.Seal(seal.TableVersion, key, n, value)
	if err != nil {
		return 0, err
	}
	t.stage(fsm.Operation{Kind: fsm.OpAppendVersion, Key: key, Number: n, Value: sealed, TTL: ttl})
	return n, nil
}

// ChangeVersions implements engine.Tx.
func (t *tx) ChangeVersions(p engine.Path, change engine.Change, numbers []uint64) error {
	key, err := t.name(p)
	if err != nil {
		return err
	}
	kinds := map[engine.Change]fsm.OperationKind{engine.Delete: fsm.OpDeleteVersions,
		engine.Undelete: fsm.OpUndeleteVersions, engine.Destroy: fsm.OpDestroyVersions}
	kind, ok := kinds[change]
	if !ok {
		return fmt.Errorf("changing versions: unknown change %d", change)
	}
	t.stage(fsm.Operation{Kind: kind, Key: key, Numbers: numbers})
	return nil
}

// PurgeSecret implements engine.Tx.
func (t *tx) PurgeSecret(p engine.Path) error {
	key, err := t.name(p)
	if err == nil {
		t.stage(fsm.Operation{Kind: fsm.OpPurgeSecret, Key: key})
	}
	return err
}

// SetLimits implements engine.Tx.
func (t *tx) SetLimits(p engine.Path, keep uint64) error {
	key, err := t.name(p)
	if err == nil {
		t.stage(fsm.Operation{Kind: fsm.OpSetLimits, Key: key, Number: keep})
	}
	return err
}

// Children implements engine.Tx.
func (t *tx) Children(dir engine.Path, after string, limit int) (names []string, more bool, err error) {
	return t.list(fsm.Secrets, dir, after, limit, func(fsm.Key) (bool, error) { return true, nil })
}

// Records implements engine.Tx.
func (t *tx) Records(dir engine.Path, after string, limit int) (names []string, more bool, err error) {
	return t.list(fsm.Records, dir, after, limit, func(key fsm.Key) (bool, error) {
		r, err := t.view.Record(key)
		return r != nil, err
	})
}

// list lists the names directly in a directory of a table. The keys lie in the
// order of their blinded names, so a page must look at every child; below a child
// it looks no further than to the first row that is there.
func (t *tx) list(table fsm.Table, dir engine.Path, after string, limit int, there func(fsm.Key) (bool, error)) (names []string, more bool, err error) {
	parent, err := t.name(dir)
	if err != nil {
		return nil, false, err
	}
	keys, err := t.view.Keys(table, parent)
	if err != nil {
		return nil, false, err
	}
	page := newPage(after, limit, func(name string) string { return name })
	for ok := keys.Next(); ok; {
		key := keys.Key()
		if len(key) == len(parent) { // what has the directory's own name
			ok = keys.Next()
			continue
		}
		alive, err := there(key)
		if err != nil {
			return nil, false, firstError(err, keys.Close())
		}
		if !alive {
			ok = keys.Next()
			continue
		}
		name, rest, err := t.barrier.UnblindSegment(parent, key)
		if err != nil {
			return nil, false, firstError(err, keys.Close())
		}
		if len(rest) == 0 {
			page.add(name)
			ok = keys.Next()
			continue
		}
		page.add(name + "/")
		ok = keys.Skip(key[:len(key)-len(rest)])
	}
	if err := keys.Close(); err != nil {
		return nil, false, err
	}
	names, more = page.done()
	return names, more, nil
}

// page collects the first limit items whose name follows after, in order,
// without keeping more than twice as many.
type page[T any] struct {
	after string
	limit int
	name  func(T) string
	items []T
	more  bool
}

func newPage[T any](after string, limit int, name func(T) string) *page[T] {
	return &page[T]{after: after, limit: limit, name: name}
}

func (p *page[T]) add(item T) {
	if p.after != "" && p.name(item) <= p.after {
		return
	}
	if p.items = append(p.items, item); len(p.items) > 2*p.limit {
		p.cut()
	}
}

func (p *page[T]) cut() {
	slices.SortFunc(p.items, func(a, b T) int { return cmp.Compare(p.name(a), p.name(b)) })
	if len(p.items) > p.limit {
		p.items, p.more = p.items[:p.limit], true
	}
}

func (p *page[T]) done() ([]T, bool) {
	p.cut()
	return p.items, p.more
}

// wall turns a log time into a wall clock time; zero stays zero.
func wall(t fsm.LogTime) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
