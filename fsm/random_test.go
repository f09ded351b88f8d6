package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A historian writes random logs. The key space is small, so that batches meet
// each other, and it looks at a machine that applies the log as it grows, so
// that many guards hold and many operations are possible.
type historian struct {
	t       testing.TB
	dice    *rand.Rand
	machine *Machine

	index, term uint64
	now         LogTime
	plain       bool                 // one session, no duplicates, nothing that takes more than one entry
	sessions    map[SessionID]uint64 // the next sequence
	sent        [][]byte             // every encoded batch, for duplicates
	history     history
}

// A history is a log and what a machine answered that applied it entry by entry.
type history struct {
	log     []LogEntry
	results [][]Result
	hashes  []StateHash // after each entry
}

func newHistorian(t testing.TB, seed uint64) *historian {
	return &historian{t: t, dice: rand.New(rand.NewPCG(seed, 2)), machine: newDisk(t).machine, term: 1,
		now: LogTime(time.Hour), sessions: map[SessionID]uint64{{1}: 1, {2}: 1, {3}: 1}}
}

// write adds n entries to the history.
func (h *historian) write(n int) *history {
	if len(h.history.log) == 0 {
		for _, id := range []SessionID{{1}, {2}, {3}} {
			h.entry(EncodeBatch(&Batch{Session: id, Operations: []Operation{{Kind: OpOpenSession}}}))
		}
	}
	for range n {
		h.advance()
		var raws [][]byte
		for range h.dice.IntN(5) {
			raws = append(raws, h.raw())
		}
		h.entry(raws...)
	}
	return &h.history
}

func (h *historian) advance() {
	switch h.dice.IntN(20) {
	case 0:
		h.now = h.now.Add(2 * sessionIdle)
	case 1:
		h.now = h.now.Add(-time.Minute) // a leader whose clock is behind
	case 2:
		h.term++
		h.index += h.dice.Uint64N(3 * HashInterval / 2) // entries that never reach the machine
	default:
		h.now = h.now.Add(time.Duration(h.dice.IntN(20)) * time.Second)
	}
}

func (h *historian) entry(raws ...[]byte) {
	h.index++
	e := LogEntry{Index: h.index, Term: h.term}
	if len(raws) > 0 || h.dice.IntN(2) == 0 {
		e.Data = EncodeEntry(&Entry{Time: h.now, Batches: raws})
	}
	results, err := h.machine.Apply([]LogEntry{e})
	if err != nil {
		h.t.Fatalf("entry %d: %v", e.Index, err)
	}
	_, hash := h.machine.StateHash()
	h.history.log = append(h.history.log, e)
	h.history.results = append(h.history.results, results[0])
	h.history.hashes = append(h.history.hashes, hash)
}

// raw returns an encoded batch: a new one, or one that was sent before.
func (h *historian) raw() []byte {
	if len(h.sent) > 0 && !h.plain && h.dice.IntN(10) == 0 {
		return h.sent[h.dice.IntN(len(h.sent))]
	}
	raw := EncodeBatch(h.batch())
	h.sent = append(h.sent, raw)
	return raw
}

func (h *historian) batch() *Batch {
	id := SessionID{1}
	if !h.plain {
		id = SessionID{byte(1 + h.dice.IntN(3))}
		switch h.dice.IntN(60) {
		case 0:
			return &Batch{Session: id, Operations: []Operation{{Kind: OpCloseSession}}}
		case 1, 2, 3:
			return &Batch{Session: id, Operations: []Operation{{Kind: OpOpenSession}}}
		}
	}
	b := &Batch{Session: id, Sequence: h.sessions[id], Answered: h.sessions[id] - h.dice.Uint64N(min(h.sessions[id], 5))}
	h.sessions[id]++
	v, err := h.machine.View()
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			h.t.Error(err)
		}
	}()
	for h.dice.IntN(3) == 0 {
		b.Guards = append(b.Guards, h.guard(v))
	}
	for range 1 + h.dice.IntN(4) {
		b.Operations = append(b.Operations, h.operation(v))
	}
	if !h.plain && h.dice.IntN(40) == 0 {
		b.Operations = append(b.Operations, h.many()...)
	}
	return b
}

// many makes a lease own enough to be more than one entry may settle.
func (h *historian) many() (ops []Operation) {
	lease := h.lease()
	for i := range 150 {
		ops = append(ops, Operation{Kind: OpPutRecord, Key: fmt.Appendf(nil, "n%d.%d", h.dice.IntN(3), i), Lease: lease})
	}
	return ops
}

func (h *historian) pick(names ...string) []byte { return []byte(names[h.dice.IntN(len(names))]) }
func (h *historian) recordKey() []byte           { return h.pick("ka", "kb", "kab", "pa", "pb") }
func (h *historian) secret() []byte              { return h.pick("s", "s1", "s2") }
func (h *historian) lease() []byte               { return h.pick("l1", "l2", "l3", "l11", "m1", "m2") }
func (h *historian) group() []byte               { return h.pick("g1", "g2") }
func (h *historian) ttl() time.Duration {
	return []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}[h.dice.IntN(4)]
}

// must returns what a read of the view gave.
func must[T any](h *historian) func(T, error) T {
	return func(v T, err error) T {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
		return v
	}
}

// guard is one that holds three times in four, if nothing comes in between.
func (h *historian) guard(v *View) Guard {
	g := Guard{Kind: GuardKind(1 + h.dice.IntN(8))}
	switch g.Kind {
	case GuardRecord:
		g.Key = h.recordKey()
		if r := must[*Record](h)(v.Record(g.Key)); r != nil {
			g.Revision = r.Revision
		}
	case GuardRange:
		g.Key = h.pick("k", "ka", "p", "n")
		var err error
		if g.Number, g.Revision, err = v.RangeRevision(g.Key); err != nil {
			h.t.Fatal(err)
		}
	case GuardSpaceUnchanged:
		g.Key = h.pick("k", "p", "n")
		g.Revision = must[Revision](h)(v.SpaceRevision(Space(g.Key[0])))
	case GuardHead:
		g.Key = h.secret()
		if x := must[*Head](h)(v.Head(g.Key)); x != nil {
			g.Number, g.Revision = x.Current, x.Revision*h.dice.Uint64N(2)
		}
	case GuardLease:
		g.Key, g.State = h.lease(), LeaseActive
		if l, _, err := v.Lease(g.Key); err != nil {
			h.t.Fatal(err)
		} else if l != nil {
			g.Number, g.State = l.Generation, l.State
		}
	case GuardLeaseAbsent:
		g.Key = h.lease()
	case GuardBefore:
		g.Key, g.Number = h.lease(), uint64(h.now)+h.dice.Uint64N(4)
	case GuardTally:
		g.Key, g.Number = h.pick("t1", "t2"), 1+h.dice.Uint64N(4)
	}
	if h.dice.IntN(4) == 0 {
		g.Number += h.dice.Uint64N(2)
		g.Revision += h.dice.Uint64N(2)
	}
	return g
}

// operation draws one, the frequent kinds more often.
func (h *historian) operation(v *View) Operation {
	op := Operation{Value: h.pick("", "x", "y", "zz")}
	switch h.dice.IntN(33) {
	case 0, 1, 2, 3:
		op.Kind, op.Key = OpPutRecord, h.recordKey()
		if h.dice.IntN(2) == 0 {
			op.Lease = h.lease()
		}
	case 4, 5:
		op.Kind, op.Key = OpDeleteRecord, h.recordKey()
	case 6, 7, 8, 9, 10, 11, 12, 13:
		h.versionOperation(v, &op)
	case 14, 15, 16, 17, 18, 19:
		op.Kind, op.Key, op.TTL, op.State = OpGrantLease, h.lease(), h.ttl(), LeaseActive
		if h.dice.IntN(2) == 0 {
			op.Lease = h.lease()
		}
		if h.dice.IntN(3) == 0 {
			op.Effect, op.State = h.pick("d1", "d2"), LeaseState(1+h.dice.IntN(2))
		}
		if h.dice.IntN(2) == 0 {
			op.Tally = h.pick("t1", "t2")
		}
		if h.dice.IntN(3) == 0 {
			op.MaxTTL = h.ttl()
		}
		for len(op.Groups) < 4 && h.dice.IntN(2) == 0 {
			op.Groups = append(op.Groups, h.group())
		}
	case 20, 21:
		op.Kind, op.Key, op.TTL = OpRenewLease, h.lease(), h.ttl()*time.Duration(h.dice.IntN(2))
	case 22:
		op.Kind, op.Key, op.TTL = OpConfirmLease, h.lease(), h.ttl()*time.Duration(h.dice.IntN(2))
	case 23, 24:
		op.Kind, op.Key = OpRevokeLease, h.lease()
	case 25:
		op.Kind, op.Key = OpEndLease, h.lease()
	case 26:
		op.Kind, op.Key = OpRevokeGroup, h.group()
	case 27:
		op.Kind, op.Key = OpRevokePrefix, h.pick("l", "l1", "m", "x")
	case 30, 31:
		op.Kind, op.Key = OpReleaseLease, h.lease()
	case 32:
		op.Kind, op.Key = OpPurgePrefix, h.pick("ka", "p", "n1", "s1", "s", "x")
	case 28:
		op.Kind, op.Number = OpExpireLeases, h.dice.Uint64N(4)
	case 29:
		op.Kind, op.Number = OpSetFeatureLevel, h.dice.Uint64N(2)
	}
	return op
}

func (h *historian) versionOperation(v *View, op *Operation) {
	op.Key = h.secret()
	current := uint64(0)
	if x := must[*Head](h)(v.Head(op.Key)); x != nil {
		current = x.Current
	}
	op.Kind, op.Number = OpAppendVersion, current+1
	switch h.dice.IntN(9) {
	case 0:
		op.TTL = h.ttl()
	case 1:
		op.Number = 1 // after a purge in the same batch
	case 2, 3, 4:
		op.Kind = []OperationKind{OpDeleteVersions, OpUndeleteVersions, OpDestroyVersions}[h.dice.IntN(3)]
		op.Numbers = []uint64{max(1, current-h.dice.Uint64N(current+1)), current}
	case 5:
		op.Kind = OpPurgeSecret
	case 6:
		op.Kind, op.Number = OpSetLimits, h.dice.Uint64N(4)
	}
}
