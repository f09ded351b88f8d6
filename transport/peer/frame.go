package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A frame of "conclave-node/1", in network byte order:
//
//	0        4    5         13      14         18
//	+--------+----+---------+-------+----------+--------------------+
//	| length | 01 | request | kind  | millis   | body (see body.go) |
//	+--------+----+---------+-------+----------+--------------------+
//
// length counts what follows it. 01 is the format. request pairs an answer with
// its request and is chosen by the side that asks. kind is a method in a request
// and a status in an answer. millis is how long the asking side will wait; 0 in
// an answer.
const (
	formatFrame1 = 0x01
	headSize     = 18
	afterLength  = headSize - 4
	// maxFrame bounds length: a group of batches (1 MiB, or one batch of 4 MiB)
	// fits with room.
	maxFrame = 8 << 20
)

var (
	errFrameSize   = errors.New("frame size out of bounds")
	errFrameFormat = errors.New("frame format not known")
)

type frame struct {
	request uint64
	kind    byte
	millis  uint32
	body    []byte
}

// appendFrame appends the encoded f to p.
func appendFrame(p []byte, f frame) ([]byte, error) {
	length := afterLength + len(f.body)
	if length > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", errFrameSize, length, maxFrame)
	}
	p = binary.BigEndian.AppendUint32(p, uint32(length))
	p = append(p, formatFrame1)
	p = binary.BigEndian.AppendUint64(p, f.request)
	p = append(p, f.kind)
	p = binary.BigEndian.AppendUint32(p, f.millis)
	return append(p, f.body...), nil
}

// readFrame reads one frame. The body is the caller's. It allocates no more
// than the bytes that really arrive, rounded up, whatever length claims.
func readFrame(r io.Reader) (frame, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < afterLength || length > maxFrame {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrameSize, length)
	}
	if head[4] != formatFrame1 {
		return frame{}, fmt.Errorf("%w: %d", errFrameFormat, head[4])
	}
	body, err := readBody(r, int(length-afterLength))
	if err != nil {
		return frame{}, err
	}
	return frame{
		request: binary.BigEndian.Uint64(head[5:]), kind: head[13],
		millis: binary.BigEndian.Uint32(head[14:]), body: body,
	}, nil
}

// readBody reads n bytes in steps, so that a peer must send what it announces
// before the memory is spent.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 256 << 10
	var body []byte
	for len(body) < n {
		at := len(body)
		body = append(body, make([]byte, min(step, n-at))...)
		if _, err := io.ReadFull(r, body[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 4096
	h.ErrorIfNoField = true
	h.ErrorIfNoArrayExpand = true
	return h
}()
