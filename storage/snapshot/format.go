package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// One file per snapshot. Integers are big-endian.
//
//	+-----------------+------------+-----------------+
//	| "CONCSNAP" (8)  | format (2) | meta length (4) |
//	+-----------------+------------+-----------------+
//	| metadata: msgpack                              |
//	+------------------------------------------------+
//	| SHA-256 (32) of everything above               |   the head ends here
//	+------------+------------+----------------------+
//	| length (4) | crc32c (4) | data (length)        |   body: frames of 64 KiB,
//	+------------+------------+----------------------+   the last may be shorter
//	| 0 (4)      | 0 (4)      |                          end of body
//	+------------+------------+------+
//	| body size (8) | SHA-256 (32) of everything above, head included |
//	+---------------+-------------------------------------------------+
//
// A crc lets a reader hand out a frame before it has seen the end; the hash at
// the end is what makes the whole one thing, so that frames of two snapshots,
// each intact, cannot be mixed. Since all frames but the last are full, the body
// size follows from the length of the file: a cut or grown file shows without
// reading it.
const (
	magic         = "CONCSNAP"
	formatNumber  = 1
	preambleSize  = len(magic) + 2 + 4
	maxMetaSize   = 1 << 20
	hashSize      = sha256.Size
	frameSize     = 64 << 10
	frameHeadSize = 8
	trailerSize   = 8 + hashSize
)

var (
	// ErrDamaged is wrapped when a snapshot's bytes are not what was written.
	ErrDamaged = errors.New("snapshot is damaged")
	// ErrNewerFormat is wrapped when a snapshot was written by a later release.
	ErrNewerFormat = errors.New("snapshot has a newer format than this release reads")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// metadata is what the file says about itself. The field names are the format:
// they are ours, so that a rename inside the library changes no byte.
//
// Peers, the configuration as Raft protocol versions 0 to 2 spelled it, is left
// out: this project never spoke them, and raft.SnapshotMeta.Peers stays empty.
type metadata struct {
	Version            int      `codec:"version"`
	Index              uint64   `codec:"index"`
	Term               uint64   `codec:"term"`
	Sequence           uint64   `codec:"sequence"`
	Servers            []server `codec:"servers"`
	ConfigurationIndex uint64   `codec:"configuration_index"`
}

type server struct {
	Suffrage int    `codec:"suffrage"`
	ID       string `codec:"id"`
	Address  string `codec:"address"`
}

func (m metadata) id() identity { return identity{index: m.Index, term: m.Term, sequence: m.Sequence} }

// raftMeta returns m as Raft knows it. size is the body's size in bytes.
func (m metadata) raftMeta(size int64) *raft.SnapshotMeta {
	meta := &raft.SnapshotMeta{
		Version:            raft.SnapshotVersion(m.Version),
		ID:                 m.id().String(),
		Index:              m.Index,
		Term:               m.Term,
		ConfigurationIndex: m.ConfigurationIndex,
		Size:               size,
	}
	for _, s := range m.Servers {
		meta.Configuration.Servers = append(meta.Configuration.Servers, raft.Server{
			Suffrage: raft.ServerSuffrage(s.Suffrage), ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address),
		})
	}
	return meta
}

// encodeHead returns the head of a file: preamble, metadata and their hash.
func encodeHead(m metadata) ([]byte, error) {
	var body []byte
	if err := codec.NewEncoderBytes(&body, &codec.MsgpackHandle{WriteExt: true}).Encode(m); err != nil {
		return nil, fmt.Errorf("encoding snapshot metadata: %w", err)
	}
	if len(body) > maxMetaSize {
		return nil, fmt.Errorf("encoding snapshot metadata: %d bytes exceed the limit of %d", len(body), maxMetaSize)
	}
	head := make([]byte, 0, preambleSize+len(body)+hashSize)
	head = append(head, magic...)
	head = binary.BigEndian.AppendUint16(head, formatNumber)
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	head = append(head, body...)
	sum := sha256.Sum256(head)
	return append(head, sum[:]...), nil
}

// readHead reads and verifies a head. It returns the head's own bytes too, since
// the hash at the end of the file covers them. A file that ends early is
// damaged; an error of r itself is returned as it is.
func readHead(r io.Reader) (m metadata, head []byte, err error) {
	head = make([]byte, preambleSize)
	if err := readFull(r, head); err != nil {
		return m, nil, err
	}
	if string(head[:len(magic)]) != magic {
		return m, nil, fmt.Errorf("no snapshot magic: %w", ErrDamaged)
	}
	format := binary.BigEndian.Uint16(head[len(magic):])
	size := binary.BigEndian.Uint32(head[len(magic)+2:])
	if size > maxMetaSize {
		return m, nil, fmt.Errorf("metadata of %d bytes: %w", size, ErrDamaged)
	}
	head = append(head, make([]byte, int(size)+hashSize)...)
	if err := readFull(r, head[preambleSize:]); err != nil {
		return m, nil, err
	}
	covered := head[:len(head)-hashSize]
	if sum := sha256.Sum256(covered); !bytes.Equal(sum[:], head[len(covered):]) {
		return m, nil, fmt.Errorf("metadata checksum mismatch: %w", ErrDamaged)
	}
	// Only a format number that its checksum vouches for is believed: a later
	// format keeps this head, so a flipped bit is never taken for a new release.
	if format != formatNumber {
		return m, nil, fmt.Errorf("format %d, want %d: %w", format, formatNumber, ErrNewerFormat)
	}
	m, err = decodeMetadata(covered[preambleSize:])
	return m, head, err
}

func decodeMetadata(b []byte) (m metadata, err error) {
	defer func() {
		if p := recover(); p != nil { // the decoder is a third party's; a crafted file must not stop the node
			err = fmt.Errorf("metadata cannot be decoded: %w", ErrDamaged)
		}
	}()
	if err := codec.NewDecoderBytes(b, &codec.MsgpackHandle{}).Decode(&m); err != nil {
		return metadata{}, fmt.Errorf("metadata cannot be decoded (%T): %w", err, ErrDamaged)
	}
	return m, nil
}

// readFull is io.ReadFull for files: an early end is damage.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends early: %w", ErrDamaged)
	}
	return err
}

// fileSize is the length of a file with a head of head bytes and a body of body bytes.
func fileSize(head, body int64) int64 {
	frames := (body + frameSize - 1) / frameSize
	return head + body + (frames+1)*frameHeadSize + trailerSize
}
