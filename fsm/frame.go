package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// frameLimits bounds the arrays of an encoded value by how deep they lie. An
// array that is deeper than the last of them is refused.
//
// One byte on the wire (a nil) can stand for an Operation of 250 bytes in memory, so a
// bound on the encoded size alone would let 8 MiB grow to 2 GiB before anybody
// could count. checkFrame counts first.
type frameLimits []int

var (
	// strictLimits is what ValidateBatch accepts: the fields of a batch, its
	// guards or operations, the fields of one, the numbers or groups in it.
	strictLimits = frameLimits{maxFields, max(MaxGuards, MaxOperations), maxFields, max(MaxNumbers, MaxGroups)}
	// batchLimits is what the machine can read. They are wider, for a batch
	// that is in the log must not halt the machine for being large.
	batchLimits = frameLimits{maxFields, 4096, maxFields, 4096}
	entryLimits = frameLimits{maxFields, maxBatchesPerEntry}
)

const (
	maxFields          = 32      // of a structure; no field of one is an array of numbers
	maxBatchesPerEntry = 1 << 16 // far above what a leader puts together
)

var errFrame = errors.New("encoding is damaged")

// checkFrame walks over one msgpack value without building anything from it. It
// knows what the encoder writes (nil, booleans, integers, byte strings, arrays)
// and refuses the rest: maps, text keys, floats, extensions.
//
// https://github.com/msgpack/msgpack/blob/master/spec.md
func checkFrame(p []byte, limits frameLimits) error {
	_, err := skipValue(p, limits)
	return err
}

// skipValue returns what follows the first value of p.
func skipValue(p []byte, limits frameLimits) ([]byte, error) {
	if len(p) == 0 {
		return nil, errFrame
	}
	head := p[0]
	switch {
	case head <= 0x7f || head >= 0xe0: // a small integer
		return p[1:], nil
	case head >= 0x90 && head <= 0x9f:
		return skipArray(p[1:], int(head&0x0f), limits)
	case head >= 0xa0 && head <= 0xbf:
		return skipBytes(p[1:], uint64(head&0x1f))
	}
	switch head {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return p[1:], nil
	case 0xcc, 0xd0:
		return skipBytes(p[1:], 1)
	case 0xcd, 0xd1:
		return skipBytes(p[1:], 2)
	case 0xce, 0xd2:
		return skipBytes(p[1:], 4)
	case 0xcf, 0xd3:
		return skipBytes(p[1:], 8)
	case 0xc4, 0xd9:
		return skipCounted(p[1:], 1)
	case 0xc5, 0xda:
		return skipCounted(p[1:], 2)
	case 0xc6, 0xdb:
		return skipCounted(p[1:], 4)
	case 0xdc, 0xdd:
		size := 2 << (head & 1)
		n, rest, err := readCount(p[1:], size)
		if err != nil {
			return nil, err
		}
		return skipArray(rest, int(n), limits)
	}
	return nil, fmt.Errorf("%w: byte %#x begins nothing that is written here", errFrame, head)
}

func skipArray(p []byte, n int, limits frameLimits) ([]byte, error) {
	if len(limits) == 0 {
		return nil, fmt.Errorf("%w: an array where none belongs", errFrame)
	}
	if n > limits[0] {
		return nil, fmt.Errorf("%w: an array of %d elements, above the limit of %d", errFrame, n, limits[0])
	}
	for range n {
		var err error
		if p, err = skipValue(p, limits[1:]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func skipCounted(p []byte, size int) ([]byte, error) {
	n, rest, err := readCount(p, size)
	if err != nil {
		return nil, err
	}
	return skipBytes(rest, n)
}

func skipBytes(p []byte, n uint64) ([]byte, error) {
	if uint64(len(p)) < n {
		return nil, fmt.Errorf("%w: it ends too early", errFrame)
	}
	return p[n:], nil
}

// readCount reads a big-endian number of size bytes: 1, 2 or 4.
func readCount(p []byte, size int) (uint64, []byte, error) {
	if len(p) < size {
		return 0, nil, fmt.Errorf("%w: it ends too early", errFrame)
	}
	var n [8]byte
	copy(n[8-size:], p[:size])
	return binary.BigEndian.Uint64(n[:]), p[size:], nil
}
