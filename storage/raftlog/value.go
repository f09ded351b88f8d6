package raftlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Values in the stable store:
//
//	+---------------+-----------+--------+
//	| value         | sum (16)  | format |
//	+---------------+-----------+--------+
//
//	sum is SHA-256, cut to 16 bytes, over "conclave raft value" format len(key) key value
//
// and the vote, under one key (LastVote), so that one transaction holds it:
//
//	+-------------+-----------------+
//	| term (8)    | candidate       |
//	+-------------+-----------------+
const (
	valueFormat      = 1
	valueTrailerSize = sumSize + 1
	valueDomain      = "conclave raft value"
)

// sealValue returns a new slice: val and its trailer, bound to key.
func sealValue(key, val []byte) []byte {
	sum := valueSum(key, val)
	out := make([]byte, 0, len(val)+valueTrailerSize)
	out = append(out, val...)
	out = append(out, sum[:]...)
	return append(out, valueFormat)
}

// openValue verifies a stored value and returns the part before the trailer,
// which shares memory with stored.
func openValue(key, stored []byte) ([]byte, error) {
	cut := len(stored) - valueTrailerSize
	if cut < 0 {
		return nil, fmt.Errorf("reading %q from the stable store: no checksum: %w", key, ErrRotten)
	}
	if format := stored[len(stored)-1]; format != valueFormat {
		return nil, fmt.Errorf("reading %q from the stable store: unknown value format %d: %w", key, format, ErrRotten)
	}
	val := stored[:cut:cut]
	if valueSum(key, val) != [sumSize]byte(stored[cut:cut+sumSize]) {
		return nil, fmt.Errorf("reading %q from the stable store: checksum mismatch: %w", key, ErrRotten)
	}
	return val, nil
}

func valueSum(key, val []byte) [sumSize]byte {
	b := make([]byte, 0, len(valueDomain)+1+8+len(key)+len(val))
	b = append(b, valueDomain...)
	b = append(b, valueFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(len(key)))
	b = append(b, key...)
	b = append(b, val...)
	sum := sha256.Sum256(b)
	return [sumSize]byte(sum[:sumSize])
}

// vote is the candidate this node voted for and the term it did so in.
type vote struct {
	term      uint64
	candidate []byte
}

func (v vote) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, v.term), v.candidate...)
}

func decodeVote(b []byte) (vote, error) {
	if len(b) < 8 {
		return vote{}, fmt.Errorf("reading the last vote: %d bytes are too few: %w", len(b), ErrRotten)
	}
	return vote{term: binary.BigEndian.Uint64(b), candidate: b[8:]}, nil
}
