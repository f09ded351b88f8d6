package raftlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// Every stored entry carries a trailer at the end of its Extensions:
//
//	 0        8          12            28      29
//	+--------+----------+-------------+--------+
//	| term   | crc32c   | sum         | format |     integers are big-endian
//	+--------+----------+-------------+--------+
//
//	crc32c covers format, index, term
//	sum    is SHA-256, cut to 16 bytes, over
//	       "conclave raft entry" format index term type
//	       appended-at (seconds, nanoseconds) len(extensions) len(data) extensions data
//
// The sum is SHA-256 because rot must not slip through by luck in a decade of
// reads on thousands of disks, and because processors hash it in hardware:
// BenchmarkSealEntry measures it beside the fsync it precedes. xxhash64 would be
// faster on large entries and has half the bits. It is not a MAC: whoever can
// write to the disk can write a valid trailer (values are sealed further up).
//
// The trailer sits in Extensions and not in Data so that a large Data is never
// copied. The term has a check of its own so that a rotten entry can still say
// in which term it was written: an entry fetched to replace it must be of that term.
const (
	entryFormat   = 1
	sumSize       = 16
	trailerSize   = 8 + 4 + sumSize + 1
	entryDomain   = "conclave raft entry"
	entryPreamble = len(entryDomain) + 1 + 8 + 8 + 1 + 8 + 4 + 8 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealEntry returns a copy of e whose Extensions end in a trailer. Data is
// shared with e; e is not changed.
func sealEntry(e *raft.Log) *raft.Log {
	sealed := *e
	ext := make([]byte, 0, len(e.Extensions)+trailerSize)
	ext = append(ext, e.Extensions...)
	ext = binary.BigEndian.AppendUint64(ext, e.Term)
	ext = binary.BigEndian.AppendUint32(ext, termCheck(e.Index, e.Term))
	sum := entrySum(e, e.Extensions)
	ext = append(ext, sum[:]...)
	sealed.Extensions = append(ext, entryFormat)
	return &sealed
}

// openEntry verifies that e is the entry once sealed for index and removes its
// trailer. On error e is not to be used.
func openEntry(index uint64, e *raft.Log) *RotError {
	cut := len(e.Extensions) - trailerSize
	if cut < 0 {
		return &RotError{Index: index, Reason: "it has no checksum"}
	}
	trailer := e.Extensions[cut:]
	rot := &RotError{Index: index}
	rot.term, rot.termKnown = checkedTerm(index, trailer)
	if format := trailer[trailerSize-1]; format != entryFormat {
		rot.Reason = fmt.Sprintf("unknown entry format %d", format)
		return rot
	}
	if e.Index != index {
		rot.Reason = fmt.Sprintf("it claims to be entry %d", e.Index)
		return rot
	}
	sum := entrySum(e, e.Extensions[:cut])
	if sum != [sumSize]byte(trailer[12:12+sumSize]) || !rot.termKnown || rot.term != e.Term {
		rot.Reason = "checksum mismatch"
		return rot
	}
	e.Extensions = e.Extensions[:cut:cut]
	if cut == 0 {
		e.Extensions = nil
	}
	return nil
}

// checkedTerm returns the term in a trailer if the term's own check holds for index.
func checkedTerm(index uint64, trailer []byte) (uint64, bool) {
	term := binary.BigEndian.Uint64(trailer)
	ok := binary.BigEndian.Uint32(trailer[8:]) == termCheck(index, term)
	return term, ok
}

func termCheck(index, term uint64) uint32 {
	b := make([]byte, 0, 17)
	b = append(b, entryFormat)
	b = binary.BigEndian.AppendUint64(b, index)
	b = binary.BigEndian.AppendUint64(b, term)
	return crc32.Checksum(b, castagnoli)
}

// entrySum hashes e with extensions in place of e.Extensions. AppendedAt is
// included as an instant: it is no part of Raft's protocol, but then every byte
// of the stored value is covered.
func entrySum(e *raft.Log, extensions []byte) [sumSize]byte {
	b := make([]byte, 0, entryPreamble)
	b = append(b, entryDomain...)
	b = append(b, entryFormat)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(e.AppendedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(e.AppendedAt.Nanosecond()))
	b = binary.BigEndian.AppendUint64(b, uint64(len(extensions)))
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.Data)))
	h := sha256.New()
	h.Write(b) // a hash.Hash never returns an error
	h.Write(extensions)
	h.Write(e.Data)
	return [sumSize]byte(h.Sum(b[:0]))
}
