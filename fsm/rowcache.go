package fsm

import (
	"hash/maphash"
	"sync"
)

// rowCache keeps rows that were written or read of late, absent ones too, in
// front of the store: a request reads the same few rows as the batch that it
// ends in, and a lookup in the store costs twenty times one here.
//
// Each row carries the index since which it is so: it holds for every view at or
// after that index, up to the newest state. Views before it read the store.
//
// Invariant: no entry differs from the newest state about to be committed.
// Writes enter before they are committed, when only older views exist, and
// those pass them by. A reader may add what it found at an index only if it can
// know of no later write: none is in the shard, and none was evicted from it
// since (floor).
type rowCache struct {
	seed   maphash.Seed
	limit  int // bytes of one shard
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu    sync.RWMutex
	rows  map[string]cachedRow
	bytes int
	floor uint64 // the highest since of what was evicted
}

type cachedRow struct {
	value []byte // nil: absent; shared, never changed
	since uint64
}

const (
	cacheShards = 32
	// cacheBytes bounds the whole cache, keys and bookkeeping included.
	cacheBytes = 12 << 20
	// cacheOverhead is what a row costs beside its bytes.
	cacheOverhead = 96
	// cacheLargest is the largest row that is kept.
	cacheLargest = 4 << 10
)

// newRowCache starts empty, on a state at index, and keeps up to limit bytes.
func newRowCache(index uint64, limit int) *rowCache {
	c := &rowCache{seed: maphash.MakeSeed(), limit: limit / cacheShards}
	for i := range c.shards {
		c.shards[i] = cacheShard{rows: map[string]cachedRow{}, floor: index}
	}
	return c
}

func (c *rowCache) shard(key []byte) *cacheShard {
	return &c.shards[maphash.Bytes(c.seed, key)%cacheShards]
}

// get returns the row as a view at index has it; hit is false if the cache
// cannot tell.
func (c *rowCache) get(key []byte, index uint64) (value []byte, hit bool) {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	row, ok := s.rows[string(key)]
	if !ok || row.since > index {
		return nil, false
	}
	return row.value, true
}

// found adds what a reader found at index in the store.
func (c *rowCache) found(key, value []byte, index uint64) {
	if !cacheable(key, value) {
		return
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rows[string(key)]; ok || index < s.floor {
		return
	}
	s.put(key, value, index, c.limit)
}

// wrote notes a row that the entry at index is about to commit.
func (c *rowCache) wrote(key, value []byte, index uint64) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.rows[string(key)]; ok {
		s.bytes -= size(key, old.value)
		delete(s.rows, string(key))
	}
	switch {
	case cacheable(key, value) && !writtenOnce(key, value):
		s.put(key, value, index, c.limit)
	case wanted(key):
		// What is not kept counts as evicted: a reader at an older view must
		// not bring the older row back.
		s.floor = max(s.floor, index)
	}
}

// writtenOnce tells which rows are mostly never looked at again: versions, and
// records that a lease owns, such as receipts. They would push out what is; a
// reader who wants one brings it in.
func writtenOnce(key, value []byte) bool {
	if key[0] == tableVersion {
		return true
	}
	if key[0] != tableRecord || value == nil {
		return false
	}
	r, err := decodeRecord(value)
	return err == nil && r.Lease != nil
}

// put adds a row, under mu, and evicts at random when the shard is full: Go's
// order of a map. A better choice would cost more than it saves.
func (s *cacheShard) put(key, value []byte, since uint64, limit int) {
	s.rows[string(key)] = cachedRow{value, since}
	s.bytes += size(key, value)
	if s.bytes <= limit {
		return
	}
	for k, row := range s.rows {
		if k == string(key) {
			continue
		}
		s.floor = max(s.floor, row.since)
		s.bytes -= size([]byte(k), row.value)
		delete(s.rows, k)
		if s.bytes <= limit/8*7 {
			return
		}
	}
}

func size(key, value []byte) int { return len(key) + len(value) + cacheOverhead }

func cacheable(key, value []byte) bool { return wanted(key) && len(key)+len(value) <= cacheLargest }

// wanted tells of which tables rows are worth it: those that requests look at.
func wanted(key []byte) bool {
	switch key[0] {
	case tableRecord, tableHead, tableVersion, tableLease, tableSpace:
		return true
	}
	return false
}

// cachedRows reads through the cache, at one index.
type cachedRows struct {
	from  getter
	cache *rowCache
	index uint64
}

// Get implements getter. The value is shared: it must not be changed.
func (c cachedRows) Get(key []byte) ([]byte, bool, error) {
	if v, hit := c.cache.get(key, c.index); hit {
		return v, v != nil, nil
	}
	v, ok, err := c.from.Get(key)
	if err == nil {
		c.cache.found(key, v, c.index)
	}
	return v, ok, stopped(err)
}
