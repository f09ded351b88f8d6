package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
)

// The name cipher is AES-SIV. RFC 5297 publishes vectors for 32-byte keys only,
// ours has 64. So a plain reading of the RFC stands between them: it must give
// the RFC's vector A.1, and both our cipher and tink's must agree with it.
func TestNameCipherIsRFC5297(t *testing.T) {
	key := mustHex(t, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
	ad := mustHex(t, "101112131415161718191a1b1c1d1e1f2021222324252627")
	plaintext := mustHex(t, "112233445566778899aabbccddee")
	want := mustHex(t, "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
	if got := referenceSIV(t, key, plaintext, ad); !bytes.Equal(got, want) {
		t.Fatalf("reference against RFC 5297 A.1: got %x, want %x", got, want)
	}
	dice := rand.NewChaCha8([32]byte{1})
	for n := range 300 {
		key, plaintext, ad := make([]byte, nameKeySize), make([]byte, n), make([]byte, n*7%90+n/100)
		for _, p := range [][]byte{key, plaintext, ad} {
			_, _ = dice.Read(p) // never fails
		}
		want := referenceSIV(t, key, plaintext, ad)
		theirs, err := subtle.NewAESSIV(key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := theirs.EncryptDeterministically(plaintext, ad); err != nil || !bytes.Equal(got, want) {
			t.Errorf("tink, %d bytes: got %x and %v, want %x", n, got, err, want)
		}
		ours, err := newSIV(key)
		if err != nil {
			t.Fatal(err)
		}
		got := ours.seal([]byte("before"), string(plaintext), ad)
		if !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("ours, %d bytes: got %x, want %x", n, got, want)
		}
		if back, ok := ours.open(want, ad); !ok || !bytes.Equal(back, plaintext) {
			t.Errorf("ours, %d bytes: opened to %x, %v", n, back, ok)
		}
		if _, ok := ours.open(want, append(ad, 0)); ok {
			t.Errorf("ours, %d bytes: opened under another datum", n)
		}
	}
}

// referenceSIV is RFC 5297, section 2.6, with one associated datum.
func referenceSIV(t *testing.T, key, plaintext, ad []byte) []byte {
	t.Helper()
	half := len(key) / 2
	mac, err := aes.NewCipher(key[:half])
	if err != nil {
		t.Fatal(err)
	}
	ctr, err := aes.NewCipher(key[half:])
	if err != nil {
		t.Fatal(err)
	}
	d := xor(double(referenceCMAC(mac, make([]byte, 16))), referenceCMAC(mac, ad))
	var last []byte
	if len(plaintext) >= 16 {
		n := len(plaintext) - 16
		last = append(bytes.Clone(plaintext[:n]), xor(plaintext[n:], d)...)
	} else {
		last = xor(double(d), pad(plaintext))
	}
	v := referenceCMAC(mac, last)
	counter := bytes.Clone(v)
	counter[8] &= 0x7f
	counter[12] &= 0x7f
	out := make([]byte, len(plaintext))
	cipher.NewCTR(ctr, counter).XORKeyStream(out, plaintext)
	return append(v, out...)
}

// referenceCMAC is RFC 4493.
func referenceCMAC(block cipher.Block, message []byte) []byte {
	zero := make([]byte, 16)
	block.Encrypt(zero, zero)
	k1 := double(zero)
	x := make([]byte, 16)
	for len(message) > 16 {
		block.Encrypt(x, xor(x, message[:16]))
		message = message[16:]
	}
	if len(message) == 16 {
		message = xor(message, k1)
	} else {
		message = xor(pad(message), double(k1))
	}
	block.Encrypt(x, xor(x, message))
	return x
}

func double(p []byte) []byte {
	out := make([]byte, 16)
	for i := range 15 {
		out[i] = p[i]<<1 | p[i+1]>>7
	}
	out[15] = p[15] << 1
	if p[0]&0x80 != 0 {
		out[15] ^= 0x87
	}
	return out
}

func pad(p []byte) []byte {
	out := make([]byte, 16)
	out[copy(out, p)] = 0x80
	return out
}

func xor(a, b []byte) []byte {
	out := make([]byte, 16)
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
