package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// sum is a digest of a set of rows that can be kept up to date row by row: the
// sum, modulo 2^256, of the SHA-256 of each row. Order does not matter, so a
// replica that restored a snapshot and one that applied every entry agree, and
// a scan of the disk can be compared with what was kept.
//
// It finds faults and divergence. It is no defence against someone who
// chooses rows to make sums collide (Wagner 2002), and nothing relies on that:
// rows come through an authenticated log, and values are sealed.
type sum [4]uint64

func element(key, value []byte) sum {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(key)))
	h.Write(n[:])
	h.Write(key)
	h.Write(value)
	var d [sha256.Size]byte
	h.Sum(d[:0])
	var s sum
	for i := range s {
		s[i] = binary.BigEndian.Uint64(d[8*i:])
	}
	return s
}

func (s *sum) add(e sum) {
	var c uint64
	for i := len(s) - 1; i >= 0; i-- {
		s[i], c = bits.Add64(s[i], e[i], c)
	}
}

func (s *sum) sub(e sum) {
	var c uint64
	for i := len(s) - 1; i >= 0; i-- {
		s[i], c = bits.Sub64(s[i], e[i], c)
	}
}

// stateHash binds the sum of all rows to the bookkeeping beside them.
func (m *metaRow) stateHash() StateHash {
	p := make([]byte, 0, 64)
	for _, v := range []uint64{uint64(m.Time), m.Level, m.QueueHead, m.QueueNext,
		m.Sum[0], m.Sum[1], m.Sum[2], m.Sum[3]} {
		p = binary.BigEndian.AppendUint64(p, v)
	}
	return sha256.Sum256(p)
}
