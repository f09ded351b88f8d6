package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/conclave-secrets/conclave/fsm"
)

// A blinded name:
//
//	| space (1) | length (uvarint) | ciphertext of segment 1 | length | ciphertext of segment 2 | …
//
// Each ciphertext is AES-SIV (RFC 5297) of the segment under the name key, with
// all that precedes its length as associated data: 16 bytes longer than the
// segment. Equal names have equal keys, a directory is a prefix of all that is
// in it, and equal segments in two directories look unrelated. What shows: how
// many segments a name has, how long each is, and that two names share a parent.

// segmentOverhead is what blinding adds to a segment, apart from its length.
const segmentOverhead = 16

// ErrName: a name cannot be blinded; the wrapping error says why, without the name.
var ErrName = errors.New("name cannot be blinded")

// ErrNameAltered: a key is not one that this cluster's name key made.
var ErrNameAltered = errors.New("key was altered, or blinded by another cluster")

// Blind returns the key of the name that segments spell, outermost first; at
// least one, none empty. Deterministic. The caller owns the key. Errors:
// ErrSealed, ErrName (no segment, an empty one, or longer than fsm.MaxKeySize).
func (b *Barrier) Blind(space fsm.Space, segments []string) (fsm.Key, error) {
	if len(segments) == 0 {
		return nil, fmt.Errorf("%w: it has no segment", ErrName)
	}
	return b.BlindPrefix(space, segments)
}

// BlindPrefix returns the prefix of the keys of everything below the directory
// that segments spell; none means the whole space. It is the key of the record
// of that very name too, should there be one. Errors are those of Blind.
func (b *Barrier) BlindPrefix(space fsm.Space, segments []string) (fsm.Key, error) {
	size := 1
	for _, s := range segments {
		if s == "" {
			return nil, fmt.Errorf("%w: it has an empty segment", ErrName)
		}
		size += binary.MaxVarintLen16 + segmentOverhead + len(s)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return nil, ErrSealed
	}
	key := append(make(fsm.Key, 0, min(size, fsm.MaxKeySize)), byte(space))
	for _, s := range segments {
		if len(key)+segmentOverhead+len(s) >= fsm.MaxKeySize {
			return nil, fmt.Errorf("%w: its key is longer than %d bytes", ErrName, fsm.MaxKeySize)
		}
		parent := key
		key = binary.AppendUvarint(key, uint64(segmentOverhead+len(s)))
		key = b.keys.names.seal(key, s, parent)
	}
	if len(key) > fsm.MaxKeySize {
		return nil, fmt.Errorf("%w: its key is longer than %d bytes", ErrName, fsm.MaxKeySize)
	}
	return key, nil
}

// Unblind returns the segments that Blind was given. Errors: ErrSealed, and
// ErrNameAltered, also for a key of another space.
func (b *Barrier) Unblind(space fsm.Space, key fsm.Key) ([]string, error) {
	if len(key) < 2 || key[0] != byte(space) {
		return nil, fmt.Errorf("unblinding name: %w", ErrNameAltered)
	}
	var segments []string
	for at := 1; at < len(key); {
		segment, rest, err := b.UnblindSegment(key[:at], key)
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment)
		at = len(key) - len(rest)
	}
	return segments, nil
}

// UnblindSegment returns the segment of key that follows parent, and what is
// left of key after it: empty for a record directly in parent, more for one
// further down. A listing decodes no more than that. rest aliases key. Errors:
// ErrSealed, and ErrNameAltered, also when key is not below parent.
func (b *Barrier) UnblindSegment(parent, key fsm.Key) (segment string, rest []byte, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return "", nil, ErrSealed
	}
	ciphertext, rest, ok := nextSegment(parent, key)
	if !ok {
		return "", nil, fmt.Errorf("unblinding name: %w", ErrNameAltered)
	}
	plaintext, ok := b.keys.names.open(ciphertext, parent)
	if !ok {
		return "", nil, fmt.Errorf("unblinding name: %w", ErrNameAltered)
	}
	return string(plaintext), rest, nil
}

// nextSegment cuts the ciphertext that follows parent out of key.
func nextSegment(parent, key fsm.Key) (ciphertext, rest []byte, ok bool) {
	if len(parent) == 0 || !bytes.HasPrefix(key, parent) {
		return nil, nil, false
	}
	tail := key[len(parent):]
	length, n := binary.Uvarint(tail)
	if n <= 0 || length <= segmentOverhead || length > uint64(len(tail)-n) {
		return nil, nil, false
	}
	// A longer spelling of the same length would be a second key for one name.
	if n != len(binary.AppendUvarint(nil, length)) {
		return nil, nil, false
	}
	end := n + int(length)
	return tail[n:end], tail[end:], true
}
