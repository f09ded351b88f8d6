package fsm

import (
	"errors"
	"fmt"
	"time"
)

// Ending a lease takes what it owns along, and that may be much. So it is done
// in two parts. First, at once and together with the batch that asked: the lease
// changes state, and from that moment neither it nor anything it owns is visible
// (reader.liveLease). Then the queue: what it owns is removed, a bounded number
// of rows an entry, by this entry and the ones that follow, whatever they carry.
//
// Invariant: every lease in state ending, releasing or revoking either has an end
// on the queue or owns nothing any more, and all but the last have one. A lease
// row goes only after everything it owns; so an id that is free to be granted
// again owns nothing, and nothing of an earlier holder comes back to life.

const (
	// maxSettlePerEntry bounds the rows that one entry removes from the queue,
	// so that a large cascade delays nobody for long.
	maxSettlePerEntry = 256
	// maxExpirePerEntry bounds the leases that one entry expires.
	maxExpirePerEntry = 1024
)

func (t *tx) grantLease(op *Operation) RefusedReason {
	if reason := t.checkGrant(op); reason != RefusedNone {
		return reason
	}
	l := &Lease{Generation: 1, State: op.State, Revision: t.index, Granted: t.index,
		TTL: op.TTL, Issued: t.now, Owner: op.Lease, Effect: op.Effect, Tally: op.Tally, Groups: op.Groups, Value: op.Value}
	if op.MaxTTL > 0 {
		l.MaxExpires = t.now.Add(op.MaxTTL)
	}
	if op.Lease != nil {
		owner := t.liveLease(op.Lease)
		if owner == nil {
			return RefusedLeaseUnknown
		}
		if owner.Depth >= MaxLeaseDepth {
			return RefusedLeaseState
		}
		l.Depth = owner.Depth + 1
		t.enlist(ownerKey(op.Lease, op.Key))
	}
	for _, g := range op.Groups {
		t.enlist(groupKey(g, op.Key))
	}
	if op.Tally != nil {
		t.tally(tallyKey(op.Tally), 1)
	}
	l.extend(op.TTL, t.now)
	t.enlist(expiryKey(l.Expires, op.Key))
	t.putLease(op.Key, l)
	return RefusedNone
}

// count reads a row of a table of counts; a row that is not there counts none.
func (t *tx) count(at []byte) uint64 {
	n, err := t.rows.count(at)
	t.note(err)
	return n
}

// tally adds to a row of a table of counts. One that has come to none goes.
func (t *tx) tally(at []byte, by int64) {
	n := int64(t.count(at)) + by
	if n < 0 {
		t.note(fmt.Errorf("count %q falls below none", at))
	}
	if n <= 0 {
		t.del(at)
		return
	}
	t.set(at, encodeCount(uint64(n)))
}

func (t *tx) checkGrant(op *Operation) RefusedReason {
	sane := op.TTL > 0 && op.TTL <= MaxTTL && op.MaxTTL >= 0 && op.MaxTTL <= MaxTTL && len(op.Groups) <= MaxGroups
	legal := op.State == LeaseActive || (op.State == LeasePending && op.Effect != nil)
	for _, g := range op.Groups {
		sane = sane && checkKey(g) == nil
	}
	for _, k := range []Key{op.Lease, op.Effect, op.Tally} {
		sane = sane && (k == nil || checkKey(k) == nil)
	}
	if !sane || !legal {
		return RefusedMalformed
	}
	if t.lease(op.Key) != nil {
		return RefusedLeaseExists
	}
	return RefusedNone
}

// extend sets the expiry to ttl from now, within the maximum.
func (l *Lease) extend(ttl time.Duration, now LogTime) {
	l.Expires = now.Add(ttl)
	if l.MaxExpires != 0 {
		l.Expires = min(l.Expires, l.MaxExpires)
	}
}

func (t *tx) putLease(id Key, l *Lease) {
	t.leases = true
	l.Revision = t.index
	t.set(leaseKey(id), encodeLease(l))
}

func (t *tx) renewLease(op *Operation) RefusedReason {
	l := t.liveLease(op.Key)
	switch {
	case l == nil:
		return RefusedLeaseUnknown
	case l.State != LeaseActive:
		return RefusedLeaseState
	case op.TTL < 0 || op.TTL > MaxTTL:
		return RefusedMalformed
	}
	if op.TTL > 0 {
		l.TTL = op.TTL
	}
	t.delist(expiryKey(l.Expires, op.Key))
	l.extend(l.TTL, t.now)
	l.Generation++
	t.enlist(expiryKey(l.Expires, op.Key))
	t.putLease(op.Key, l)
	return RefusedNone
}

func (t *tx) confirmLease(op *Operation) RefusedReason {
	l := t.liveLease(op.Key)
	switch {
	case l == nil:
		return RefusedLeaseUnknown
	case l.State != LeasePending:
		return RefusedLeaseState
	case op.TTL < 0 || op.TTL > MaxTTL:
		return RefusedMalformed
	}
	if op.TTL > 0 {
		t.delist(expiryKey(l.Expires, op.Key))
		l.TTL = op.TTL
		l.extend(l.TTL, t.now)
		t.enlist(expiryKey(l.Expires, op.Key))
	}
	l.State = LeaseActive
	l.Generation++
	if op.Value != nil {
		l.Value = op.Value
	}
	t.putLease(op.Key, l)
	return RefusedNone
}

// revokeLease ends a lease. One that is ending already is no error: to revoke
// twice is to revoke.
func (t *tx) revokeLease(id Key) RefusedReason {
	l := t.lease(id)
	if l == nil {
		return RefusedLeaseUnknown
	}
	t.beginEnd(id, l)
	return RefusedNone
}

// releaseLease ends a lease without those that it owns.
func (t *tx) releaseLease(id Key) RefusedReason {
	l := t.liveLease(id)
	switch {
	case l == nil:
		return RefusedLeaseUnknown
	case l.Effect != nil:
		return RefusedLeaseState
	}
	t.beginEndAs(id, l, LeaseReleasing)
	return RefusedNone
}

// beginEnd takes a lease out of use and puts its end on the queue.
func (t *tx) beginEnd(id Key, l *Lease) {
	as := LeaseEnding
	if l.Effect != nil {
		as = LeaseRevoking
	}
	t.beginEndAs(id, l, as)
}

func (t *tx) beginEndAs(id Key, l *Lease, as LeaseState) {
	if l.State != LeaseActive && l.State != LeasePending {
		return
	}
	t.delist(expiryKey(l.Expires, id))
	if l.Owner != nil {
		t.delist(ownerKey(l.Owner, id))
	}
	for _, g := range l.Groups {
		t.delist(groupKey(g, id))
	}
	if l.Tally != nil {
		t.tally(tallyKey(l.Tally), -1)
	}
	if as == LeaseRevoking {
		t.enlist(effectKey(l.Effect, id))
		t.tally(undoneKey(l.Effect), 1)
	}
	l.State = as
	l.Generation++
	t.putLease(id, l)
	t.enqueue(&pending{kind: pendingEnd, key: id})
}

// endLease removes a lease whose outside effect is undone. What the lease owns
// may still wait on the queue, so the row goes by way of the queue, too.
func (t *tx) endLease(id Key) RefusedReason {
	l := t.lease(id)
	switch {
	case l == nil:
		return RefusedLeaseUnknown
	case l.State != LeaseRevoking:
		return RefusedLeaseState
	}
	t.delist(effectKey(l.Effect, id))
	t.tally(undoneKey(l.Effect), -1)
	l.State = LeaseEnding
	l.Generation++
	t.putLease(id, l)
	t.enqueue(&pending{kind: pendingEnd, key: id})
	return RefusedNone
}

// pending is one row of the queue: an end that is not finished.
type pending struct {
	kind  pendingKind
	key   Key      // the lease, the group or the prefix
	limit Revision // groups and prefixes of leases: only those granted up to here
	after []byte   // groups and prefixes: where the walk stands
}

type pendingKind uint64

const (
	pendingEnd    pendingKind = 1 // remove what the lease key owns, then the lease
	pendingGroup  pendingKind = 2 // end every lease in the group key
	pendingPrefix pendingKind = 3 // end every lease whose id starts with key

	pendingPurgeRecords pendingKind = 4 // remove every record whose key starts with key
	pendingPurgeSecrets pendingKind = 5 // the same for secrets
)

func encodePending(p *pending) []byte {
	w := newRow(len(p.key) + len(p.after) + 16)
	w.uint(uint64(p.kind), p.limit)
	w.bytes(p.key)
	w.bytes(p.after)
	return w.p
}

func decodePending(b []byte) (*pending, error) {
	r := openRow(b)
	p := &pending{kind: pendingKind(r.uint()), limit: r.uint(), key: r.bytes(), after: r.bytes()}
	return p, r.end("queue")
}

func (t *tx) enqueue(p *pending) {
	t.insert(queueKey(t.meta.QueueNext), encodePending(p)) // serials are not used twice
	t.meta.QueueNext++
}

// settle ends leases that are due, if the entry asked for it, and works on the
// queue within the entry's budget.
func (t *tx) settle() {
	if t.expire > 0 {
		t.expireDue(int(t.expire))
	}
	for budget := maxSettlePerEntry; budget > 0 && t.meta.QueueHead < t.meta.QueueNext && t.err == nil; {
		budget -= t.settleOne(budget)
	}
}

// expireDue ends up to limit leases whose expiry has passed. Whether one has is
// decided here, on the row as it is now: a renewal that came first wins.
func (t *tx) expireDue(limit int) {
	due := key(tableByExpiry, number(uint64(t.now)+1))
	for _, id := range t.collectRange([]byte{tableByExpiry}, due, 1+8, limit) {
		l := t.lease(id)
		if l == nil {
			t.note(errors.New("the expiry index names a lease that is not there"))
			return
		}
		t.beginEnd(id, l)
		t.keep()
	}
}

// settleOne works on the oldest end of the queue and returns how many rows it
// cost, at least one.
func (t *tx) settleOne(budget int) (cost int) {
	at := queueKey(t.meta.QueueHead)
	raw, ok, err := t.Get(at)
	t.note(err)
	if !ok {
		t.note(fmt.Errorf("queue has no item %d", t.meta.QueueHead))
		return budget
	}
	p, err := decodePending(raw)
	if t.note(err); err != nil {
		return budget
	}
	var done bool
	switch p.kind {
	case pendingEnd:
		cost, done = t.settleEnd(p.key, budget)
	case pendingGroup:
		cost, done = t.settleWalk(p, key(tableByGroup, counted(p.key)), nil, budget)
	case pendingPrefix:
		cost, done = t.settleWalk(p, []byte{tableLease}, p.key, budget)
	case pendingPurgeRecords:
		cost, done = t.settlePurge(p, tableRecord, budget, t.purgeRecord)
	case pendingPurgeSecrets:
		cost, done = t.settlePurge(p, tableHead, budget, t.purgeVersions)
	default:
		t.note(fmt.Errorf("queue item %d has the unknown kind %d", t.meta.QueueHead, p.kind))
	}
	if done {
		t.del(at)
		t.meta.QueueHead++
	} else {
		t.set(at, encodePending(p))
	}
	t.keep()
	return cost + 1
}

// settleEnd removes what the lease id owns, and then the lease itself unless an
// outside effect keeps it. A lease may be on the queue twice, once for its end and
// once because its outside effect is undone; whoever holds the id by the time of
// the second is left alone.
func (t *tx) settleEnd(id Key, budget int) (cost int, done bool) {
	ending := t.lease(id)
	if ending == nil || ending.State == LeaseActive || ending.State == LeasePending {
		return 0, true
	}
	owned := key(tableRecordByLease, counted(id))
	records := t.collect(owned, nil, budget)
	for _, k := range records {
		if p, ok, err := t.Get(recordKey(k)); ok && err == nil {
			t.dropOwned(k, p, id)
		}
		t.delist(recordByLeaseKey(id, k))
	}
	cost = len(records)
	if cost < budget {
		children := t.collect(key(tableByOwner, counted(id)), nil, budget-cost)
		for _, child := range children {
			if l := t.lease(child); l != nil && ending.State == LeaseReleasing {
				l.Owner = nil
				t.putLease(child, l)
			} else if l != nil {
				t.beginEnd(child, l)
			}
			t.delist(ownerKey(id, child))
		}
		cost += len(children)
	}
	if cost == budget {
		return cost, false // there may be more
	}
	if ending.State != LeaseRevoking {
		t.leases = true
		t.del(leaseKey(id))
	}
	return cost, true
}

// dropOwned deletes a record if the lease still owns it: it may have been
// written again since, by somebody else.
func (t *tx) dropOwned(k Key, row []byte, lease Key) {
	r, err := decodeRecord(row)
	if t.note(err); err == nil && string(r.Lease) == string(lease) {
		t.del(recordKey(k))
		t.touched = append(t.touched, Space(k[0]))
	}
}

// settleWalk ends the next leases of a group or prefix. table is the index that
// is walked, under the part of it that starts with under.
func (t *tx) settleWalk(p *pending, table, under []byte, budget int) (cost int, done bool) {
	ids := t.collect(append(append([]byte(nil), table...), under...), p.after, budget)
	for _, rest := range ids {
		p.after = rest
		id := append(append([]byte(nil), under...), rest...)
		if l := t.lease(id); l != nil && l.Granted <= p.limit {
			t.beginEnd(id, l)
		}
	}
	return len(ids), len(ids) < budget
}

// settlePurge removes the next rows of a table below a prefix. remove takes one
// away, costs at most the rows that are left of the budget and tells whether all
// of it is gone.
func (t *tx) settlePurge(p *pending, table byte, budget int, remove func(k Key, budget int) (cost int, gone bool)) (cost int, done bool) {
	names := t.collect(key(table, p.key), p.after, budget)
	for i, rest := range names {
		spent, gone := remove(key(p.key[0], p.key[1:], rest), budget-cost)
		cost += spent
		if !gone {
			return cost, false // after stays in front of it
		}
		p.after = rest
		if cost >= budget {
			return cost, i == len(names)-1 && len(names) < budget
		}
	}
	return cost, len(names) < budget
}

func (t *tx) purgeRecord(k Key, _ int) (cost int, gone bool) {
	t.deleteRecord(k)
	return 1, true
}

// purgeVersions removes the oldest versions of a secret, and the secret with the
// last of them.
func (t *tx) purgeVersions(k Key, budget int) (cost int, gone bool) {
	h := t.head(k)
	if h == nil {
		return 0, true
	}
	for h.Oldest != 0 && h.Oldest <= h.Current {
		if cost == budget {
			h.Revision = t.index
			t.set(headKey(k), encodeHead(h))
			return cost, false
		}
		t.del(versionKey(k, h.Oldest))
		h.Oldest++
		cost++
	}
	t.del(headKey(k))
	return cost + 1, true
}
