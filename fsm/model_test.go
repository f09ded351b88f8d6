package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A model says what the machine should hold, in plain maps and without any
// thought for speed, disks, sums or budgets. A batch works on a copy of
// everything. It knows one session and no duplicates.
type model struct {
	index   Revision
	now     LogTime
	state   modelState
	expire  uint64   // asked for in the entry at work
	revoked []string // "g", "p" or "x" and the name of a group, prefix or prefix to purge, asked for in the entry at work
}

type modelState struct {
	records map[string]Record
	spaces  map[byte]Revision
	heads   map[string]modelSecret
	leases  map[string]Lease
}

type modelSecret struct {
	Head
	versions map[uint64]Version
}

func newModel() *model {
	return &model{state: modelState{map[string]Record{}, map[byte]Revision{}, map[string]modelSecret{}, map[string]Lease{}}}
}

func (s modelState) copy() modelState {
	c := modelState{maps.Clone(s.records), maps.Clone(s.spaces), maps.Clone(s.heads), maps.Clone(s.leases)}
	for k, h := range c.heads {
		h.versions = maps.Clone(h.versions)
		c.heads[k] = h
	}
	return c
}

// entry does what Machine.Apply does with one entry.
func (m *model) entry(index Revision, e *Entry) (results []Result) {
	m.index, m.now = index, max(m.now, e.Time)
	m.expire, m.revoked = 0, nil
	for _, raw := range e.Batches {
		b, err := DecodeBatch(raw)
		if err != nil {
			panic(err)
		}
		results = append(results, m.batch(b))
	}
	m.settle()
	return results
}

func (m *model) batch(b *Batch) Result {
	r := Result{Code: Applied, Index: m.index, Time: m.now}
	for i, g := range b.Guards {
		if !m.holds(g) {
			r.Code, r.Guard = Conflict, i
			return r
		}
	}
	before, expire, revoked := m.state.copy(), m.expire, len(m.revoked)
	for _, op := range b.Operations {
		if reason := m.do(op); reason != RefusedNone {
			m.state, m.expire, m.revoked = before, expire, m.revoked[:revoked]
			r.Code, r.Reason = Refused, reason
			return r
		}
	}
	return r
}

// live tells whether a lease and all its owners are alive.
func (m *model) live(id Key) bool {
	l, ok := m.state.leases[string(id)]
	return ok && l.Alive(m.now) && (l.Owner == nil || m.state.leases[string(l.Owner)].State == LeaseReleasing || m.live(l.Owner))
}

func (m *model) record(k Key) (Record, bool) {
	r, ok := m.state.records[string(k)]
	return r, ok && (r.Lease == nil || m.live(r.Lease))
}

func (m *model) holds(g Guard) bool {
	switch g.Kind {
	case GuardRecord:
		r, ok := m.record(g.Key)
		return ok && r.Revision == g.Revision || !ok && g.Revision == 0
	case GuardRange:
		var count, highest uint64
		for k := range m.state.records {
			if r, ok := m.record(Key(k)); ok && strings.HasPrefix(k, string(g.Key)) {
				count, highest = count+1, max(highest, r.Revision)
			}
		}
		return count == g.Number && highest == g.Revision
	case GuardSpaceUnchanged:
		return m.state.spaces[g.Key[0]] <= g.Revision
	case GuardHead:
		h := m.state.heads[string(g.Key)]
		return h.Current == g.Number && (h.Revision == g.Revision || g.Revision == 0 && g.Number > 0)
	case GuardLease:
		l := m.state.leases[string(g.Key)]
		return m.live(g.Key) && l.Generation == g.Number && l.State == g.State
	case GuardLeaseAbsent:
		_, ok := m.state.leases[string(g.Key)]
		return !ok
	case GuardBefore:
		return m.now < LogTime(g.Number)
	case GuardTally:
		return m.tallies()[string(g.Key)] < g.Number
	}
	panic("unknown guard")
}

// tallies counts the leases that nobody has ended.
func (m *model) tallies() map[string]uint64 {
	n := map[string]uint64{}
	for _, l := range m.state.leases {
		if l.Tally != nil && (l.State == LeaseActive || l.State == LeasePending) {
			n[string(l.Tally)]++
		}
	}
	return n
}

// waiting are the leases to be undone, by outside system, sorted.
func (m *model) waiting() map[string][]string {
	w := map[string][]string{}
	for k, l := range m.state.leases {
		if l.State == LeaseRevoking {
			w[string(l.Effect)] = append(w[string(l.Effect)], k)
		}
	}
	for _, ids := range w {
		slices.Sort(ids)
	}
	return w
}

func (m *model) do(op Operation) RefusedReason {
	k := string(op.Key)
	h, hasHead := m.state.heads[k]
	l, hasLease := m.state.leases[k]
	switch op.Kind {
	case OpPutRecord:
		if op.Lease != nil && !m.live(op.Lease) {
			return RefusedLeaseUnknown
		}
		m.state.records[k] = Record{Revision: m.index, Written: m.now, Lease: op.Lease, Value: op.Value}
		m.state.spaces[k[0]] = m.index
	case OpDeleteRecord:
		delete(m.state.records, k)
		m.state.spaces[k[0]] = m.index
	case OpAppendVersion:
		if op.Number != h.Current+1 {
			return RefusedMalformed
		}
		m.append(op, h, hasHead)
	case OpDeleteVersions, OpUndeleteVersions, OpDestroyVersions:
		if !hasHead {
			return RefusedSecretUnknown
		}
		return m.change(op, h)
	case OpPurgeSecret:
		if !hasHead {
			return RefusedSecretUnknown
		}
		delete(m.state.heads, k)
	case OpSetLimits:
		if !hasHead {
			h = modelSecret{Head{Created: m.now}, map[uint64]Version{}}
		}
		h.Keep, h.Revision, h.Updated = op.Number, m.index, m.now
		m.state.heads[k] = h
	case OpGrantLease:
		return m.grant(op, hasLease)
	case OpRenewLease:
		if !m.live(op.Key) {
			return RefusedLeaseUnknown
		}
		if l.State != LeaseActive {
			return RefusedLeaseState
		}
		if op.TTL > 0 {
			l.TTL = op.TTL
		}
		m.extend(&l)
		m.save(k, l)
	case OpConfirmLease:
		if !m.live(op.Key) {
			return RefusedLeaseUnknown
		}
		if l.State != LeasePending {
			return RefusedLeaseState
		}
		if op.TTL > 0 {
			l.TTL = op.TTL
			m.extend(&l)
		}
		l.State = LeaseActive
		if op.Value != nil {
			l.Value = op.Value
		}
		m.save(k, l)
	case OpRevokeLease:
		if !hasLease {
			return RefusedLeaseUnknown
		}
		m.end(k)
	case OpEndLease:
		if !hasLease {
			return RefusedLeaseUnknown
		}
		if l.State != LeaseRevoking {
			return RefusedLeaseState
		}
		l.State = LeaseEnding
		m.save(k, l)
	case OpReleaseLease:
		if !m.live(op.Key) {
			return RefusedLeaseUnknown
		}
		if l.Effect != nil {
			return RefusedLeaseState
		}
		l.State = LeaseReleasing
		m.save(k, l)
	case OpPurgePrefix:
		m.revoked = append(m.revoked, "x"+k)
	case OpRevokeGroup:
		m.revoked = append(m.revoked, "g"+k)
	case OpRevokePrefix:
		m.revoked = append(m.revoked, "p"+k)
	case OpExpireLeases:
		m.expire = max(m.expire, op.Number)
	case OpSetFeatureLevel:
		if op.Number < 1 {
			return RefusedMalformed
		}
	}
	return RefusedNone
}

func (m *model) append(op Operation, h modelSecret, exists bool) {
	if !exists {
		h = modelSecret{Head{Created: m.now}, map[uint64]Version{}}
	}
	h.Current, h.Revision, h.Updated = op.Number, m.index, m.now
	v := Version{Revision: m.index, Created: m.now, Value: op.Value}
	if op.TTL > 0 {
		v.DeletedAt = m.now.Add(op.TTL)
	}
	h.versions[op.Number] = v
	keep := h.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	for n := range h.versions {
		if n+keep <= h.Current {
			delete(h.versions, n)
		}
	}
	h.Oldest = slices.Min(slices.Collect(maps.Keys(h.versions)))
	m.state.heads[string(op.Key)] = h
}

func (m *model) change(op Operation, h modelSecret) RefusedReason {
	for _, n := range op.Numbers {
		v, ok := h.versions[n]
		switch {
		case !ok:
			return RefusedVersionUnknown
		case op.Kind == OpUndeleteVersions && v.Destroyed:
			return RefusedDestroyed
		case op.Kind == OpUndeleteVersions:
			v.DeletedAt = 0
		case op.Kind == OpDestroyVersions:
			v.Destroyed, v.Value = true, nil
		case !v.Deleted(m.now):
			v.DeletedAt = m.now
		}
		v.Revision = m.index
		h.versions[n] = v
	}
	h.Revision, h.Updated = m.index, m.now
	m.state.heads[string(op.Key)] = h
	return RefusedNone
}

func (m *model) grant(op Operation, exists bool) RefusedReason {
	switch {
	case op.State == LeasePending && op.Effect == nil:
		return RefusedMalformed
	case exists:
		return RefusedLeaseExists
	case op.Lease != nil && !m.live(op.Lease):
		return RefusedLeaseUnknown
	}
	l := Lease{State: op.State, Effect: op.Effect, Tally: op.Tally, Granted: m.index, TTL: op.TTL, Issued: m.now, Owner: op.Lease,
		Groups: op.Groups, Value: op.Value}
	if op.MaxTTL > 0 {
		l.MaxExpires = m.now.Add(op.MaxTTL)
	}
	if op.Lease != nil {
		l.Depth = m.state.leases[string(op.Lease)].Depth + 1
	}
	m.extend(&l)
	m.save(string(op.Key), l)
	return RefusedNone
}

func (m *model) extend(l *Lease) {
	l.Expires = m.now.Add(l.TTL)
	if l.MaxExpires != 0 && l.MaxExpires < l.Expires {
		l.Expires = l.MaxExpires
	}
}

// save counts the generation: every change of a lease is one.
func (m *model) save(k string, l Lease) {
	l.Generation++
	l.Revision = m.index
	m.state.leases[k] = l
}

func (m *model) end(k string) {
	l := m.state.leases[k]
	if l.State != LeaseActive && l.State != LeasePending {
		return
	}
	l.State = LeaseEnding
	if l.Effect != nil {
		l.State = LeaseRevoking
	}
	m.save(k, l)
}

// settle ends what is due and what was asked for, and then all that hangs on
// what has ended, until nothing changes any more.
func (m *model) settle() {
	var due []string
	for k, l := range m.state.leases {
		if (l.State == LeaseActive || l.State == LeasePending) && l.Expires <= m.now {
			due = append(due, k)
		}
	}
	slices.SortFunc(due, func(a, b string) int {
		if d := m.state.leases[a].Expires - m.state.leases[b].Expires; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	for _, k := range due[:min(len(due), int(m.expire))] {
		m.end(k)
	}
	for k, l := range m.state.leases {
		for _, r := range m.revoked {
			if r[0] == 'p' && strings.HasPrefix(k, r[1:]) || r[0] == 'g' && slices.ContainsFunc(l.Groups, func(g Key) bool { return string(g) == r[1:] }) {
				m.end(k)
			}
		}
	}
	for k, l := range m.state.leases {
		if m.state.leases[string(l.Owner)].State == LeaseReleasing && l.Alive(0) {
			l.Owner, l.Revision = nil, m.index
			m.state.leases[k] = l
		}
	}
	for changed := true; changed; {
		changed = false
		for k, l := range m.state.leases {
			if o, ok := m.state.leases[string(l.Owner)]; l.Alive(0) && ok && l.Owner != nil && !o.Alive(0) {
				m.end(k)
				changed = true
			}
		}
	}
	for k, r := range m.state.records {
		if o, ok := m.state.leases[string(r.Lease)]; ok && r.Lease != nil && !o.Alive(0) {
			delete(m.state.records, k)
			m.state.spaces[k[0]] = m.index
		}
	}
	maps.DeleteFunc(m.state.leases, func(_ string, l Lease) bool { return l.State == LeaseEnding || l.State == LeaseReleasing })
	for _, r := range m.revoked {
		if r[0] == 'x' {
			m.purge(r[1:])
		}
	}
}

func (m *model) purge(prefix string) {
	for k := range m.state.records {
		if strings.HasPrefix(k, prefix) {
			delete(m.state.records, k)
			m.state.spaces[k[0]] = m.index
		}
	}
	maps.DeleteFunc(m.state.heads, func(k string, _ modelSecret) bool { return strings.HasPrefix(k, prefix) })
}

// The machine holds and answers, entry by entry, what the model does.
func TestModel(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*histories) && !t.Failed(); seed++ {
		h := newHistorian(t, seed)
		h.plain = true
		h.write(0)
		m := newModel()
		m.now = h.machine.Time()
		for range 120 {
			h.write(1)
			last := len(h.history.log) - 1
			e := &Entry{}
			if data := h.history.log[last].Data; len(data) > 0 {
				var err error
				if e, err = DecodeEntry(data); err != nil {
					t.Fatal(err)
				}
			}
			want := m.entry(h.history.log[last].Index, e)
			if diff := cmp.Diff(want, h.history.results[last], equalRows...); diff != "" {
				t.Fatalf("seed %d, entry %d: results (-model +machine):\n%s\n%s", seed, m.index, diff, tell(e))
			}
			if diff := cmp.Diff(m.seen(), seen(t, h.machine), equalRows...); diff != "" {
				t.Fatalf("seed %d, entry %d: (-model +machine):\n%s", seed, m.index, diff)
			}
		}
		audit(t, h.machine.store)
	}
}

var equalRows = []cmp.Option{
	cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) }),
	cmp.Comparer(func(a, b []Key) bool { return slices.EqualFunc(a, b, bytes.Equal) }),
	cmp.Transformer("results", func(r []Result) []string {
		var s []string
		for _, x := range r {
			s = append(s, strings.Join([]string{string(rune('0' + x.Code)), x.Reason.String(), string(rune('0' + x.Guard)), x.Time.Time().String()}, " "))
		}
		return s
	}),
}

// tell spells out an entry for whoever has to find out what went wrong.
func tell(e *Entry) string {
	var s strings.Builder
	for i, raw := range e.Batches {
		b, err := DecodeBatch(raw)
		if err != nil {
			return err.Error()
		}
		for _, op := range b.Operations {
			fmt.Fprintf(&s, "batch %d: %+v\n", i, op)
		}
	}
	return s.String()
}

// contents are what a reader can see.
type contents struct {
	Records  map[string]Record
	Heads    map[string]Head
	Versions map[string]map[uint64]Version
	Leases   map[string]Lease
	Usable   map[string]bool
	Spaces   map[string]Revision
	Tallies  map[string]uint64
	Waiting  map[string][]string
}

func newContents() contents {
	return contents{map[string]Record{}, map[string]Head{}, map[string]map[uint64]Version{}, map[string]Lease{},
		map[string]bool{}, map[string]Revision{}, map[string]uint64{}, map[string][]string{}}
}

func (m *model) seen() contents {
	c := newContents()
	for k := range m.state.records {
		if r, ok := m.record(Key(k)); ok {
			c.Records[k] = r
		}
	}
	for k, h := range m.state.heads {
		c.Heads[k], c.Versions[k] = h.Head, h.versions
	}
	for k, l := range m.state.leases {
		c.Leases[k], c.Usable[k] = l, m.live(Key(k))
	}
	c.Tallies, c.Waiting = m.tallies(), m.waiting()
	for _, s := range "kpn" {
		c.Spaces[string(s)] = m.state.spaces[byte(s)]
	}
	return c
}

func seen(t *testing.T, machine *Machine) contents {
	t.Helper()
	v, err := machine.View()
	if err != nil {
		t.Fatal(err)
	}
	c := newContents()
	walk(t, v, Records, func(k Key) error {
		r, err := v.Record(k)
		if r != nil {
			c.Records[string(k)] = *r
		}
		return err
	})
	walk(t, v, Secrets, func(k Key) error {
		h, err := v.Head(k)
		if err != nil {
			return err
		}
		c.Heads[string(k)], c.Versions[string(k)] = *h, map[uint64]Version{}
		for n := range h.Current + 2 {
			x, err := v.Version(k, n)
			if err != nil {
				return err
			}
			if x != nil {
				c.Versions[string(k)][n] = *x
			}
		}
		return nil
	})
	walk(t, v, Leases, func(k Key) error {
		l, usable, err := v.Lease(k)
		if l != nil {
			c.Leases[string(k)], c.Usable[string(k)] = *l, usable
		}
		return err
	})
	walk(t, v, Tallies, func(k Key) (err error) {
		c.Tallies[string(k)], err = v.Tally(k)
		return err
	})
	walk(t, v, Effects, func(k Key) error {
		ids := waiting(t, v, k)
		if n, err := v.Undone(k); err != nil || n != uint64(len(ids)) {
			t.Errorf("%d wait for %q, and %d are counted, %v", len(ids), k, n, err)
		}
		c.Waiting[string(k)] = ids
		return nil
	})
	for _, s := range "kpn" {
		if c.Spaces[string(s)], err = v.SpaceRevision(Space(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func waiting(t *testing.T, v *View, effect Key) (ids []string) {
	t.Helper()
	keys, err := v.Waiting(effect)
	if err != nil {
		t.Fatal(err)
	}
	for keys.Next() {
		ids = append(ids, string(keys.Key()))
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func walk(t *testing.T, v *View, table Table, do func(Key) error) {
	t.Helper()
	keys, err := v.Keys(table, nil)
	if err != nil {
		t.Fatal(err)
	}
	for keys.Next() {
		if err := do(keys.Key()); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
}
