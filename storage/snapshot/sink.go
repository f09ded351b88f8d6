package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// Create begins a snapshot at index and term under a temporary name. trans is
// not used; see metadata. The snapshot exists once the sink's Close returned nil.
func (s *Store) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("creating snapshot: version %d is not 1", version)
	}
	id, err := s.reserve(identity{index: index, term: term})
	if err != nil {
		return nil, fmt.Errorf("creating snapshot: %w", err)
	}
	m := metadata{Version: int(version), Index: index, Term: term, Sequence: id.sequence, ConfigurationIndex: configurationIndex}
	for _, srv := range configuration.Servers {
		m.Servers = append(m.Servers, server{Suffrage: int(srv.Suffrage), ID: string(srv.ID), Address: string(srv.Address)})
	}
	k := &sink{store: s, id: id, hash: sha256.New(), frame: make([]byte, frameHeadSize, frameHeadSize+frameSize)}
	if err := k.begin(m); err != nil {
		return nil, errors.Join(fmt.Errorf("creating snapshot %s: %w", id, err), k.Cancel())
	}
	return k, nil
}

// reserve finds the first sequence number that is free for id.
func (s *Store) reserve(id identity) (identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.fs.List(s.dir)
	if err != nil {
		return id, err
	}
	taken := make(map[string]bool, len(names))
	for _, n := range names {
		taken[n] = true
	}
	for {
		name := id.String() + fileSuffix
		if !taken[name] && !taken[name+damagedSuffix] && !s.writing[id] {
			s.writing[id] = true
			return id, nil
		}
		id.sequence++
	}
}

func (s *Store) forget(id identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writing, id)
}

// sink writes one snapshot. Like Raft's own sinks it serves one goroutine.
type sink struct {
	store *Store
	id    identity
	file  vfs.File // nil once closed
	hash  hash.Hash
	frame []byte // room for a frame's head, then its data
	size  int64  // of the body so far
	done  bool
	err   error // the first; a snapshot that met one is never finished
}

// ID returns the snapshot's ID, as List and Open know it.
func (k *sink) ID() string { return k.id.String() }

func (k *sink) final() string { return k.store.path(k.id.String() + fileSuffix) }
func (k *sink) temp() string  { return k.final() + vfs.TempSuffix }

func (k *sink) begin(m metadata) error {
	head, err := encodeHead(m)
	if err != nil {
		return err
	}
	if k.file, err = k.store.fs.Create(k.temp(), vfs.WriteCategory); err != nil {
		return err
	}
	return k.put(head)
}

// put hashes b and writes it. vfs.File may modify b, so the hash comes first.
func (k *sink) put(b []byte) error {
	k.hash.Write(b) // a hash.Hash never returns an error
	_, err := k.file.Write(b)
	return err
}

// Write implements io.Writer. p is not retained. Nothing is durable before Close.
func (k *sink) Write(p []byte) (int, error) {
	if k.err == nil && k.done {
		k.err = errors.New("it is closed")
	}
	written := 0
	for k.err == nil && written < len(p) {
		room := frameHeadSize + frameSize - len(k.frame)
		n := min(room, len(p)-written)
		k.frame = append(k.frame, p[written:written+n]...)
		written += n
		if n == room {
			k.err = k.flush()
		}
	}
	if k.err != nil {
		return 0, fmt.Errorf("writing snapshot %s: %w", k.id, k.err)
	}
	return written, nil
}

// flush writes the frame that has gathered, if any.
func (k *sink) flush() error {
	data := k.frame[frameHeadSize:]
	if len(data) == 0 {
		return nil
	}
	k.size += int64(len(data))
	binary.BigEndian.PutUint32(k.frame, uint32(len(data)))
	binary.BigEndian.PutUint32(k.frame[4:], crc32.Checksum(data, castagnoli))
	err := k.put(k.frame)
	k.frame = k.frame[:frameHeadSize]
	return err
}

// Close finishes the snapshot: when it returns nil the snapshot is whole, durable
// and listed. When it returns an error the snapshot is not to be counted on; a
// sync that failed is not tried again. Closing twice returns the same answer.
func (k *sink) Close() error {
	if k.done {
		return k.err
	}
	if k.err == nil {
		k.err = k.finish()
	}
	if k.err != nil {
		err := fmt.Errorf("finishing snapshot %s: %w", k.id, k.err)
		k.err = errors.Join(err, k.discard())
		return k.err
	}
	k.done = true
	k.store.forget(k.id)
	if err := k.store.reap(); err != nil {
		// The snapshot itself stands; too many old ones only cost space.
		k.store.logger.Error("old snapshots remain", "error", err)
	}
	return nil
}

func (k *sink) finish() error {
	if err := k.flush(); err != nil {
		return err
	}
	if err := k.put(make([]byte, frameHeadSize)); err != nil {
		return err
	}
	if err := k.put(binary.BigEndian.AppendUint64(nil, uint64(k.size))); err != nil {
		return err
	}
	if _, err := k.file.Write(k.hash.Sum(nil)); err != nil {
		return err
	}
	if err := k.file.Sync(); err != nil {
		return err
	}
	f := k.file
	k.file = nil
	if err := f.Close(); err != nil {
		return err
	}
	if err := k.store.fs.Rename(k.temp(), k.final()); err != nil {
		return err
	}
	return vfs.SyncDir(k.store.fs, k.store.dir)
}

// Cancel gives the snapshot up and removes what was written. After Close it does nothing.
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	if k.err == nil {
		k.err = errors.New("it was cancelled")
	}
	if err := k.discard(); err != nil {
		return fmt.Errorf("cancelling snapshot %s: %w", k.id, err)
	}
	return nil
}

func (k *sink) discard() error {
	k.done = true
	defer k.store.forget(k.id)
	var closed error
	if k.file != nil {
		closed = k.file.Close()
		k.file = nil
	}
	// Gone already if the rename came through or Create failed; New removes the
	// rest of a crash.
	if _, err := k.store.fs.Stat(k.temp()); err != nil {
		return closed
	}
	return errors.Join(closed, k.store.fs.Remove(k.temp()))
}
