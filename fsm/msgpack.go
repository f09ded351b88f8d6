package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Commands are msgpack: structures are arrays of their fields, byte strings are
// bin, absent ones nil. This file writes and reads the part of the format that
// they need; TestCommandsAreMsgpack holds it against go-msgpack, byte for byte.
//
// It is our own because every replica decodes every command on its one apply
// goroutine: by reflection that took a tenth of the time of a write. Reading
// also counts before it builds, which a general decoder cannot: one byte on the
// wire (a nil) can stand for an Operation of 250 bytes in memory, so a bound on
// the encoded size alone would let 8 MiB grow to 2 GiB.
//
// https://github.com/msgpack/msgpack/blob/master/spec.md

// The first bytes of msgpack values.
const (
	packFixArray = 0x90 // the length in the low four bits
	packNil      = 0xc0
	packBin8     = 0xc4
	packBin16    = 0xc5
	packBin32    = 0xc6
	packUint8    = 0xcc
	packUint16   = 0xcd
	packUint32   = 0xce
	packUint64   = 0xcf
	packInt8     = 0xd0
	packInt16    = 0xd1
	packInt32    = 0xd2
	packInt64    = 0xd3
	packArray16  = 0xdc
	packArray32  = 0xdd
	packNegative = 0xe0 // and above: -32 to -1
)

// A packer appends values to p.
type packer struct{ p []byte }

func (w *packer) uint(v uint64) {
	switch {
	case v <= math.MaxInt8:
		w.p = append(w.p, byte(v))
	case v <= math.MaxUint8:
		w.p = append(w.p, packUint8, byte(v))
	case v <= math.MaxUint16:
		w.p = binary.BigEndian.AppendUint16(append(w.p, packUint16), uint16(v))
	case v <= math.MaxUint32:
		w.p = binary.BigEndian.AppendUint32(append(w.p, packUint32), uint32(v))
	default:
		w.p = binary.BigEndian.AppendUint64(append(w.p, packUint64), v)
	}
}

func (w *packer) int(v int64) {
	switch {
	case v >= -32 && v <= math.MaxInt8:
		w.p = append(w.p, byte(v))
	case v >= math.MinInt8 && v <= math.MaxInt8:
		w.p = append(w.p, packInt8, byte(v))
	case v >= math.MinInt16 && v <= math.MaxInt16:
		w.p = binary.BigEndian.AppendUint16(append(w.p, packInt16), uint16(v))
	case v >= math.MinInt32 && v <= math.MaxInt32:
		w.p = binary.BigEndian.AppendUint32(append(w.p, packInt32), uint32(v))
	default:
		w.p = binary.BigEndian.AppendUint64(append(w.p, packInt64), uint64(v))
	}
}

func (w *packer) bytes(b []byte) {
	switch n := len(b); {
	case b == nil:
		w.p = append(w.p, packNil)
		return
	case n <= math.MaxUint8:
		w.p = append(w.p, packBin8, byte(n))
	case n <= math.MaxUint16:
		w.p = binary.BigEndian.AppendUint16(append(w.p, packBin16), uint16(n))
	default:
		w.p = binary.BigEndian.AppendUint32(append(w.p, packBin32), uint32(n))
	}
	w.p = append(w.p, b...)
}

// array opens an array of n values.
func (w *packer) array(n int) {
	switch {
	case n < 16:
		w.p = append(w.p, packFixArray|byte(n))
	case n <= math.MaxUint16:
		w.p = binary.BigEndian.AppendUint16(append(w.p, packArray16), uint16(n))
	default:
		w.p = binary.BigEndian.AppendUint32(append(w.p, packArray32), uint32(n))
	}
}

// list opens an array that is nil in memory when absent is true.
func (w *packer) list(n int, absent bool) {
	if absent {
		w.p = append(w.p, packNil)
		return
	}
	w.array(n)
}

var errEncoding = errors.New("encoding is damaged")

// An unpacker reads values from p and notes the first error; after it, it reads
// nothing. Byte strings are slices of p.
type unpacker struct {
	p   []byte
	err error
}

func (r *unpacker) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errEncoding, fmt.Sprintf(format, args...))
	}
	r.p = nil
}

// take returns the next n bytes, nil when there are fewer.
func (r *unpacker) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.p)) {
		r.fail("it ends too early")
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

// head takes the first byte of a value.
func (r *unpacker) head() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// fixed takes a big-endian number of size bytes: 1, 2, 4 or 8.
func (r *unpacker) fixed(size uint64) uint64 {
	b := r.take(size)
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *unpacker) uint(limit uint64) uint64 {
	var v uint64
	switch head := r.head(); {
	case head <= math.MaxInt8:
		v = uint64(head)
	case head >= packUint8 && head <= packUint64:
		v = r.fixed(1 << (head - packUint8))
	default:
		r.fail("byte %#x begins no unsigned number", head)
	}
	if v > limit {
		r.fail("a number is above %d", limit)
		return 0
	}
	return v
}

func (r *unpacker) int() int64 {
	switch head := r.head(); {
	case head <= math.MaxInt8 || head >= packNegative:
		return int64(int8(head))
	case head == packInt8:
		return int64(int8(r.fixed(1)))
	case head == packInt16:
		return int64(int16(r.fixed(2)))
	case head == packInt32:
		return int64(int32(r.fixed(4)))
	case head == packInt64:
		return int64(r.fixed(8))
	default:
		r.fail("byte %#x begins no number", head)
		return 0
	}
}

func (r *unpacker) bytes() []byte {
	switch head := r.head(); head {
	case packNil:
		return nil
	case packBin8:
		return r.take(r.fixed(1))
	case packBin16:
		return r.take(r.fixed(2))
	case packBin32:
		return r.take(r.fixed(4))
	default:
		r.fail("byte %#x begins no byte string", head)
		return nil
	}
}

// list opens an array of at most limit values. Whoever builds something for
// each of them may: each takes at least one byte, and limit bounds the rest.
func (r *unpacker) list(limit int) int {
	var n uint64
	switch head := r.head(); {
	case head == packNil:
	case head&0xf0 == packFixArray:
		n = uint64(head & 0x0f)
	case head == packArray16:
		n = r.fixed(2)
	case head == packArray32:
		n = r.fixed(4)
	default:
		r.fail("byte %#x begins no array", head)
	}
	if n > uint64(limit) || n > uint64(len(r.p)) {
		r.fail("an array of %d elements is above the limit of %d, or longer than what follows", n, limit)
		return 0
	}
	return int(n)
}

// fields opens a structure, which has exactly n fields.
func (r *unpacker) fields(n int) {
	if head := r.head(); head != packFixArray|byte(n) {
		r.fail("byte %#x begins no structure of %d fields", head, n)
	}
}

// end checks that nothing follows.
func (r *unpacker) end() error {
	if len(r.p) > 0 {
		r.fail("%d bytes follow the value", len(r.p))
	}
	return r.err
}
