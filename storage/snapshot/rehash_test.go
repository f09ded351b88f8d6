package snapshot

import "crypto/sha256"

// rehash makes the last hashSize bytes of head the hash of the rest.
func rehash(head []byte) {
	sum := sha256.Sum256(head[:len(head)-hashSize])
	copy(head[len(head)-hashSize:], sum[:])
}
