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
	// CacheBytes is the size of the block cache. Default 32 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable. Default 16 MiB.
	MemTableBytes uint64
	// Fatal is told of an error after which the store cannot go on; the
	// process must stop. Default: panic.
	Fatal func(error)
	// Logger takes what the store has to say. Default: discard.
	Logger *slog.Logger
}

func (o *Options) defaults() {
	if o.CacheBytes == 0 {
		o.CacheBytes = 32 << 20
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
// what an interrupted Replace left behind.
func Open(dir string, fsys vfs.FS, opts Options) (*Store, error) {
	opts.defaults()
	s := &Store{dir: dir, fs: fsys, opts: opts}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating state directory: %w", err)
	}
	name, err := s.readCurrent()
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = mapName(1)
		if err := vfs.AtomicWrite(fsys, fsys.PathJoin(dir, currentFile), []byte(name+"\n")); err != nil {
			return nil, fmt.Errorf("creating state store: %w", err)
		}
	}
	if s.serial, err = mapSerial(name); err != nil {
		return nil, err
	}
	if err := s.removeStrays(name); err != nil {
		return nil, err
	}
	path := fsys.PathJoin(dir, name)
	db, err := s.openMap(path)
	if err != nil {
		return nil, fmt.Errorf("opening state store: %w", err)
	}
	s.live = &generation{db: db, path: path, refs: 1}
	return s, nil
}

func mapName(serial uint64) string { return fmt.Sprintf("map-%06d", serial) }

func mapSerial(name string) (uint64, error) {
	digits, ok := strings.CutPrefix(name, "map-")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("reading state store: %q is not the name of a map", name)
	}
	return n, nil
}

func (s *Store) readCurrent() (string, error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading state store: %w", err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("reading state store: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// removeStrays removes map directories other than keep: a crash during Replace
// leaves a half-built or a replaced one.
func (s *Store) removeStrays(keep string) error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("listing state directory: %w", err)
	}
	for _, name := range names {
		if name == keep || !strings.HasPrefix(name, "map-") {
			continue
		}
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.dir, name)); err != nil {
			return fmt.Errorf("removing stray %s: %w", name, err)
		}
	}
	return nil
}

func (s *Store) openMap(path string) (*pebble.DB, error) {
	cache := pebble.NewCache(s.opts.CacheBytes)
	defer cache.Unref() // the DB holds its own reference
	o := &pebble.Options{
		Cache:              cache,
		FS:                 s.fs,
		FormatMajorVersion: format,
		MemTableSize:       s.opts.MemTableBytes,
		// Sealed values do not compress; keys are random too.
		Logger:        logger{s.opts.Logger, s.opts.Fatal},
		EventListener: s.events(),
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	return pebble.Open(path, o)
}

func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			// A flush or compaction that fails is retried by Pebble. That is
			// fine for a full disk; the data is in the Raft log in any case.
			s.opts.Logger.Error("state store background error", "error", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.opts.Fatal(fmt.Errorf("state store is corrupt in %s: %w", info.Path, info.Details))
		},
	}
}

// Close closes the store. Views must be closed first.
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
	if err := g.db.Close(); err != nil {
		return fmt.Errorf("closing state store: %w", err)
	}
	if gone {
		if err := s.fs.RemoveAll(g.path); err != nil {
			return fmt.Errorf("removing replaced state: %w", err)
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
	err = g.db.Flush()
	return errors.Join(err, s.release(g))
}

// DiskBytes tells how much space the live map takes, in bytes.
func (s *Store) DiskBytes() (uint64, error) {
	g, err := s.acquire()
	if err != nil {
		return 0, err
	}
	n := g.db.Metrics().DiskSpaceUsage()
	return n, s.release(g)
}

// logger hands Pebble's messages to slog. Pebble's informational messages are
// about files, never about keys or values.
type logger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l logger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble has found that it cannot go on.
func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("state store: "+format, args...)
	l.fatal(err)
	panic(err)
}
