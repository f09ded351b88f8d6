package shamir

import (
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// A polynomial is a secret: its constant term is the shared scalar, and share i
// is its value at i. Coefficients are in ascending order.
type polynomial []group.Scalar

// newPolynomial draws one of degree threshold-1 from rand.
func newPolynomial(rand io.Reader, threshold int) (polynomial, error) {
	p := make(polynomial, threshold)
	var seed [seedSize]byte
	defer redact.Wipe(seed[:])
	for i := range p {
		if _, err := io.ReadFull(rand, seed[:]); err != nil {
			p[:i].wipe()
			return nil, fmt.Errorf("drawing share polynomial: %w", err)
		}
		// Hashing 64 bytes to a scalar leaves a bias below 2^-128 (RFC 9380, 5.1).
		p[i] = curve.HashToScalar(seed[:], []byte(scalarDomain))
	}
	return p, nil
}

// share evaluates p at index by Horner's rule.
func (p polynomial) share(index uint8) (Share, error) {
	x := curve.NewScalar().SetUint64(uint64(index))
	y := curve.NewScalar()
	defer y.SetUint64(0)
	for i := len(p) - 1; i >= 0; i-- {
		y.Mul(y, x)
		y.Add(y, p[i])
	}
	value, err := y.MarshalBinary()
	if err != nil {
		return Share{}, fmt.Errorf("encoding share %d: %w", index, err)
	}
	return Share{Index: index, value: redact.New(value)}, nil
}

// commit returns the public images of the coefficients.
func (p polynomial) commit() Commitments {
	elements := make([]group.Element, len(p))
	for i, coefficient := range p {
		elements[i] = curve.NewElement().MulGen(coefficient)
	}
	return Commitments{elements}
}

func (p polynomial) wipe() {
	for _, coefficient := range p {
		coefficient.SetUint64(0)
	}
}
