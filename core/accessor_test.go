package core

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/seal"
)

// Each mask has one spelling, and each spelling at most one mask.
func TestAccessorsSpellMasks(t *testing.T) {
	dice := rand.NewChaCha8([32]byte([]byte("the dice of accessors' spelling.")))
	masks := [][seal.MaskSize]byte{{}, {15: 1}, {0: 0xff}, [seal.MaskSize]byte([]byte(strings.Repeat("\xff", 16)))}
	for range 10_000 {
		var mask [seal.MaskSize]byte
		_, _ = dice.Read(mask[:]) // never fails
		masks = append(masks, mask)
	}
	for _, mask := range masks {
		text := encodeAccessor(mask)
		if got, ok := decodeAccessor(text); !ok || got != mask || len(text) != accessorLength {
			t.Fatalf("%x is spelled %q, which says %x, %t", mask, text, got, ok)
		}
	}
	last := encodeAccessor(masks[3])
	for _, text := range []string{
		"", "0", last[:21], last + "0", strings.Repeat("z", 22), "-" + last[1:], last[:21] + "\x00",
		last[:21] + string(base62[strings.IndexByte(base62, last[21])+1]), // 2¹²⁸
	} {
		if mask, ok := decodeAccessor(text); ok {
			t.Errorf("%q is the accessor of %x", text, mask)
		}
	}
}
