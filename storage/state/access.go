package state

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// A Reader reads the map: a View, or a Txn that sees its own changes.
type Reader interface {
	// Get returns a copy of the value, which the caller owns, and whether it is there.
	Get(key []byte) ([]byte, bool, error)
	// Cursor walks the keys in [lower, upper) in order. The caller must Close it.
	Cursor(lower, upper []byte) (*Cursor, error)
}

// A View is the map as it was when the View was taken. It is safe for
// concurrent use and must be closed, for it holds old data on disk.
type View struct {
	store *Store
	gen   *generation
	snap  *pebble.Snapshot
}

// View takes a stable view of all that was committed.
func (s *Store) View() (*View, error) {
	g, err := s.acquire()
	if err != nil {
		return nil, err
	}
	return &View{store: s, gen: g, snap: g.db.NewSnapshot()}, nil
}

// Get implements Reader.
func (v *View) Get(key []byte) ([]byte, bool, error) { return v.store.get(v.snap, key) }

// Cursor implements Reader.
func (v *View) Cursor(lower, upper []byte) (*Cursor, error) {
	return v.store.cursor(v.snap, lower, upper)
}

// Close releases the view.
func (v *View) Close() error {
	return errors.Join(v.store.guard(v.snap.Close), v.store.release(v.gen))
}

// A Txn collects changes and shows them to its own reads. Commit writes them
// atomically; they become durable at the next Flush, or when Pebble sees fit,
// in the order of the commits. One goroutine, one Txn at a time.
//
// To look at one's own changes needs an index over them, which costs more than
// the changes; so it is built when somebody looks for the first time. GetBefore
// does not look.
type Txn struct {
	store   *Store
	gen     *generation
	batch   *pebble.Batch
	indexed bool
	before  *pebble.Iterator // over the map without the changes; nil until it is needed
}

// Begin starts a transaction. End it with Commit or Discard.
func (s *Store) Begin() (*Txn, error) {
	g, err := s.acquire()
	if err != nil {
		return nil, err
	}
	return &Txn{store: s, gen: g, batch: g.db.NewBatch()}, nil
}

// Get implements Reader.
func (t *Txn) Get(key []byte) ([]byte, bool, error) {
	if err := t.index(); err != nil {
		return nil, false, err
	}
	return t.store.get(t.batch, key)
}

// GetBefore is Get on the map as it was when the transaction began, without the
// changes made since: for callers that remember what they wrote.
//
// One iterator serves all lookups of the transaction, which is cheaper than a
// Get each. And it may ask the bloom filters of the lowest level, where most of
// the map lies: Pebble's Get never does and reads a block from the disk to learn
// that a key is not there, which for a new receipt, lease or token is the rule.
func (t *Txn) GetBefore(key []byte) (value []byte, found bool, err error) {
	err = t.store.guard(func() (err error) {
		if t.before == nil {
			if t.before, err = t.gen.db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err != nil {
				return err
			}
		}
		// The prefix of a key is the whole key (Pebble's default comparer), so
		// what is found is the key itself.
		if found = t.before.SeekPrefixGE(key); !found {
			return t.before.Error()
		}
		v, err := t.before.ValueAndErr()
		value = append([]byte(nil), v...)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading state: %w", err)
	}
	return value, found, nil
}

// Cursor implements Reader. It sees the changes made before it was opened.
func (t *Txn) Cursor(lower, upper []byte) (*Cursor, error) {
	if err := t.index(); err != nil {
		return nil, err
	}
	return t.store.cursor(t.batch, lower, upper)
}

// index makes the changes so far, and all that follow, visible to reads.
func (t *Txn) index() error {
	if t.indexed {
		return nil
	}
	indexed := t.gen.db.NewIndexedBatch()
	if err := indexed.Apply(t.batch, nil); err != nil {
		return errors.Join(fmt.Errorf("reading state: %w", err), indexed.Close())
	}
	plain := t.batch
	t.batch, t.indexed = indexed, true
	return plain.Close()
}

// Set writes key. The slices are copied.
func (t *Txn) Set(key, value []byte) error { return t.batch.Set(key, value, nil) }

// Delete removes key.
func (t *Txn) Delete(key []byte) error { return t.batch.Delete(key, nil) }

// Commit applies the changes in one atomic write, without waiting for the disk.
func (t *Txn) Commit() error {
	err := t.store.guardWait(func() error { return t.batch.Commit(pebble.NoSync) })
	if err != nil {
		err = fmt.Errorf("committing state: %w", err)
	}
	return errors.Join(err, t.end())
}

// Discard drops the changes.
func (t *Txn) Discard() error { return t.end() }

func (t *Txn) end() error {
	err := t.closeBefore()
	return errors.Join(err, t.store.guard(t.batch.Close), t.store.release(t.gen))
}

func (t *Txn) closeBefore() error {
	if t.before == nil {
		return nil
	}
	it := t.before
	t.before = nil
	return t.store.guard(it.Close)
}

// A Cursor walks keys in order. It starts before the first.
type Cursor struct {
	store  *Store
	it     *pebble.Iterator
	placed bool
	err    error // the store failed under the cursor
}

// Next moves to the next key, at first to the first; false at the end or on an
// error (see Err).
func (c *Cursor) Next() bool {
	if !c.placed {
		c.placed = true
		return c.move(c.it.First)
	}
	return c.move(c.it.Next)
}

func (c *Cursor) move(step func() bool) (ok bool) {
	err := c.store.guard(func() error { ok = step(); return nil })
	if err != nil {
		c.err, ok = err, false
	}
	return ok
}

// SeekGE moves to the first key at or after key.
func (c *Cursor) SeekGE(key []byte) bool {
	c.placed = true
	return c.move(func() bool { return c.it.SeekGE(key) })
}

// Key is valid until the cursor moves.
func (c *Cursor) Key() []byte { return c.it.Key() }

// Value is valid until the cursor moves.
func (c *Cursor) Value() ([]byte, error) {
	v, err := c.it.ValueAndErr()
	if err != nil {
		return nil, c.store.judge(err)
	}
	return v, nil
}

// Err returns what stopped the cursor before the end, if anything.
func (c *Cursor) Err() error {
	if c.err != nil {
		return c.err
	}
	if err := c.it.Error(); err != nil {
		return c.store.judge(err)
	}
	return nil
}

// Close releases the cursor and returns what Err would.
func (c *Cursor) Close() error { return c.store.guard(c.it.Close) }

func (s *Store) get(r pebble.Reader, key []byte) (out []byte, found bool, err error) {
	err = s.guard(func() error {
		value, closer, err := r.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		out, found = append([]byte(nil), value...), true
		return closer.Close()
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading state: %w", err)
	}
	return out, found, nil
}

func (s *Store) cursor(r pebble.Reader, lower, upper []byte) (*Cursor, error) {
	c := &Cursor{store: s}
	err := s.guard(func() (err error) {
		c.it, err = r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading state: %w", err)
	}
	return c, nil
}

// After returns the first key that does not start with prefix, to end a range
// with; nil, no end, when prefix is all 0xff.
func After(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// A Writer fills the new map during Replace.
type Writer struct {
	store *Store
	db    *pebble.DB
	batch *pebble.Batch
}

// replaceBatchBytes bounds the memory that Replace collects before it writes.
const replaceBatchBytes = 1 << 20

// Set writes key. The slices are copied.
func (w *Writer) Set(key, value []byte) error {
	if err := w.batch.Set(key, value, nil); err != nil {
		return err
	}
	if w.batch.Len() < replaceBatchBytes {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if err := w.store.guardWait(func() error { return w.batch.Commit(pebble.NoSync) }); err != nil {
		return err
	}
	if err := w.batch.Close(); err != nil {
		return err
	}
	w.batch = w.db.NewBatch()
	return nil
}

// Replace builds a new map aside, with fill, and swaps it in when fill and every
// write succeeded; on return it is durable. On any error, and after a crash at
// any moment, the old map is untouched. Views taken before stay on the old map.
func (s *Store) Replace(fill func(*Writer) error) error {
	s.mu.Lock()
	if s.live == nil {
		s.mu.Unlock()
		return ErrClosed
	}
	if err := s.Failed(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.serial++
	name := mapName(s.serial)
	s.mu.Unlock()

	path := s.fs.PathJoin(s.dir, name)
	if err := s.fs.RemoveAll(path); err != nil {
		return fmt.Errorf("clearing the place of the new state: %w", err)
	}
	db, err := s.build(path, fill)
	if err != nil {
		return errors.Join(fmt.Errorf("replacing state: %w", err), s.fs.RemoveAll(path))
	}
	if err := vfs.AtomicWrite(s.fs, s.fs.PathJoin(s.dir, currentFile), []byte(name+"\n")); err != nil {
		// Whether the rename took place is not known, so both maps stay; the
		// next Open keeps the one that the file names.
		return errors.Join(fmt.Errorf("replacing state: %w", err), s.guardWait(db.Close))
	}

	s.mu.Lock()
	old := s.live
	s.live = &generation{db: db, path: path, refs: 1}
	old.gone = true
	s.mu.Unlock()
	if err := s.release(old); err != nil {
		// The new map is in place, which is what was asked. If this was more than
		// untidiness, the store has failed and the next call says so.
		s.opts.Logger.Warn("replaced state could not be closed", "error", err)
	}
	return nil
}

func (s *Store) build(path string, fill func(*Writer) error) (*pebble.DB, error) {
	db, err := s.openMap(path, anyMap)
	if err != nil {
		return nil, err
	}
	w := &Writer{store: s, db: db, batch: db.NewBatch()}
	err = fill(w)
	if err == nil {
		err = w.flush()
	}
	err = errors.Join(err, w.batch.Close())
	if err == nil {
		err = s.flush(db)
	}
	if err != nil {
		return nil, errors.Join(err, s.guardWait(db.Close))
	}
	return db, nil
}
