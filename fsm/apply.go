package fsm

import (
	"fmt"
	"slices"
)

// featureLevel is the highest feature level that this release understands.
const featureLevel = 1

// A HaltError says that the replica cannot go on: it met something that it does
// not understand or that cannot be. Going on would mean to guess.
type HaltError struct {
	Index uint64
	Cause error
}

func (e *HaltError) Error() string {
	return fmt.Sprintf("state machine halts at index %d: %v", e.Index, e.Cause)
}

func (e *HaltError) Unwrap() error { return e.Cause }

// applyEntry decides every batch of one entry.
func (m *Machine) applyEntry(t *tx, e LogEntry) ([]Result, error) {
	if len(e.Data) == 0 {
		t.enter(e.Index, e.Term, 0)
		return nil, nil
	}
	entry, err := DecodeEntry(e.Data)
	if err != nil {
		return nil, err
	}
	t.enter(e.Index, e.Term, entry.Time)
	results := make([]Result, len(entry.Batches))
	for i, raw := range entry.Batches {
		b, err := DecodeBatch(raw)
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", i, err)
		}
		if results[i], err = m.applyBatch(t, b); err != nil {
			return nil, fmt.Errorf("batch %d: %w", i, err)
		}
	}
	m.sessions.save(t)
	t.settle()
	t.saveSpaces()
	return results, t.err
}

// applyBatch answers one batch: from memory when it was answered before.
func (m *Machine) applyBatch(t *tx, b *Batch) (Result, error) {
	result := Result{Index: t.index, Time: t.now}
	if len(b.Operations) == 1 {
		switch b.Operations[0].Kind {
		case OpOpenSession:
			m.sessions.open(t, b.Session)
			result.Code = Applied
			return result, nil
		case OpCloseSession:
			m.sessions.close(t, b.Session)
			result.Code = Applied
			return result, nil
		}
	}
	session := m.sessions.find(b.Session)
	if session == nil {
		result.Code = SessionUnknown
		return result, nil
	}
	if old, ok := session.answer(b.Sequence); ok {
		return old, nil
	}
	session.heard(b.Answered, t.now)
	switch {
	case b.Sequence < session.Answered:
		result.Code = Forgotten
		return result, nil
	case b.Sequence >= session.Answered+sessionWindow:
		result.Code, result.Reason = Refused, RefusedSequenceWindow
		return result, nil
	}
	if err := t.decide(b, &result); err != nil {
		return result, err
	}
	session.remember(b.Sequence, result)
	return result, nil
}

// decide checks the guards and does the operations, all or none.
func (t *tx) decide(b *Batch, result *Result) error {
	for i := range b.Guards {
		holds, err := t.holds(&b.Guards[i])
		if err != nil {
			return err
		}
		if !holds {
			result.Code, result.Guard = Conflict, i
			return nil
		}
	}
	for i := range b.Operations {
		reason, err := t.do(&b.Operations[i])
		if err != nil {
			return err
		}
		if reason != RefusedNone {
			t.drop()
			result.Code, result.Reason = Refused, reason
			return nil
		}
	}
	t.keep()
	result.Code = Applied
	return nil
}

// holds evaluates one guard. Nothing of the batch is staged yet.
func (t *tx) holds(g *Guard) (bool, error) {
	switch g.Kind {
	case GuardRecord:
		r := t.record(g.Key)
		if r == nil {
			return g.Revision == 0, nil
		}
		return r.Revision == g.Revision, nil
	case GuardRange:
		count, highest, err := rangeRevision(t.store, g.Key, t.now, MaxGuardedKeys)
		t.note(err)
		return count == g.Number && highest == g.Revision, nil
	case GuardSpaceUnchanged:
		if len(g.Key) != 1 {
			return false, nil
		}
		s := Space(g.Key[0])
		if t.spaces[s] {
			return t.index <= g.Revision, nil
		}
		return t.spaceRevision(s) <= g.Revision, nil
	case GuardHead:
		h := t.head(g.Key)
		if h == nil {
			return g.Revision == 0 && g.Number == 0, nil
		}
		sameRevision := h.Revision == g.Revision || (g.Revision == 0 && g.Number > 0)
		return h.Current == g.Number && sameRevision, nil
	case GuardLease:
		l := t.liveLease(g.Key)
		return l != nil && l.Generation == g.Number && l.State == g.State, nil
	case GuardLeaseAbsent:
		return t.lease(g.Key) == nil, nil
	case GuardBefore:
		return uint64(t.now) < g.Number, nil
	case GuardTally:
		return t.count(tallyKey(g.Key)) < g.Number, nil
	}
	return false, fmt.Errorf("guard kind %d is not one this version knows", g.Kind)
}

// do stages one operation, or tells why it is impossible on this state.
func (t *tx) do(op *Operation) (RefusedReason, error) {
	if len(op.Value) > MaxValueSize {
		return RefusedMalformed, nil
	}
	switch op.Kind {
	case OpSetFeatureLevel:
		return t.setFeatureLevel(op)
	case OpExpireLeases:
		t.expire = min(max(t.expire, op.Number), maxExpirePerEntry)
		return RefusedNone, nil
	case OpOpenSession, OpCloseSession:
		return RefusedMalformed, nil // they stand alone in their batch
	}
	if checkKey(op.Key) != nil {
		return RefusedMalformed, nil
	}
	switch op.Kind {
	case OpPutRecord:
		return t.putRecord(op), nil
	case OpDeleteRecord:
		t.deleteRecord(op.Key)
		return RefusedNone, nil
	case OpAppendVersion:
		return t.appendVersion(op), nil
	case OpDeleteVersions, OpUndeleteVersions, OpDestroyVersions:
		return t.changeVersions(op), nil
	case OpPurgeSecret:
		return t.purgeSecret(op.Key), nil
	case OpSetLimits:
		return t.setLimits(op), nil
	case OpGrantLease:
		return t.grantLease(op), nil
	case OpRenewLease:
		return t.renewLease(op), nil
	case OpConfirmLease:
		return t.confirmLease(op), nil
	case OpRevokeLease:
		return t.revokeLease(op.Key), nil
	case OpEndLease:
		return t.endLease(op.Key), nil
	case OpReleaseLease:
		return t.releaseLease(op.Key), nil
	case OpPurgePrefix:
		t.enqueue(&pending{kind: pendingPurgeRecords, key: op.Key})
		t.enqueue(&pending{kind: pendingPurgeSecrets, key: op.Key})
		return RefusedNone, nil
	case OpRevokeGroup:
		t.enqueue(&pending{kind: pendingGroup, key: op.Key, limit: t.index})
		return RefusedNone, nil
	case OpRevokePrefix:
		t.enqueue(&pending{kind: pendingPrefix, key: op.Key, limit: t.index})
		return RefusedNone, nil
	}
	return RefusedNone, fmt.Errorf("operation kind %d is not one this version knows", op.Kind)
}

func (t *tx) setFeatureLevel(op *Operation) (RefusedReason, error) {
	if op.Number > featureLevel {
		return RefusedNone, fmt.Errorf("feature level %d is above %d, the highest this version knows", op.Number, featureLevel)
	}
	if op.Number < t.meta.Level {
		return RefusedMalformed, nil
	}
	t.meta.Level = op.Number
	return RefusedNone, nil
}

func (t *tx) putRecord(op *Operation) RefusedReason {
	if op.Lease != nil {
		if checkKey(op.Lease) != nil {
			return RefusedMalformed
		}
		if t.liveLease(op.Lease) == nil {
			return RefusedLeaseUnknown
		}
	}
	t.deleteRecord(op.Key) // with its entry in the index of its owner
	t.set(recordKey(op.Key), encodeRecord(&Record{Revision: t.index, Written: t.now, Lease: op.Lease, Value: op.Value}))
	if op.Lease != nil {
		t.enlist(recordByLeaseKey(op.Lease, op.Key)) // deleteRecord took away an earlier one
	}
	return RefusedNone
}

func (t *tx) deleteRecord(k Key) {
	p, ok, err := t.Get(recordKey(k))
	t.note(err)
	t.touched = append(t.touched, Space(k[0]))
	if !ok {
		return
	}
	row, err := decodeRecord(p)
	if t.note(err); err != nil {
		return
	}
	if row.Lease != nil {
		t.delist(recordByLeaseKey(row.Lease, k))
	}
	t.del(recordKey(k))
}

// saveSpaces writes the revision of every record space that the entry touched.
func (t *tx) saveSpaces() {
	spaces := make([]Space, 0, len(t.spaces))
	for s := range t.spaces {
		spaces = append(spaces, s)
	}
	slices.Sort(spaces)
	for _, s := range spaces {
		w := newRow(12)
		w.uint(t.index)
		t.set(spaceKey(s), w.p)
	}
	t.keep()
}

func (t *tx) appendVersion(op *Operation) RefusedReason {
	h := t.head(op.Key)
	if h == nil {
		h = &Head{Created: t.now}
	}
	if op.Number != h.Current+1 || op.TTL < 0 || op.TTL > MaxTTL {
		return RefusedMalformed
	}
	h.Current, h.Revision, h.Updated = op.Number, t.index, t.now
	if h.Oldest == 0 {
		h.Oldest = 1
	}
	v := &Version{Revision: t.index, Created: t.now, Value: op.Value}
	if op.TTL > 0 {
		v.DeletedAt = t.now.Add(op.TTL)
	}
	// No version above Current is ever there.
	t.insert(versionKey(op.Key, op.Number), encodeVersion(v))
	t.trim(op.Key, h)
	t.set(headKey(op.Key), encodeHead(h))
	return RefusedNone
}

// maxTrim bounds how many old versions one append removes, after a limit was
// lowered by much; the appends that follow go on.
const maxTrim = 128

func (t *tx) trim(k Key, h *Head) {
	keep := h.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	for n := 0; h.Current-h.Oldest+1 > keep && n < maxTrim; n++ {
		t.del(versionKey(k, h.Oldest))
		h.Oldest++
	}
}

// changeVersions deletes, undeletes or destroys the versions op.Numbers.
func (t *tx) changeVersions(op *Operation) RefusedReason {
	if len(op.Numbers) == 0 || len(op.Numbers) > MaxNumbers {
		return RefusedMalformed
	}
	h := t.head(op.Key)
	if h == nil {
		return RefusedSecretUnknown
	}
	for _, n := range op.Numbers {
		v := t.version(op.Key, n)
		if v == nil {
			return RefusedVersionUnknown
		}
		if reason := v.change(op.Kind, t.now); reason != RefusedNone {
			return reason
		}
		v.Revision = t.index
		t.set(versionKey(op.Key, n), encodeVersion(v))
	}
	h.Revision, h.Updated = t.index, t.now
	t.set(headKey(op.Key), encodeHead(h))
	return RefusedNone
}

func (v *Version) change(kind OperationKind, now LogTime) RefusedReason {
	switch kind {
	case OpDeleteVersions:
		if !v.Deleted(now) {
			v.DeletedAt = now
		}
	case OpUndeleteVersions:
		if v.Destroyed {
			return RefusedDestroyed
		}
		v.DeletedAt = 0
	case OpDestroyVersions:
		v.Destroyed, v.Value = true, nil
	}
	return RefusedNone
}

func (t *tx) purgeSecret(k Key) RefusedReason {
	h := t.head(k)
	if h == nil {
		return RefusedSecretUnknown
	}
	for n := h.Oldest; n != 0 && n <= h.Current; n++ {
		t.del(versionKey(k, n))
	}
	t.del(headKey(k))
	return RefusedNone
}

func (t *tx) setLimits(op *Operation) RefusedReason {
	if op.Number > MaxKeep {
		return RefusedMalformed
	}
	h := t.head(op.Key)
	if h == nil {
		h = &Head{Created: t.now}
	}
	h.Keep, h.Revision, h.Updated = op.Number, t.index, t.now
	t.set(headKey(op.Key), encodeHead(h))
	return RefusedNone
}
