package shamir

import (
	"bytes"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// Commitments bind the polynomial behind a set of shares, so that each share
// can be verified alone. They are public: they reveal the root secret only to
// who can take discrete logarithms. Immutable; the zero value verifies nothing.
type Commitments struct{ elements []group.Element }

// Threshold is the number of shares that recover the root secret.
func (c Commitments) Threshold() int { return len(c.elements) }

// Verify returns nil if s lies on the committed polynomial, a WrongShareError
// with its index if not, and an error that wraps ErrGarbled if it is no share.
func (c Commitments) Verify(s Share) error {
	if len(c.elements) == 0 {
		return &WrongShareError{Index: s.Index}
	}
	point, err := s.point()
	if err != nil {
		return err
	}
	defer point.Value.SetUint64(0)
	if !secretsharing.Verify(uint(len(c.elements)-1), point, c.elements) {
		return &WrongShareError{Index: s.Index}
	}
	return nil
}

// MarshalBinary returns the elements one after the other, 32 bytes each, in
// ascending order of the coefficient. The caller owns the bytes.
func (c Commitments) MarshalBinary() ([]byte, error) {
	out := make([]byte, 0, len(c.elements)*elementSize)
	for i, e := range c.elements {
		p, err := e.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encoding commitment %d: %w", i, err)
		}
		out = append(out, p...)
	}
	return out, nil
}

// UnmarshalCommitments reads what MarshalBinary wrote, for a threshold of
// len(p)/32. Only canonical encodings are taken; the result aliases nothing.
func UnmarshalCommitments(p []byte) (Commitments, error) {
	n := len(p) / elementSize
	if len(p)%elementSize != 0 || n < 1 || n > MaxShares {
		return Commitments{}, fmt.Errorf("decoding commitments: %d bytes are not 1 to %d elements", len(p), MaxShares)
	}
	elements := make([]group.Element, n)
	for i := range elements {
		encoded := p[i*elementSize : (i+1)*elementSize]
		elements[i] = curve.NewElement()
		if err := elements[i].UnmarshalBinary(encoded); err != nil {
			return Commitments{}, fmt.Errorf("decoding commitment %d: not an element of the group", i)
		}
		// One element, one encoding: else two configurations would be equal
		// and have different bytes.
		if again, err := elements[i].MarshalBinary(); err != nil || !bytes.Equal(again, encoded) {
			return Commitments{}, fmt.Errorf("decoding commitment %d: not in canonical form", i)
		}
	}
	return Commitments{elements}, nil
}
