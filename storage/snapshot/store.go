package snapshot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// DefaultRetain is how many snapshots New keeps when told 0. An older snapshot
// is of use only if the log still reaches back to it, so keep Raft's
// TrailingLogs at least DefaultRetain times its SnapshotThreshold (L10 in cluster/DESIGN.md).
const DefaultRetain = 3

// Store is a raft.SnapshotStore in one directory. It is safe for concurrent use
// within one process; the directory belongs to it alone.
type Store struct {
	dir    string
	fs     vfs.FS
	retain int
	logger *slog.Logger

	mu      sync.Mutex
	writing map[identity]bool // sinks that are open
	damaged []string          // file names, oldest report first
}

var _ raft.SnapshotStore = (*Store)(nil)

// Option changes a default of [New].
type Option func(*Store)

// WithLogger sends the store's reports to l instead of slog.Default().
func WithLogger(l *slog.Logger) Option { return func(s *Store) { s.logger = l } }

// New opens the store in dir, which it creates durably if needed, and removes
// what a crash left half-written. retain is how many snapshots to keep; 0 means
// [DefaultRetain].
func New(dir string, fs vfs.FS, retain int, options ...Option) (*Store, error) {
	if retain < 0 {
		return nil, fmt.Errorf("opening snapshots: cannot retain %d", retain)
	}
	if retain == 0 {
		retain = DefaultRetain
	}
	s := &Store{dir: dir, fs: fs, retain: retain, logger: slog.Default(), writing: map[identity]bool{}}
	for _, o := range options {
		o(s)
	}
	if err := vfs.MkdirAllSync(fs, dir); err != nil {
		return nil, fmt.Errorf("opening snapshots: %w", err)
	}
	if err := s.tidy(); err != nil {
		return nil, fmt.Errorf("opening snapshots: %w", err)
	}
	return s, nil
}

// tidy removes temporary files and notes the snapshots set aside in an earlier life.
func (s *Store) tidy() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	removed := false
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, fileSuffix+vfs.TempSuffix):
			if err := s.fs.Remove(s.path(name)); err != nil {
				return err
			}
			removed = true
		case strings.HasSuffix(name, damagedSuffix):
			s.damaged = append(s.damaged, name)
		}
	}
	if !removed {
		return nil
	}
	return vfs.SyncDir(s.fs, s.dir)
}

// Damaged returns the names of the files in the store's directory that held
// snapshots and were set aside because their bytes were not what was written.
// They are kept until an operator removes them.
func (s *Store) Damaged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damaged)
}

// List returns the newest snapshots, at most as many as are retained, newest
// first. It verifies each head and the length of each file, and reads no body.
// A damaged file is set aside (see [Store.Damaged]) and not listed; a file that
// cannot be read, or is of a later format, is an error: to pass over it could
// restart a node from an older state than it acknowledged.
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	ids, err := s.identities()
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	var metas []*raft.SnapshotMeta
	for _, id := range ids {
		if len(metas) == s.retain {
			break
		}
		meta, err := s.stat(id)
		switch {
		case err == nil:
			metas = append(metas, meta)
		case oserror.IsNotExist(err): // removed since, because newer ones exist
		case !errors.Is(err, ErrDamaged):
			return nil, fmt.Errorf("listing snapshots: %w", err)
		}
	}
	return metas, nil
}

// stat verifies a snapshot's head and length; a damaged file is set aside.
func (s *Store) stat(id identity) (*raft.SnapshotMeta, error) {
	meta, r, err := s.open(id)
	if err != nil {
		return nil, err
	}
	return meta, r.Close()
}

// Open returns the snapshot's metadata and its body as a stream.
//
// The stream must not be trusted before it has returned io.EOF: restore aside
// and swap only then. Damage ends it with an error wrapping [ErrDamaged] before
// EOF, and since the last frame (of 64 KiB) is withheld until the hash over the
// whole file has matched, nobody who waits for Size bytes gets them from a
// damaged file: neither a follower that is sent the stream nor a reader who
// forgets EOF. That is why Open does not read the file twice, once to verify and
// once to stream: the cost would double and the promise stay the same.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	parsed, ok := parseIdentity(id)
	if !ok {
		return nil, nil, fmt.Errorf("opening snapshot: %q is no snapshot id", id)
	}
	meta, r, err := s.open(parsed)
	if err != nil {
		return nil, nil, fmt.Errorf("opening snapshot %s: %w", id, err)
	}
	return meta, r, nil
}

func (s *Store) open(id identity) (*raft.SnapshotMeta, *reader, error) {
	name := id.String() + fileSuffix
	f, err := s.fs.Open(s.path(name))
	if err != nil {
		return nil, nil, err
	}
	meta, r, err := newReader(f, id)
	if err != nil {
		return nil, nil, errors.Join(s.judge(name, err), f.Close())
	}
	r.judge = func(err error) error { return s.judge(name, err) }
	return meta, r, nil
}

// judge passes err on; if it is damage, the file is set aside first.
func (s *Store) judge(name string, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	aside := name + damagedSuffix
	if slices.Contains(s.damaged, aside) {
		return err
	}
	s.logger.Error("snapshot is damaged and set aside", "file", s.path(aside), "error", err)
	if moved := s.fs.Rename(s.path(name), s.path(aside)); moved != nil {
		return errors.Join(err, fmt.Errorf("setting it aside: %w", moved))
	}
	s.damaged = append(s.damaged, aside)
	// Not durable is not lost: after a crash the file is found damaged again.
	return errors.Join(err, vfs.SyncDir(s.fs, s.dir))
}

// identities returns the snapshots in the directory, newest first.
func (s *Store) identities() ([]identity, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, err
	}
	var ids []identity
	for _, name := range names {
		if id, ok := parseFileName(name); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, newer)
	return ids, nil
}

// reap removes snapshots older than the newest retain ones. Damaged files do not
// count: they were set aside, so a snapshot that is kept is one that List shows.
func (s *Store) reap() error {
	metas, err := s.List()
	if err != nil || len(metas) < s.retain {
		return err
	}
	oldest, ok := parseIdentity(metas[len(metas)-1].ID)
	if !ok {
		return fmt.Errorf("removing old snapshots: %q is no snapshot id", metas[len(metas)-1].ID)
	}
	ids, err := s.identities()
	if err != nil {
		return fmt.Errorf("removing old snapshots: %w", err)
	}
	for _, id := range ids {
		if newer(oldest, id) >= 0 {
			continue
		}
		err := s.fs.Remove(s.path(id.String() + fileSuffix))
		if err != nil && !oserror.IsNotExist(err) {
			return fmt.Errorf("removing old snapshots: %w", err)
		}
	}
	return vfs.SyncDir(s.fs, s.dir)
}

func (s *Store) path(name string) string { return s.fs.PathJoin(s.dir, name) }
