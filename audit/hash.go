package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"
	"sync"
)

// HashPrefix begins every value that is recorded as a keyed hash.
const HashPrefix = "hmac-sha256:"

// A Hasher returns the HMAC-SHA-256 of a value under the cluster's audit key. It is
// safe for concurrent use, neither keeps nor changes the value, and is the same on
// every node, so that one value has one spelling in all logs.
type Hasher func(value []byte) [sha256.Size]byte

// NewHasher returns the Hasher of a key of at least 16 bytes, which it copies into
// states that cannot be wiped; see DESIGN.md. A shorter key is a programming error
// and panics.
func NewHasher(key []byte) Hasher {
	if len(key) < 16 {
		panic("audit: the hash key is shorter than 16 bytes")
	}
	own := append([]byte(nil), key...)
	states := sync.Pool{New: func() any { return &keyed{mac: hmac.New(sha256.New, own)} }}
	return func(value []byte) [sha256.Size]byte {
		k := states.Get().(*keyed)
		k.mac.Reset()
		k.mac.Write(value) // a hash never fails
		k.mac.Sum(k.sum[:0])
		sum := k.sum
		states.Put(k)
		return sum
	}
}

// keyed keeps the sum beside the state: a local array would escape to the heap
// through the interface call, once per value.
type keyed struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// HashValue spells value as a record does, for a search after a known value
// (`conclave audit hash`). A JSON string is hashed as its decoded text, a number or
// boolean as its literal.
func HashValue(h Hasher, value []byte) string {
	return string(appendHashed(nil, h, value))
}

func appendHashed(dst []byte, h Hasher, value []byte) []byte {
	sum := h(value)
	dst = append(dst, HashPrefix...)
	return hex.AppendEncode(dst, sum[:])
}

// IsHash tells whether s is spelled as HashValue spells.
func IsHash(s string) bool {
	digits, ok := strings.CutPrefix(s, HashPrefix)
	return ok && len(digits) == hexLen && strings.Trim(digits, hexDigits) == ""
}
