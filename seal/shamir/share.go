package shamir

import (
	"fmt"

	"github.com/cloudflare/circl/secretsharing"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// A Share is one point of the secret polynomial. Its index is public, its value
// a secret, and it prints as "share 3 [redacted]". Copies share the value.
type Share struct {
	Index uint8 // 1..MaxShares
	value redact.Bytes
}

// String names the share without its value.
func (s Share) String() string { return fmt.Sprintf("share %d %s", s.Index, redact.Text) }

// GoString names the share without its value, for %#v.
func (s Share) GoString() string { return s.String() }

// Wipe overwrites the value, in every copy of s.
func (s Share) Wipe() { s.value.Wipe() }

// Equal tells, in constant time, whether both are the same share.
func (s Share) Equal(other Share) bool {
	return s.Index == other.Index && s.value.Equal(other.value)
}

// MarshalBinary exposes the share as index and value, 33 bytes that the caller
// owns and must wipe. The error is always nil.
func (s Share) MarshalBinary() ([]byte, error) {
	return append([]byte{s.Index}, s.value.Expose()...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote; it copies. Anything else, a
// value that is not the one encoding of a scalar included, wraps ErrGarbled.
func (s *Share) UnmarshalBinary(p []byte) error {
	if len(p) != 1+scalarSize || p[0] == 0 {
		return fmt.Errorf("%w: want index and %d bytes", ErrGarbled, scalarSize)
	}
	scalar := curve.NewScalar()
	defer scalar.SetUint64(0)
	if err := scalar.UnmarshalBinary(p[1:]); err != nil {
		return fmt.Errorf("%w: its value is no scalar", ErrGarbled)
	}
	*s = Share{Index: p[0], value: redact.New(append([]byte(nil), p[1:]...))}
	return nil
}

// point returns the share in circl's terms; the caller wipes it.
func (s Share) point() (secretsharing.Share, error) {
	value := curve.NewScalar()
	if s.Index == 0 {
		return secretsharing.Share{}, fmt.Errorf("%w: index 0", ErrGarbled)
	}
	if err := value.UnmarshalBinary(s.value.Expose()); err != nil {
		return secretsharing.Share{}, fmt.Errorf("%w: its value is no scalar", ErrGarbled)
	}
	return secretsharing.Share{ID: curve.NewScalar().SetUint64(uint64(s.Index)), Value: value}, nil
}
