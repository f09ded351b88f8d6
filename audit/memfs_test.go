package audit

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

// memFS is a file system in memory that can lose power. It is pessimistic in the
// ways that have cost others data: names are durable only after SyncDir, and before
// it not even in their order; of unsynced bytes any page may survive a crash and any other not; and a
// failed sync forgets that pages are dirty, so that the next sync succeeds without
// having written them.
type memFS struct {
	mu      sync.Mutex
	names   map[string]*memFile
	durable map[string]*memFile
	changes []func(map[string]*memFile) // to names, since the last SyncDir
	rng     *rand.Rand
	steps   int
	// fail is asked before each operation that can fail.
	fail func(step int, op string) error
}

const memPage = 512

// errKilled fails an operation that the process did not live to make: the system
// knows nothing of it.
var errKilled = errors.New("process is gone")

type memFile struct {
	now, disk []byte
	dirty     map[int]bool
	resized   bool
}

func newMemFS(seed uint64) *memFS {
	return &memFS{names: map[string]*memFile{}, durable: map[string]*memFile{}, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (m *memFS) step(op string) error {
	m.steps++
	if m.fail != nil {
		return m.fail(m.steps, op)
	}
	return nil
}

func (m *memFS) change(do func(map[string]*memFile)) {
	do(m.names)
	m.changes = append(m.changes, do)
}

func (m *memFS) Open(name string, mode Mode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("open"); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f, ok := m.names[name]
	switch {
	case mode == ModeCreate && ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case mode == ModeCreate:
		f = &memFile{dirty: map[int]bool{}}
		m.change(func(n map[string]*memFile) { n[name] = f })
	case !ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memHandle{fs: m, f: f, mode: mode}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("rename"); err != nil {
		return &fs.PathError{Op: "rename", Path: from, Err: err}
	}
	f, ok := m.names[from]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	m.change(func(n map[string]*memFile) { delete(n, from); n[to] = f })
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("remove"); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	if _, ok := m.names[name]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.change(func(n map[string]*memFile) { delete(n, name) })
	return nil
}

func (m *memFS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("list"); err != nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: err}
	}
	var all []string
	for name := range m.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			all = append(all, filepath.Base(name))
		}
	}
	slices.Sort(all)
	return all, nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("syncdir"); err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	for _, do := range m.changes {
		do(m.durable)
	}
	m.changes = nil
	return nil
}

// crash returns what a power cut now may leave.
func (m *memFS) crash() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := newMemFS(m.rng.Uint64())
	names := maps.Clone(m.durable)
	ordered := m.rng.IntN(2) == 0 // as a journal does; POSIX promises nothing
	kept := m.rng.IntN(len(m.changes) + 1)
	for i, do := range m.changes {
		if ordered && i < kept || !ordered && m.rng.IntN(2) == 0 {
			do(names)
		}
	}
	for name, f := range names {
		data := m.survivor(f)
		g := &memFile{now: data, disk: slices.Clone(data), dirty: map[int]bool{}}
		left.names[name], left.durable[name] = g, g
	}
	return left
}

func (m *memFS) survivor(f *memFile) []byte {
	size := len(f.disk)
	if f.resized && m.rng.IntN(3) > 0 {
		size = len(f.now)
		if m.rng.IntN(2) > 0 {
			size = min(len(f.now), len(f.disk)) + m.rng.IntN(max(len(f.now), len(f.disk))-min(len(f.now), len(f.disk))+1)
		}
	}
	data := make([]byte, size)
	copy(data, f.disk)
	for page := range f.dirty {
		if from := page * memPage; m.rng.IntN(4) > 0 && from < size && from < len(f.now) {
			copy(data[from:min(from+memPage, size)], f.now[from:])
		}
	}
	return data
}

type memHandle struct {
	fs   *memFS
	f    *memFile
	mode Mode
}

func (h *memHandle) touch(from, to int) {
	for page := from / memPage; page <= max(from, to-1)/memPage; page++ {
		h.f.dirty[page] = true
	}
}

func (h *memHandle) Write(b []byte) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.mode == ModeRead {
		return 0, errors.New("not open for writing")
	}
	err := h.fs.step("write")
	if err != nil {
		b = b[:h.fs.rng.IntN(len(b)+1)]
	}
	from := len(h.f.now)
	h.f.now = append(h.f.now, b...)
	h.f.resized = true
	if len(b) > 0 {
		h.touch(from, len(h.f.now))
	}
	return len(b), err
}

func (h *memHandle) ReadAt(b []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(h.f.now)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("truncate"); err != nil {
		return err
	}
	if size > int64(len(h.f.now)) {
		h.f.now = append(h.f.now, make([]byte, size-int64(len(h.f.now)))...)
	}
	h.f.now = h.f.now[:size]
	h.f.resized = true
	h.touch(int(size), int(size))
	return nil
}

func (h *memHandle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("sync"); err != nil {
		if !errors.Is(err, errKilled) {
			clear(h.f.dirty)
		}
		return err
	}
	disk := make([]byte, len(h.f.now))
	copy(disk, h.f.disk)
	for page := range h.f.dirty {
		if from := page * memPage; from < len(disk) {
			copy(disk[from:min(from+memPage, len(disk))], h.f.now[from:])
		}
	}
	h.f.disk, h.f.resized = disk, false
	clear(h.f.dirty)
	return nil
}

func (h *memHandle) Stat() (Info, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.step("stat"); err != nil {
		return Info{}, err
	}
	named := false
	for _, f := range h.fs.names {
		named = named || f == h.f
	}
	return Info{Size: int64(len(h.f.now)), Unnamed: !named, ID: h.f}, nil
}

func (h *memHandle) Close() error { return nil }

// bytes returns a file's content as its readers see it.
func (m *memFS) bytes(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.names[name]; f != nil {
		return slices.Clone(f.now)
	}
	return nil
}

func (m *memFS) put(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &memFile{now: slices.Clone(b), disk: slices.Clone(b), dirty: map[int]bool{}}
	m.names[name], m.durable[name] = f, f
}
