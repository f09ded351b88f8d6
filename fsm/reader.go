package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/conclave-secrets/conclave/storage/state"
)

// getter is a point read: a stable view, or a transaction with its own changes.
type getter interface {
	Get(key []byte) ([]byte, bool, error)
}

// reader gives rows their meaning at a log time. Views and transactions share
// it, so that a guard and a reader can never disagree about what is there.
type reader struct {
	from getter
	now  LogTime
}

// record returns the record at k, or nil when it is absent. A record whose
// owning lease has ended is absent from that moment on, even while the cascade
// that removes it is still on its way.
func (r reader) record(k Key) (*Record, error) {
	p, ok, err := r.from.Get(recordKey(k))
	if err != nil || !ok {
		return nil, err
	}
	row, err := decodeRecord(p)
	if err != nil {
		return nil, err
	}
	if row.Lease != nil {
		l, err := r.liveLease(row.Lease)
		if err != nil || l == nil {
			return nil, err
		}
	}
	return row, nil
}

func (r reader) head(k Key) (*Head, error) {
	p, ok, err := r.from.Get(headKey(k))
	if err != nil || !ok {
		return nil, err
	}
	return decodeHead(p)
}

func (r reader) version(k Key, n uint64) (*Version, error) {
	p, ok, err := r.from.Get(versionKey(k, n))
	if err != nil || !ok {
		return nil, err
	}
	return decodeVersion(p)
}

// lease returns the row of a lease whatever its state; nil when there is none.
func (r reader) lease(id Key) (*Lease, error) {
	p, ok, err := r.from.Get(leaseKey(id))
	if err != nil || !ok {
		return nil, err
	}
	return decodeLease(p)
}

// liveLease returns the lease if it and all its owners are alive, else nil.
func (r reader) liveLease(id Key) (*Lease, error) {
	first, err := r.lease(id)
	if err != nil || first == nil || !first.Alive(r.now) {
		return nil, err
	}
	// Depth is bounded when a lease is granted, so this loop ends.
	for owner := first.Owner; owner != nil; {
		l, err := r.lease(owner)
		if err == nil && l != nil && l.State == LeaseReleasing {
			break // it lets go of what it owned, which thereby stands on its own
		}
		if err != nil || l == nil || !l.Alive(r.now) {
			return nil, err
		}
		owner = l.Owner
	}
	return first, nil
}

// count is what a row of a table of counts says; without a row it is none.
func (r reader) count(at []byte) (uint64, error) {
	p, ok, err := r.from.Get(at)
	if err != nil || !ok {
		return 0, err
	}
	return decodeCount(p)
}

func (r reader) spaceRevision(s Space) (Revision, error) {
	p, ok, err := r.from.Get(spaceKey(s))
	if err != nil || !ok {
		return 0, err
	}
	row := openRow(p)
	return row.uint(), row.end("space revision")
}

// rangeRevision counts the records under prefix and finds their highest
// revision. It gives up, with a count above limit, when there are more.
func rangeRevision(from state.Reader, prefix Key, now LogTime, limit uint64) (count uint64, highest Revision, err error) {
	lower := recordKey(prefix)
	c, err := from.Cursor(lower, state.After(lower))
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}()
	r := reader{from, now}
	for c.Next() && count <= limit {
		row, err := r.record(c.Key()[1:])
		if err != nil {
			return 0, 0, err
		}
		if row != nil {
			count++
			highest = max(highest, row.Revision)
		}
	}
	return count, highest, c.Err()
}

// metaRow is the machine's own bookkeeping, one row, written with every change.
type metaRow struct {
	Applied   uint64
	Term      uint64
	Time      LogTime
	Level     uint64
	QueueHead uint64 // serial of the oldest unfinished end
	QueueNext uint64 // serial that the next one gets
	Sum       sum
}

var metaKey = []byte{tableMeta}

func encodeMeta(m *metaRow) []byte {
	w := newRow(96)
	w.uint(m.Applied, m.Term, uint64(m.Time), m.Level, m.QueueHead, m.QueueNext)
	for _, limb := range m.Sum {
		w.p = binary.BigEndian.AppendUint64(w.p, limb)
	}
	return w.p
}

func decodeMeta(p []byte) (*metaRow, error) {
	r := openRow(p)
	m := &metaRow{Applied: r.uint(), Term: r.uint(), Time: LogTime(r.uint()), Level: r.uint(),
		QueueHead: r.uint(), QueueNext: r.uint()}
	rest := r.rest()
	if r.err == nil && len(rest) != 8*len(m.Sum) {
		r.err = errRow
	}
	if err := r.end("meta"); err != nil {
		return nil, err
	}
	for i := range m.Sum {
		m.Sum[i] = binary.BigEndian.Uint64(rest[8*i:])
	}
	return m, nil
}

func readMeta(from getter) (*metaRow, error) {
	p, ok, err := from.Get(metaKey)
	if err != nil {
		return nil, err
	}
	if !ok {
		return &metaRow{Level: 1}, nil
	}
	m, err := decodeMeta(p)
	if err != nil {
		return nil, fmt.Errorf("reading state: %w", err)
	}
	return m, nil
}
