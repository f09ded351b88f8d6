package fsm

import (
	"errors"

	"github.com/conclave-secrets/conclave/storage/state"
)

// tx is what a run of entries changes. Changes of one batch are staged first,
// so that a batch that turns out not to be possible leaves no trace; keep moves
// them into the store's transaction and into the running sum.
//
// Reads and writes note the first error and carry on with nothing, in the way of
// bufio.Writer; whoever ends a step looks at err. An error here means that the
// disk failed or a row is damaged: the machine halts, nothing is committed.
type tx struct {
	store *state.Txn
	rows  reader // reads through tx.Get
	meta  metaRow
	index uint64
	now   LogTime
	err   error

	// rowsSeen holds each row that was read or written in this transaction, nil
	// when absent: most rows are looked at twice or more on their way through.
	// Invariant: it holds every row that the transaction wrote, so that what it
	// does not hold may be read from below the transaction.
	rowsSeen map[string][]byte

	before  cachedRows // the state below the transaction
	cache   *rowCache
	written []string // keys of the rows that the transaction wrote

	staged  map[string][]byte // changes of the batch at work; nil: deleted
	order   []string          // keys of staged, as they came
	touched []Space           // record spaces that the batch at work wrote
	saved   metaRow           // meta before the batch at work

	spaces map[Space]bool // record spaces written in the entry at work
	leases bool           // some lease was written: the next expiry may have moved
	expire uint64         // how many due leases the entry at work may end
	wanted uint64         // the same, before the batch at work
}

func newTx(store *state.Txn, meta metaRow, cache *rowCache) *tx {
	t := &tx{store: store, meta: meta, cache: cache, staged: map[string][]byte{}, rowsSeen: map[string][]byte{}}
	t.before = cachedRows{before{store}, cache, meta.Applied}
	t.rows.from = t
	return t
}

// enter starts an entry.
func (t *tx) enter(index, term uint64, at LogTime) {
	t.index = index
	t.meta.Applied, t.meta.Term = index, term
	t.meta.Time = max(t.meta.Time, at)
	t.now, t.rows.now = t.meta.Time, t.meta.Time
	t.spaces = map[Space]bool{}
	t.expire, t.wanted = 0, 0
	t.saved = t.meta
}

// note keeps the first error.
func (t *tx) note(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Get implements getter over what is staged and what the store holds.
func (t *tx) Get(key []byte) ([]byte, bool, error) {
	if v, ok := t.staged[string(key)]; ok {
		return v, v != nil, nil
	}
	v, err := t.stored(key)
	return v, v != nil, err
}

// stored returns the row as the store's transaction has it, nil when absent. No
// row is empty: each starts with its format.
func (t *tx) stored(key []byte) ([]byte, error) {
	if v, ok := t.rowsSeen[string(key)]; ok {
		return v, nil
	}
	v, _, err := t.before.Get(key)
	if err == nil {
		t.rowsSeen[string(key)] = v
	}
	return v, err
}

func (t *tx) set(key, value []byte) {
	k := string(key)
	if _, ok := t.staged[k]; !ok {
		t.order = append(t.order, k)
	}
	t.staged[k] = value
}

// insert is set for a row that by an invariant of its table cannot exist yet,
// which saves the read of what it replaces. When the batch at work deleted the
// row first (a purge before an append), it does exist in the store.
func (t *tx) insert(key, value []byte) {
	_, changed := t.staged[string(key)]
	if _, seen := t.rowsSeen[string(key)]; !seen && !changed {
		t.rowsSeen[string(key)] = nil
	}
	t.set(key, value)
}

func (t *tx) del(key []byte) { t.set(key, nil) }

// indexed is the value of every row of an index.
var indexed = []byte{formatRow1}

// enlist adds a row to an index, which is there exactly as long as what it points
// to: since that was not, the row cannot be either, and is not looked for.
func (t *tx) enlist(key []byte) { t.insert(key, indexed) }

// delist takes away a row of an index that is there, since what it points to was.
func (t *tx) delist(key []byte) {
	_, changed := t.staged[string(key)]
	if _, seen := t.rowsSeen[string(key)]; !seen && !changed {
		t.rowsSeen[string(key)] = indexed
	}
	t.del(key)
}

// keep moves what is staged into the store's transaction.
func (t *tx) keep() {
	for _, k := range t.order {
		t.write([]byte(k), t.staged[k])
	}
	for _, s := range t.touched {
		t.spaces[s] = true
	}
	t.clear()
}

// drop forgets what is staged.
func (t *tx) drop() {
	t.meta, t.expire = t.saved, t.wanted
	t.clear()
}

func (t *tx) clear() {
	clear(t.staged)
	t.order, t.touched = t.order[:0], t.touched[:0]
	t.saved, t.wanted = t.meta, t.expire
}

// write changes one row in the store's transaction and in the running sum.
func (t *tx) write(key, value []byte) {
	old, err := t.stored(key)
	t.note(err)
	if old != nil {
		t.meta.Sum.sub(element(key, old))
	}
	t.rowsSeen[string(key)] = value
	t.written = append(t.written, string(key))
	if value != nil {
		t.meta.Sum.add(element(key, value))
		t.note(t.store.Set(key, value))
	} else if old != nil {
		t.note(t.store.Delete(key))
	}
}

// cacheWrites tells the cache what is about to be committed, as of the last entry.
func (t *tx) cacheWrites() {
	for _, k := range t.written {
		t.cache.wrote([]byte(k), t.rowsSeen[k], t.meta.Applied)
	}
}

// before reads the map as it was when the transaction began.
type before struct{ store *state.Txn }

func (b before) Get(key []byte) ([]byte, bool, error) { return b.store.GetBefore(key) }

// collect returns up to limit keys under prefix, without the prefix, that
// follow after. Nothing may be staged, for a cursor does not see it.
func (t *tx) collect(prefix, after []byte, limit int) [][]byte {
	lower := prefix
	if len(after) > 0 {
		lower = append(append(append([]byte(nil), prefix...), after...), 0)
	}
	return t.collectRange(lower, state.After(prefix), len(prefix), limit)
}

// collectRange returns up to limit keys in [lower, upper), each without its
// first cut bytes.
func (t *tx) collectRange(lower, upper []byte, cut, limit int) [][]byte {
	c, err := t.store.Cursor(lower, upper)
	if err != nil {
		t.note(err)
		return nil
	}
	var keys [][]byte
	for len(keys) < limit && c.Next() {
		keys = append(keys, append([]byte(nil), c.Key()[cut:]...))
	}
	t.note(errors.Join(c.Err(), c.Close()))
	return keys
}

// The reads of reader, with the error noted.

func (t *tx) record(k Key) *Record {
	row, err := t.rows.record(k)
	t.note(err)
	return row
}

func (t *tx) head(k Key) *Head {
	row, err := t.rows.head(k)
	t.note(err)
	return row
}

func (t *tx) version(k Key, n uint64) *Version {
	row, err := t.rows.version(k, n)
	t.note(err)
	return row
}

func (t *tx) lease(id Key) *Lease {
	row, err := t.rows.lease(id)
	t.note(err)
	return row
}

func (t *tx) liveLease(id Key) *Lease {
	row, err := t.rows.liveLease(id)
	t.note(err)
	return row
}

func (t *tx) spaceRevision(s Space) Revision {
	rev, err := t.rows.spaceRevision(s)
	t.note(err)
	return rev
}
