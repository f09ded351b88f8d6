package fsm

import (
	"testing"

	"github.com/conclave-secrets/conclave/storage/state"
)

// audit checks the invariants between the tables: every index has the rows it
// should and no others, what is owned has an owner, no version is missing.
func audit(t testing.TB, s *state.Store) {
	t.Helper()
	all := rows(t, s)
	want := map[string]bool{} // index rows
	queued := map[string]bool{}
	versions := map[string]bool{}
	counts := map[string]uint64{}
	for k, v := range all {
		if err := checkRow([]byte(k), []byte(v)); err != nil {
			t.Errorf("row %q: %v", k, err)
			continue
		}
		switch id := []byte(k[1:]); k[0] {
		case tableRecord:
			r, _ := decodeRecord([]byte(v)) // checkRow decoded it
			if r.Lease != nil {
				want[string(recordByLeaseKey(r.Lease, id))] = true
				owned(t, all, "record", id, r.Lease)
			}
		case tableHead:
			h, _ := decodeHead([]byte(v))
			for n := max(1, h.Oldest); n <= h.Current; n++ {
				versions[string(versionKey(id, n))] = true
			}
		case tableLease:
			auditLease(t, all, id, []byte(v), want, counts)
		case tableQueue:
			p, _ := decodePending([]byte(v))
			if p.kind == pendingEnd {
				queued[string(p.key)] = true
			}
		}
	}
	for k, v := range all {
		switch k[0] {
		case tableTally, tableUndone:
			if n, _ := decodeCount([]byte(v)); n != counts[k] {
				t.Errorf("count %q is %d; there are %d", k, n, counts[k])
			}
			delete(counts, k)
		case tableByExpiry, tableByOwner, tableByGroup, tableByEffect, tableRecordByLease:
			if !want[k] {
				t.Errorf("index row %q points to nothing", k)
			}
			delete(want, k)
		case tableVersion:
			if !versions[k] {
				t.Errorf("version row %q lies outside its head", k)
			}
			delete(versions, k)
		case tableLease:
			if l, _ := decodeLease([]byte(v)); (l.State == LeaseEnding || l.State == LeaseReleasing) && !queued[k[1:]] {
				t.Errorf("lease %q is %v and nobody ends it", k[1:], l.State)
			}
		}
	}
	for k, n := range counts {
		t.Errorf("%d are not counted in %q", n, k)
	}
	for k := range want {
		t.Errorf("index row %q is missing", k)
	}
	for k := range versions {
		t.Errorf("version row %q is missing", k)
	}
}

func auditLease(t testing.TB, all map[string]string, id, v []byte, want map[string]bool, counts map[string]uint64) {
	t.Helper()
	l, _ := decodeLease(v) // checkRow decoded it
	if l.State == LeaseRevoking {
		want[string(effectKey(l.Effect, id))] = true
		counts[string(undoneKey(l.Effect))]++
	}
	if l.State != LeaseActive && l.State != LeasePending {
		return
	}
	want[string(expiryKey(l.Expires, id))] = true
	if l.Tally != nil {
		counts[string(tallyKey(l.Tally))]++
	}
	for _, g := range l.Groups {
		want[string(groupKey(g, id))] = true
	}
	if l.Owner != nil {
		want[string(ownerKey(l.Owner, id))] = true
		if o := owned(t, all, "lease", id, l.Owner); o != nil && o.Depth+1 != l.Depth {
			t.Errorf("lease %q has depth %d under an owner of depth %d", id, l.Depth, o.Depth)
		}
	}
}

// owned checks that the owner of something has a row, and returns it.
func owned(t testing.TB, all map[string]string, what string, k, lease []byte) *Lease {
	t.Helper()
	v, ok := all[string(leaseKey(lease))]
	if !ok {
		t.Errorf("%s %q outlives its owner %q", what, k, lease)
		return nil
	}
	l, _ := decodeLease([]byte(v))
	return l
}
