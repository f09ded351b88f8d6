package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// This file holds the durable form of every row, in the order of the tables in
// keys.go. Each value starts with the number of its format, so that a later
// release can tell what it reads. Numbers are unsigned varints, byte strings
// carry their length in front; the last byte string takes what is left.

const formatRow1 = 0x01

// A Record is one row of the record table.
//
//	format | revision | written | len(lease) lease | value
type Record struct {
	Revision Revision
	Written  LogTime
	Lease    Key // the owning lease; nil when nobody owns the record
	Value    []byte
}

// A Head describes a secret as a whole.
//
//	format | revision | current | oldest | keep | created | updated
type Head struct {
	Revision Revision
	Current  uint64 // the newest version's number; 0: none was ever written
	Oldest   uint64 // the oldest number that may still be there
	Keep     uint64 // how many versions to keep; 0: DefaultKeep
	Created  LogTime
	Updated  LogTime
}

// A Version is one version of a secret.
//
//	format | revision | created | deleted at | destroyed (0 or 1) | value
type Version struct {
	Revision  Revision
	Created   LogTime
	DeletedAt LogTime // 0: never; in the future: the version expires then
	Destroyed bool
	Value     []byte // nil once destroyed
}

// Deleted tells whether the version is deleted at time now.
func (v *Version) Deleted(now LogTime) bool { return v.DeletedAt != 0 && v.DeletedAt <= now }

// A Lease is one row of the lease table.
//
//	format | generation | state | revision | granted | ttl | issued | expires
//	       | max expires | depth | len(owner) owner | len(effect) effect
//	       | len(tally) tally | number of groups | len(group) group … | value
type Lease struct {
	Generation uint64
	State      LeaseState
	Revision   Revision
	Granted    Revision
	TTL        time.Duration // what it was granted or last renewed with
	Issued     LogTime
	Expires    LogTime
	MaxExpires LogTime
	Depth      uint64 // how many owners stood above it when it was granted
	Owner      Key
	Effect     Key // the outside system on which it has an effect that must be undone; nil: none
	Tally      Key // which it counts for while it is alive; nil: none
	Groups     []Key
	Value      []byte
}

// Alive tells whether the lease itself is usable at time now. Its owners must
// be, too: see View.Lease.
func (l *Lease) Alive(now LogTime) bool {
	return (l.State == LeaseActive || l.State == LeasePending) && now < l.Expires
}

// A session row remembers one proposer.
type sessionRow struct {
	Opened   LogTime
	LastUsed LogTime
	Answered uint64
}

// errRow is what every decoder returns; the caller adds which row it was.
var errRow = errors.New("row is damaged")

type rowWriter struct{ p []byte }

func newRow(size int) *rowWriter {
	w := &rowWriter{make([]byte, 0, size)}
	w.p = append(w.p, formatRow1)
	return w
}

func (w *rowWriter) uint(vs ...uint64) {
	for _, v := range vs {
		w.p = binary.AppendUvarint(w.p, v)
	}
}

func (w *rowWriter) bytes(b []byte) {
	w.p = binary.AppendUvarint(w.p, uint64(len(b)))
	w.p = append(w.p, b...)
}

type rowReader struct {
	p   []byte
	err error
}

func openRow(p []byte) *rowReader {
	if len(p) == 0 || p[0] != formatRow1 {
		return &rowReader{err: errRow}
	}
	return &rowReader{p: p[1:]}
}

func (r *rowReader) uint() uint64 {
	v, n := binary.Uvarint(r.p)
	if n <= 0 {
		r.err, r.p = errRow, nil
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *rowReader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.p)) {
		r.err, r.p = errRow, nil
		return nil
	}
	if n == 0 {
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

// rest takes what is left as the last field.
func (r *rowReader) rest() []byte {
	b := r.p
	r.p = nil
	if len(b) == 0 {
		return nil
	}
	return b
}

func (r *rowReader) end(what string) error {
	if r.err == nil && len(r.p) > 0 {
		r.err = errRow
	}
	if r.err != nil {
		return fmt.Errorf("%s %w", what, r.err)
	}
	return nil
}

func encodeRecord(r *Record) []byte {
	w := newRow(len(r.Value) + len(r.Lease) + 32)
	w.uint(r.Revision, uint64(r.Written))
	w.bytes(r.Lease)
	w.p = append(w.p, r.Value...)
	return w.p
}

func decodeRecord(p []byte) (*Record, error) {
	r := openRow(p)
	row := &Record{Revision: r.uint(), Written: LogTime(r.uint()), Lease: r.bytes(), Value: r.rest()}
	return row, r.end("record")
}

func encodeHead(h *Head) []byte {
	w := newRow(48)
	w.uint(h.Revision, h.Current, h.Oldest, h.Keep, uint64(h.Created), uint64(h.Updated))
	return w.p
}

func decodeHead(p []byte) (*Head, error) {
	r := openRow(p)
	row := &Head{Revision: r.uint(), Current: r.uint(), Oldest: r.uint(), Keep: r.uint(),
		Created: LogTime(r.uint()), Updated: LogTime(r.uint())}
	return row, r.end("secret head")
}

func encodeVersion(v *Version) []byte {
	w := newRow(len(v.Value) + 40)
	w.uint(v.Revision, uint64(v.Created), uint64(v.DeletedAt), bit(v.Destroyed))
	w.p = append(w.p, v.Value...)
	return w.p
}

func decodeVersion(p []byte) (*Version, error) {
	r := openRow(p)
	row := &Version{Revision: r.uint(), Created: LogTime(r.uint()), DeletedAt: LogTime(r.uint()),
		Destroyed: r.uint() == 1, Value: r.rest()}
	return row, r.end("secret version")
}

func encodeLease(l *Lease) []byte {
	w := newRow(len(l.Value) + len(l.Owner) + len(l.Effect) + len(l.Tally) + 80)
	w.uint(l.Generation, uint64(l.State), l.Revision, l.Granted, uint64(l.TTL),
		uint64(l.Issued), uint64(l.Expires), uint64(l.MaxExpires), l.Depth)
	w.bytes(l.Owner)
	w.bytes(l.Effect)
	w.bytes(l.Tally)
	w.uint(uint64(len(l.Groups)))
	for _, g := range l.Groups {
		w.bytes(g)
	}
	w.p = append(w.p, l.Value...)
	return w.p
}

func decodeLease(p []byte) (*Lease, error) {
	r := openRow(p)
	row := &Lease{Generation: r.uint(), State: LeaseState(r.uint()),
		Revision: r.uint(), Granted: r.uint(), TTL: time.Duration(r.uint()), Issued: LogTime(r.uint()),
		Expires: LogTime(r.uint()), MaxExpires: LogTime(r.uint()), Depth: r.uint(), Owner: r.bytes(), Effect: r.bytes(), Tally: r.bytes()}
	n := r.uint()
	if n > MaxGroups {
		return nil, fmt.Errorf("lease %w", errRow)
	}
	for range n {
		row.Groups = append(row.Groups, r.bytes())
	}
	row.Value = r.rest()
	return row, r.end("lease")
}

// A count of leases.
//
//	format | count
func encodeCount(n uint64) []byte {
	w := newRow(10)
	w.uint(n)
	return w.p
}

func decodeCount(p []byte) (uint64, error) {
	r := openRow(p)
	n := r.uint()
	return n, r.end("count")
}

func encodeSession(s *sessionRow) []byte {
	w := newRow(32)
	w.uint(uint64(s.Opened), uint64(s.LastUsed), s.Answered)
	return w.p
}

func decodeSession(p []byte) (*sessionRow, error) {
	r := openRow(p)
	row := &sessionRow{Opened: LogTime(r.uint()), LastUsed: LogTime(r.uint()), Answered: r.uint()}
	return row, r.end("session")
}

// answers are the results that one entry gave to one session.
type answers struct {
	index   uint64
	results []numberedResult
}

type numberedResult struct {
	sequence uint64
	result   Result
}

func (a *answers) last() uint64 {
	var m uint64
	for _, r := range a.results {
		m = max(m, r.sequence)
	}
	return m
}

func encodeAnswers(a *answers) []byte {
	w := newRow(16 + 12*len(a.results))
	w.uint(uint64(len(a.results)))
	for _, r := range a.results {
		w.uint(r.sequence, uint64(r.result.Code), uint64(r.result.Time), uint64(r.result.Guard), uint64(r.result.Reason))
	}
	return w.p
}

func decodeAnswers(index uint64, p []byte) (*answers, error) {
	r := openRow(p)
	a := &answers{index: index}
	n := r.uint()
	if n > uint64(len(p)) {
		return nil, fmt.Errorf("answers %w", errRow)
	}
	for range n {
		if r.err != nil {
			break
		}
		a.results = append(a.results, numberedResult{sequence: r.uint(), result: Result{Code: ResultCode(r.uint()),
			Index: index, Time: LogTime(r.uint()), Guard: int(r.uint()), Reason: RefusedReason(r.uint())}})
	}
	return a, r.end("answers")
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
