package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// reader streams a body. It stays one frame ahead of its consumer, so that the
// last frame is handed out only after the hash at the end has matched.
type reader struct {
	file   vfs.File // nil once closed
	hash   hash.Hash
	size   int64                 // of the body, from the trailer
	read   int64                 // of the body, so far
	ready  []byte                // verified and due to the consumer
	ahead  []byte                // verified, but the next frame is not yet
	ended  bool                  // the hash matched; ready is the rest
	err    error                 // what every further Read returns
	judge  func(err error) error // sees each error before the consumer
	frames [2][]byte             // the two buffers that ready and ahead alternate between
}

// newReader verifies the head and the length of f, which must be the snapshot
// that id names. It takes f over only if it returns no error.
func newReader(f vfs.File, id identity) (*raft.SnapshotMeta, *reader, error) {
	m, head, err := readHead(f)
	if err != nil {
		return nil, nil, err
	}
	if m.id() != id {
		return nil, nil, fmt.Errorf("the file holds snapshot %s: %w", m.id(), ErrDamaged)
	}
	size, err := readSize(f, int64(len(head)))
	if err != nil {
		return nil, nil, err
	}
	r := &reader{file: f, hash: sha256.New(), size: size, judge: func(err error) error { return err }}
	r.hash.Write(head) // a hash.Hash never returns an error
	return m.raftMeta(size), r, nil
}

// readSize returns the body's size from the trailer, if the file is as long as
// that size demands.
func readSize(f vfs.File, head int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	at := info.Size() - trailerSize
	if at < head {
		return 0, fmt.Errorf("the file ends early: %w", ErrDamaged)
	}
	var b [8]byte
	if err := readFull(io.NewSectionReader(f, at, int64(len(b))), b[:]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint64(b[:])
	if size > uint64(info.Size()) || fileSize(head, int64(size)) != info.Size() {
		return 0, fmt.Errorf("a body of %d bytes does not fit a file of %d: %w", size, info.Size(), ErrDamaged)
	}
	return int64(size), nil
}

// Read implements io.Reader; io.EOF means that the whole snapshot is intact.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.ready) == 0 && r.err == nil {
		r.advance()
	}
	if len(r.ready) == 0 {
		return 0, r.err
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// advance makes the next frame ready and reads the one after it.
func (r *reader) advance() {
	if r.ended {
		r.err = io.EOF
		return
	}
	next, err := r.nextFrame()
	if err == nil && next == nil {
		err = r.finish()
	}
	if err != nil {
		r.ahead = nil
		r.err = r.judge(fmt.Errorf("reading snapshot: %w", err))
		return
	}
	r.ready, r.ahead = r.ahead, next
}

// nextFrame reads and verifies one frame; nil is the end of the body.
func (r *reader) nextFrame() ([]byte, error) {
	var head [frameHeadSize]byte
	if err := r.take(head[:]); err != nil {
		return nil, err
	}
	left := r.size - r.read
	length := int64(binary.BigEndian.Uint32(head[:]))
	if length != min(left, frameSize) {
		return nil, fmt.Errorf("a frame of %d bytes at %d of %d: %w", length, r.read, r.size, ErrDamaged)
	}
	crc := binary.BigEndian.Uint32(head[4:])
	if length == 0 {
		if crc != 0 {
			return nil, fmt.Errorf("end of body: %w", ErrDamaged)
		}
		return nil, nil
	}
	data := r.buffer()[:length]
	if err := r.take(data); err != nil {
		return nil, err
	}
	if crc32.Checksum(data, castagnoli) != crc {
		return nil, fmt.Errorf("checksum mismatch in the frame at %d: %w", r.read, ErrDamaged)
	}
	r.read += length
	return data, nil
}

// buffer returns the one of the two buffers that does not hold ahead.
func (r *reader) buffer() []byte {
	r.frames[0], r.frames[1] = r.frames[1], r.frames[0]
	if r.frames[0] == nil {
		r.frames[0] = make([]byte, min(r.size, frameSize))
	}
	return r.frames[0]
}

// take fills b from the file and hashes it.
func (r *reader) take(b []byte) error {
	if err := readFull(r.file, b); err != nil {
		return err
	}
	r.hash.Write(b)
	return nil
}

// finish compares the hash over the whole file.
func (r *reader) finish() error {
	var size [8]byte
	if err := r.take(size[:]); err != nil {
		return err
	}
	var want [hashSize]byte
	if err := readFull(r.file, want[:]); err != nil {
		return err
	}
	if int64(binary.BigEndian.Uint64(size[:])) != r.size || !bytes.Equal(r.hash.Sum(nil), want[:]) {
		return fmt.Errorf("checksum mismatch over the whole file: %w", ErrDamaged)
	}
	r.ended = true
	return nil
}

// Close implements io.Closer. Closing twice is allowed: Raft does, at start-up,
// once through the state machine's restore and once itself.
func (r *reader) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file, r.ready, r.ahead = nil, nil, nil
	if r.err == nil {
		r.err = errors.New("reading snapshot: it is closed")
	}
	return f.Close()
}
