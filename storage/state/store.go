// Package state is the disk of the state machine: an ordered map from byte keys
// to byte values in a Pebble store, read through stable views and changed by
// transactions that are atomic but not synced.
//
// Not syncing is safe, because the Raft log is the truth: after a power cut the
// map is some earlier state, whole, and the log is replayed from the applied
// index that lies inside the map and changed with it in one write.
//
// What the bytes mean is the business of package fsm. Nothing here knows a
// record, a lease or a key of the seal. Start reading at Store.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// format is the Pebble format that this release writes. It is pinned, not "the
// newest", so that an upgrade of the library does not change what is on disk.
const format = pebble.FormatValueSeparation

// currentFile names the directory of the live map. Replace swaps its content.
const currentFile = "current"

// ErrClosed is returned by everything on a closed Store.
var ErrClosed = errors.New("state store is closed")

// Options tunes a Store. Zero values mean the stated defaults.
type Options struct {
	// CacheBytes bounds the block cache, which grows as blocks are read, beside the
	// memtables. Default 24 MiB.
	CacheBytes int64
	// MemTableBytes bounds one memtable. The first has 256 KiB, each next one
	// twice that; up to two are in memory. Default 16 MiB.
	MemTableBytes uint64
	// Fatal is told, once, of an error after which the store cannot go on, and
	// has the process stopped. It is not called before Open has returned the
	// store. It may return: the store then refuses
	// everything with ErrFailed. It may be called on a goroutine of Pebble's,
	// with Pebble's locks held, and must not call the store. Default: panic.
	Fatal func(error)
	// Logger takes what the store has to say. Default: discard.
	Logger *slog.Logger
}

func (o *Options) defaults() {
	if o.CacheBytes == 0 {
		o.CacheBytes = 24 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// A Store holds the map in a directory of its own.
//
//	DIR/current      text: the name of the live map
//	DIR/map-000001/  a Pebble store
//
// Views and one transaction at a time may be used concurrently.
type Store struct {
	dir  string
	fs   vfs.FS
	opts Options

	failed  atomic.Pointer[error] // set once
	stop    chan struct{}         // closed after failed is set
	opening atomic.Bool           // Open itself reports what fails
	retries atomic.Int32          // background errors in a row

	mu     sync.Mutex
	live   *generation // guarded by mu; nil after Close
	serial uint64      // guarded by mu; number of the newest map directory
}

// A generation is one Pebble store with the count of its users. Replace makes
// a new one; the old goes when its last view is closed.
type generation struct {
	db   *pebble.DB
	path string
	refs int  // guarded by Store.mu; the Store itself holds one
	gone bool // guarded by Store.mu; replaced: remove the directory at the end
}

// Open opens the store in dir, creating it when it is not there, and removes
// what an interrupted Replace left behind. An error names what is wrong with
// which file; nothing is removed before the live map has opened.
func Open(dir string, fsys vfs.FS, opts Options) (*Store, error) {
	opts.defaults()
	s := &Store{dir: dir, fs: fsys, opts: opts, stop: make(chan struct{})}
	s.opening.Store(true)
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return nil, fmt.Errorf("opening state store: %w", err)
	}
	name, err := s.readCurrent()
	if err == nil && name == "" {
		name, err = s.create()
	}
	if err == nil {
		s.serial, err = mapSerial(name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening state store: %w", err)
	}
	path := fsys.PathJoin(dir, name)
	db, err := s.openMap(path, existing)
	if err != nil {
		return nil, fmt.Errorf("opening state store: %w", err)
	}
	if err := s.removeStrays(name); err != nil {
		return nil, errors.Join(fmt.Errorf("opening state store: %w", err), db.Close())
	}
	s.live = &generation{db: db, path: path, refs: 1}
	s.opening.Store(false)
	if err := s.Failed(); err != nil {
		return nil, fmt.Errorf("opening state store: %w", err)
	}
	return s, nil
}

// create makes the first map, and then the file that names it: a crash in
// between leaves a map that create finds and takes. Any other map without that
// file is a store that has lost it; to start afresh would be to forget.
func (s *Store) create() (name string, err error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return "", fmt.Errorf("listing directory: %w", err)
	}
	name = mapName(1)
	for _, n := range names {
		if strings.HasPrefix(n, mapPrefix) && n != name {
			return "", fmt.Errorf("%s is missing, but there is %s", s.fs.PathJoin(s.dir, currentFile), n)
		}
	}
	db, err := s.openMap(s.fs.PathJoin(s.dir, name), anyMap)
	if err != nil {
		return "", err
	}
	if err := s.guardWait(db.Close); err != nil {
		return "", err
	}
	return name, vfs.AtomicWrite(s.fs, s.fs.PathJoin(s.dir, currentFile), []byte(name+"\n"))
}

const mapPrefix = "map-"

func mapName(serial uint64) string { return fmt.Sprintf(mapPrefix+"%06d", serial) }

func mapSerial(name string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, mapPrefix), 10, 64)
	if err != nil || mapName(n) != name {
		return 0, fmt.Errorf("file %s is damaged: %q is not the name of a map", currentFile, name)
	}
	return n, nil
}

func (s *Store) readCurrent() (string, error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading file %s: %w", currentFile, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("reading file %s: %w", currentFile, err)
	}
	name, ended := strings.CutSuffix(string(data), "\n")
	if !ended {
		return "", fmt.Errorf("file %s is damaged: its line does not end", currentFile)
	}
	return name, nil
}

// removeStrays removes map directories other than keep: a crash during Replace
// leaves a half-built or a replaced one.
func (s *Store) removeStrays(keep string) error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("listing state directory: %w", err)
	}
	for _, name := range names {
		if name == keep || !strings.HasPrefix(name, mapPrefix) {
			continue
		}
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.dir, name)); err != nil {
			return fmt.Errorf("removing stray %s: %w", name, err)
		}
	}
	return nil
}

// whether says what openMap wants to find.
type whether int

const (
	anyMap   whether = iota // an empty one is created when there is none
	existing                // there must be one
)

func (s *Store) openMap(path string, want whether) (*pebble.DB, error) {
	// Pebble takes the memory of its memtables off the size of the cache. A cache
	// that only just held two of them would keep no block while they are full.
	cache := pebble.NewCache(s.opts.CacheBytes + 2*int64(s.opts.MemTableBytes))
	defer cache.Unref() // the DB holds its own reference
	o := &pebble.Options{
		Cache:              cache,
		ErrorIfNotExists:   want == existing,
		FS:                 mapFS{s.fs, s},
		FormatMajorVersion: format,
		MemTableSize:       s.opts.MemTableBytes,
		Logger:             logger{s.opts.Logger, s},
		EventListener:      s.events(),
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		// One index block a table: else a lookup reads two.
		o.Levels[i].IndexBlockSize = 256 << 10
		// Sealed values do not compress; keys are random too.
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	opened := make(chan *pebble.DB, 1)
	err := s.guardWait(func() error {
		db, err := openPebble(path, o)
		opened <- db
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return <-opened, nil
}

// openPebble turns a panic into an error: some damage makes Pebble panic while it
// reads its own files, and that is the disk's fault and not the program's.
func openPebble(path string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its files are damaged: %v", p)
		}
	}()
	return pebble.Open(path, o)
}

// Close closes the store. Views must be closed first. A store that has failed
// keeps its files open until the process ends, for nothing may enter it any more;
// Close then returns the failure.
func (s *Store) Close() error {
	s.mu.Lock()
	g := s.live
	s.live = nil
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	return s.release(g)
}

// acquire returns the live generation with a reference taken.
func (s *Store) acquire() (*generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		return nil, ErrClosed
	}
	if err := s.Failed(); err != nil {
		return nil, err
	}
	s.live.refs++
	return s.live, nil
}

// release gives a reference back and closes the generation with the last.
func (s *Store) release(g *generation) error {
	s.mu.Lock()
	g.refs--
	last, gone := g.refs == 0, g.gone
	s.mu.Unlock()
	if !last {
		return nil
	}
	if err := s.guardWait(g.db.Close); err != nil {
		return fmt.Errorf("closing state store: %w", err)
	}
	if gone {
		if err := s.fs.RemoveAll(g.path); err != nil {
			// The next Open removes it.
			s.opts.Logger.Warn("replaced state could not be removed", "path", g.path, "error", err)
		}
	}
	return nil
}

// Flush makes everything committed so far durable.
func (s *Store) Flush() error {
	g, err := s.acquire()
	if err != nil {
		return err
	}
	if err = s.flush(g.db); err != nil {
		err = fmt.Errorf("flushing state: %w", err)
	}
	return errors.Join(err, s.release(g))
}

// flush does not wait for a flush that will never end: Pebble repeats one that fails.
func (s *Store) flush(db *pebble.DB) error {
	started := make(chan (<-chan struct{}), 1)
	err := s.guardWait(func() error {
		ch, err := db.AsyncFlush()
		started <- ch
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-<-started:
		return nil
	case <-s.stop:
		return s.Failed()
	}
}
