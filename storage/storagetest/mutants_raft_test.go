package storagetest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/storagetest"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

func init() {
	logMutant("wraps not found", func(m *raftlog.Memory) storagetest.LogStore { return wrapsNotFound{m} })
	logMutant("range without its end", func(m *raftlog.Memory) storagetest.LogStore { return halfOpen{m} })
	logMutant("suffix stays", func(m *raftlog.Memory) storagetest.LogStore { return keepsSuffix{m} })
	logMutant("fields shine through", func(m *raftlog.Memory) storagetest.LogStore { return shinesThrough{m} })
	logMutant("times are lost", func(m *raftlog.Memory) storagetest.LogStore { return timeless{m} })
	logMutant("shares its slices", func(m *raftlog.Memory) storagetest.LogStore { return sharing{m, map[uint64]raft.Log{}} })
	logMutant("alters its input", func(m *raftlog.Memory) storagetest.LogStore { return altering{m} })
	logMutant("last index runs ahead", func(m *raftlog.Memory) storagetest.LogStore { return runsAhead{m} })
	logMutant("first index stays", func(m *raftlog.Memory) storagetest.LogStore { return &staysFirst{Memory: m} })
	logMutant("takes only the first of many", func(m *raftlog.Memory) storagetest.LogStore { return onlyFirst{m} })
	logMutant("is not durable", func(m *raftlog.Memory) storagetest.LogStore { return &volatile{Memory: raftlog.NewMemory()} })

	stableMutant("another text for absent", func(m *raftlog.Memory) storagetest.StableStore { return otherText{m} })
	stableMutant("short numbers", func(m *raftlog.Memory) storagetest.StableStore { return shortNumbers{m} })
	stableMutant("is not durable", func(m *raftlog.Memory) storagetest.StableStore { return &volatile{Memory: raftlog.NewMemory()} })
	stableMutant("one key for all", func(m *raftlog.Memory) storagetest.StableStore { return oneKey{m} })
	stableMutant("writes once", func(m *raftlog.Memory) storagetest.StableStore { return writesOnce{m} })

	snapshotMutant("oldest first", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return oldestFirst{s} })
	snapshotMutant("forgets the configuration index", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return noIndex{s} })
	snapshotMutant("exists too early", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return &tooEarly{Store: s} })
	snapshotMutant("cancel keeps it", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return sinks(s, keepSink) })
	snapshotMutant("cancel leaves a file", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return sinks(s, leaveSink) })
	snapshotMutant("second close fails", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return sinks(s, strictSink) })
	snapshotMutant("loses the end", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return losesEnd{s} })
	snapshotMutant("keeps what is written", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return sinks(s, lazySink) })
	snapshotMutant("close is not durable", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return sinks(s, unsyncedSink) })
	snapshotMutant("retains one", func(s *snapshot.Store, _ vfs.FS, _ string) raft.SnapshotStore { return retainsOne{s} })
	snapshotMutant("opens paths", func(s *snapshot.Store, fs vfs.FS, dir string) raft.SnapshotStore { return opensAnything{s} })
}

type wrapsNotFound struct{ *raftlog.Memory }

func (m wrapsNotFound) GetLog(i uint64, e *raft.Log) error {
	if err := m.Memory.GetLog(i, e); err != nil {
		return fmt.Errorf("reading entry %d: %w", i, err)
	}
	return nil
}

type halfOpen struct{ *raftlog.Memory }

func (m halfOpen) DeleteRange(from, to uint64) error { return m.Memory.DeleteRange(from, to-1) }

type keepsSuffix struct{ *raftlog.Memory }

func (m keepsSuffix) DeleteRange(from, to uint64) error {
	if first, err := m.FirstIndex(); err != nil || from > first {
		return err
	}
	return m.Memory.DeleteRange(from, to)
}

type shinesThrough struct{ *raftlog.Memory }

func (m shinesThrough) GetLog(i uint64, e *raft.Log) error {
	before := *e
	err := m.Memory.GetLog(i, e)
	if e.Data == nil {
		e.Data = before.Data
	}
	return err
}

type timeless struct{ *raftlog.Memory }

func (m timeless) GetLog(i uint64, e *raft.Log) error {
	err := m.Memory.GetLog(i, e)
	e.AppendedAt = e.AppendedAt.Truncate(1e9)
	return err
}

type sharing struct {
	*raftlog.Memory
	shared map[uint64]raft.Log
}

func (m sharing) StoreLogs(logs []*raft.Log) error {
	for _, e := range logs {
		m.shared[e.Index] = *e
	}
	return m.Memory.StoreLogs(logs)
}

func (m sharing) GetLog(i uint64, e *raft.Log) error {
	err := m.Memory.GetLog(i, e)
	if s, ok := m.shared[i]; ok && err == nil {
		e.Data = s.Data
	}
	return err
}

type altering struct{ *raftlog.Memory }

func (m altering) StoreLogs(logs []*raft.Log) error {
	err := m.Memory.StoreLogs(logs)
	for _, e := range logs {
		e.Extensions = append(e.Extensions, "trailer"...)
	}
	return err
}

type runsAhead struct{ *raftlog.Memory }

func (m runsAhead) LastIndex() (uint64, error) {
	last, err := m.Memory.LastIndex()
	if last > 0 {
		last++
	}
	return last, err
}

type staysFirst struct {
	*raftlog.Memory
	first uint64
}

func (m *staysFirst) FirstIndex() (uint64, error) {
	first, err := m.Memory.FirstIndex()
	if m.first == 0 || first == 0 {
		m.first = first
	}
	return m.first, err
}

type onlyFirst struct{ *raftlog.Memory }

func (m onlyFirst) StoreLogs(logs []*raft.Log) error {
	return m.Memory.StoreLogs(logs[:min(len(logs), 1)])
}

// volatile writes nowhere but into memory of its own.
type volatile struct{ *raftlog.Memory }

type otherText struct{ *raftlog.Memory }

func (m otherText) GetUint64(k []byte) (uint64, error) {
	n, err := m.Memory.GetUint64(k)
	if err != nil {
		err = fmt.Errorf("reading: %w", err)
	}
	return n, err
}

type shortNumbers struct{ *raftlog.Memory }

func (m shortNumbers) SetUint64(k []byte, n uint64) error {
	return m.Memory.SetUint64(k, uint64(uint32(n)))
}

type oneKey struct{ *raftlog.Memory }

func (m oneKey) Set(k, v []byte) error        { return m.Memory.Set(k[:1], v) }
func (m oneKey) Get(k []byte) ([]byte, error) { return m.Memory.Get(k[:1]) }

type writesOnce struct{ *raftlog.Memory }

func (m writesOnce) Set(k, v []byte) error {
	if _, err := m.Get(k); err == nil {
		return nil
	}
	return m.Memory.Set(k, v)
}

type oldestFirst struct{ *snapshot.Store }

func (m oldestFirst) List() ([]*raft.SnapshotMeta, error) {
	metas, err := m.Store.List()
	slices.Reverse(metas)
	return metas, err
}

type noIndex struct{ *snapshot.Store }

func (m noIndex) Create(v raft.SnapshotVersion, i, t uint64, c raft.Configuration, _ uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	return m.Store.Create(v, i, t, c, 1, tr)
}

// tooEarly shows a snapshot that is still being written.
type tooEarly struct {
	*snapshot.Store
	early *raft.SnapshotMeta
}

func (m *tooEarly) Create(v raft.SnapshotVersion, i, t uint64, c raft.Configuration, ci uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	sink, err := m.Store.Create(v, i, t, c, ci, tr)
	if err == nil {
		m.early = &raft.SnapshotMeta{ID: sink.ID(), Index: i, Term: t}
	}
	return sink, err
}

func (m *tooEarly) List() ([]*raft.SnapshotMeta, error) {
	metas, err := m.Store.List()
	if m.early != nil && !slices.ContainsFunc(metas, func(s *raft.SnapshotMeta) bool { return s.ID == m.early.ID }) {
		metas = append([]*raft.SnapshotMeta{m.early}, metas...)
	}
	return metas, err
}

// sinks returns a store whose sinks are altered.
func sinks(s *snapshot.Store, alter func(raft.SnapshotSink) raft.SnapshotSink) raft.SnapshotStore {
	return alteredSinks{s, alter}
}

type alteredSinks struct {
	*snapshot.Store
	alter func(raft.SnapshotSink) raft.SnapshotSink
}

func (m alteredSinks) Create(v raft.SnapshotVersion, i, t uint64, c raft.Configuration, ci uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	sink, err := m.Store.Create(v, i, t, c, ci, tr)
	if err != nil {
		return nil, err
	}
	return m.alter(sink), nil
}

type keeps struct{ raft.SnapshotSink }

func (k keeps) Cancel() error { return k.Close() }

func keepSink(s raft.SnapshotSink) raft.SnapshotSink { return keeps{s} }

type leaves struct {
	raft.SnapshotSink
	gone *bool
}

func (k leaves) Cancel() error { *k.gone = true; return nil }

func (k leaves) Close() error {
	if *k.gone {
		return errors.New("it was cancelled")
	}
	return k.SnapshotSink.Close()
}

func (k leaves) Write(p []byte) (int, error) {
	if *k.gone {
		return 0, errors.New("it was cancelled")
	}
	return k.SnapshotSink.Write(p)
}

func leaveSink(s raft.SnapshotSink) raft.SnapshotSink { return leaves{s, new(bool)} }

type strict struct {
	raft.SnapshotSink
	closed *bool
}

func (k strict) Close() error {
	if *k.closed {
		return errors.New("it is closed")
	}
	*k.closed = true
	return k.SnapshotSink.Close()
}

func strictSink(s raft.SnapshotSink) raft.SnapshotSink { return strict{s, new(bool)} }

// lazy writes what it was given when it is closed.
type lazy struct {
	raft.SnapshotSink
	kept *[][]byte
}

func (k lazy) Write(p []byte) (int, error) { *k.kept = append(*k.kept, p); return len(p), nil }

func (k lazy) Close() error {
	for _, p := range *k.kept {
		if _, err := k.SnapshotSink.Write(p); err != nil {
			return err
		}
	}
	*k.kept = nil
	return k.SnapshotSink.Close()
}

func lazySink(s raft.SnapshotSink) raft.SnapshotSink { return lazy{s, new([][]byte)} }

// unsynced acknowledges before anything is durable.
type unsynced struct{ raft.SnapshotSink }

func (unsynced) Close() error { return nil }

func unsyncedSink(s raft.SnapshotSink) raft.SnapshotSink { return unsynced{s} }

type losesEnd struct{ *snapshot.Store }

func (m losesEnd) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := m.Store.Open(id)
	if err != nil || meta.Size < 2 {
		return meta, r, err
	}
	all, err := io.ReadAll(io.LimitReader(r, meta.Size-1))
	return meta, io.NopCloser(bytes.NewReader(all)), errors.Join(err, r.Close())
}

type retainsOne struct{ *snapshot.Store }

func (m retainsOne) List() ([]*raft.SnapshotMeta, error) {
	metas, err := m.Store.List()
	return metas[:min(len(metas), 1)], err
}

type opensAnything struct{ *snapshot.Store }

func (m opensAnything) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := m.Store.Open(id)
	if err == nil {
		return meta, r, nil
	}
	metas, err2 := m.List()
	if err2 != nil || len(metas) == 0 {
		return nil, nil, errors.Join(err, err2)
	}
	return m.Store.Open(metas[0].ID)
}
