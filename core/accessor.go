package core

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

// An accessor names a token to those who may look it up, renew or revoke it and must
// not use it. It is the beginning of the token's keyed hash, masked (seal.Barrier.Mask),
// so it costs the ledger nothing: no row leads from one to the other, and none can be
// left behind. Backwards, the hash's beginning finds the only row that has it: that two
// of n tokens share 128 bits has a chance of n²/2¹²⁹.
const accessorLength = 22 // of base62, which holds 128 bits

// accessorOf is the accessor of the token whose record is at key.
func accessorOf(b *seal.Barrier, key fsm.Key) (string, error) {
	mask, err := b.Mask([seal.MaskSize]byte(key[1:]))
	if err != nil {
		return "", err
	}
	return encodeAccessor(mask), nil
}

// hashed returns how the key of a token begins that has this accessor; ok is false if
// it cannot be one.
func hashed(b *seal.Barrier, accessor string) (prefix fsm.Key, ok bool, err error) {
	mask, ok := decodeAccessor(accessor)
	if !ok {
		return nil, false, nil
	}
	id, err := b.Unmask(mask)
	return append(fsm.Key{byte(spaceToken)}, id[:]...), true, err
}

// encodeAccessor writes a mask as a number of base62, most significant digit first.
func encodeAccessor(mask [seal.MaskSize]byte) string {
	var text [accessorLength]byte
	high, low := binary.BigEndian.Uint64(mask[:8]), binary.BigEndian.Uint64(mask[8:])
	for i := range text {
		var rest uint64
		high, rest = high/62, high%62
		low, rest = bits.Div64(rest, low, 62)
		text[accessorLength-1-i] = base62[rest]
	}
	return string(text[:])
}

// decodeAccessor undoes encodeAccessor; ok is false for any other text.
func decodeAccessor(text string) (mask [seal.MaskSize]byte, ok bool) {
	if len(text) != accessorLength {
		return mask, false
	}
	var high, low uint64
	for i := range text {
		digit := strings.IndexByte(base62, text[i])
		over, top := bits.Mul64(high, 62)
		carried, bottom := bits.Mul64(low, 62)
		var carry uint64
		low, carry = bits.Add64(bottom, uint64(digit), 0)
		high, carry = bits.Add64(top, carried, carry)
		if digit < 0 || over != 0 || carry != 0 {
			return mask, false
		}
	}
	binary.BigEndian.PutUint64(mask[:8], high)
	binary.BigEndian.PutUint64(mask[8:], low)
	return mask, true
}
