package peer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Bodies are msgpack, but for the two that carry hundreds of batches at a time:
// msgpack by reflection took 1.3 ms for a group of 256. These are
//
//	batches: count, then for each: length, bytes
//	replies: count, then for each: code, result code, reason, guard, index, time
//
// with every number an unsigned varint, and time a signed one.

var errBody = errors.New("body ends early or has bytes left over")

func encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case []cluster.RawBatch:
		return encodeBatches(v), nil
	case []cluster.Reply:
		return encodeReplies(v), nil
	}
	var p []byte
	if err := codec.NewEncoderBytes(&p, handle).Encode(v); err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return p, nil
}

// decode parses p into v, which must use all of it. Batches alias p.
func decode(p []byte, v any) error {
	switch v := v.(type) {
	case *[]cluster.RawBatch:
		return decodeBatches(p, v)
	case *[]cluster.Reply:
		return decodeReplies(p, v)
	}
	d := codec.NewDecoderBytes(p, handle)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	if n := d.NumBytesRead(); n != len(p) {
		return fmt.Errorf("decoding %T: %d bytes follow it", v, len(p)-n)
	}
	return nil
}

func encodeBatches(batches []cluster.RawBatch) []byte {
	size := binary.MaxVarintLen64
	for _, b := range batches {
		size += binary.MaxVarintLen32 + len(b)
	}
	p := binary.AppendUvarint(make([]byte, 0, size), uint64(len(batches)))
	for _, b := range batches {
		p = binary.AppendUvarint(p, uint64(len(b)))
		p = append(p, b...)
	}
	return p
}

func decodeBatches(p []byte, out *[]cluster.RawBatch) error {
	r := bodyReader{rest: p}
	n := r.count()
	batches := make([]cluster.RawBatch, 0, n)
	for range n {
		batches = append(batches, r.bytes())
	}
	*out = batches
	return r.finish()
}

func encodeReplies(replies []cluster.Reply) []byte {
	p := binary.AppendUvarint(make([]byte, 0, 8+20*len(replies)), uint64(len(replies)))
	for i := range replies {
		x := &replies[i].Result
		p = append(p, byte(replies[i].Code), byte(x.Code), byte(x.Reason))
		p = binary.AppendUvarint(p, uint64(x.Guard))
		p = binary.AppendUvarint(p, x.Index)
		p = binary.AppendVarint(p, int64(x.Time))
	}
	return p
}

func decodeReplies(p []byte, out *[]cluster.Reply) error {
	r := bodyReader{rest: p}
	n := r.count()
	replies := make([]cluster.Reply, n)
	for i := range replies {
		x := &replies[i].Result
		replies[i].Code = cluster.ReplyCode(r.byte())
		x.Code, x.Reason = fsm.ResultCode(r.byte()), fsm.RefusedReason(r.byte())
		x.Guard, x.Index, x.Time = int(r.uint()), r.uint(), fsm.LogTime(r.int())
	}
	*out = replies
	return r.finish()
}

// bodyReader reads until the body ends early; then it gives zeros, and finish
// tells.
type bodyReader struct {
	rest  []byte
	short bool
}

func (r *bodyReader) fail() { r.rest, r.short = nil, true }

func (r *bodyReader) uint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *bodyReader) int() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *bodyReader) byte() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *bodyReader) bytes() []byte { return r.take(r.uint()) }

func (r *bodyReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// count reads how many elements follow; each takes a byte at least.
func (r *bodyReader) count() int {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *bodyReader) finish() error {
	if r.short || len(r.rest) > 0 {
		return errBody
	}
	return nil
}
