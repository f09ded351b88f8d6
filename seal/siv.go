package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// siv is AES-SIV (RFC 5297) with two 256-bit keys and one associated datum:
// deterministic encryption, 16 bytes longer than the plaintext. Safe for
// concurrent use.
//
// tink-go has it too, but expands the encryption key anew for every call, which
// costs more than all the rest of blinding a path segment. This is checked
// against tink, and against the RFC by way of siv_test.go.
type siv struct {
	mac, ctr cipher.Block
	k1, k2   [aes.BlockSize]byte // CMAC's subkeys (RFC 4493, 2.3)
	start    [aes.BlockSize]byte // what S2V begins with: CMAC of zero, doubled
}

// A sivWork holds the blocks of one computation: interface calls make their
// arguments escape, so it is pooled. Wiped before it goes back.
type sivWork struct {
	x, d, v, counter, stream [aes.BlockSize]byte
	last                     []byte
}

var sivWorks = sync.Pool{New: func() any { return &sivWork{last: make([]byte, 0, 256)} }}

func (w *sivWork) release() {
	last := w.last[:cap(w.last)]
	redact.Wipe(last)
	*w = sivWork{last: last[:0]}
	sivWorks.Put(w)
}

// newSIV makes the cipher; key stays the caller's.
func newSIV(key []byte) (*siv, error) {
	if len(key) != nameKeySize {
		return nil, fmt.Errorf("creating name cipher: key of %d bytes, want %d", len(key), nameKeySize)
	}
	mac, err := aes.NewCipher(key[:nameKeySize/2])
	if err != nil {
		return nil, fmt.Errorf("creating name cipher: %w", err)
	}
	ctr, err := aes.NewCipher(key[nameKeySize/2:])
	if err != nil {
		return nil, fmt.Errorf("creating name cipher: %w", err)
	}
	s := &siv{mac: mac, ctr: ctr}
	mac.Encrypt(s.k1[:], s.k1[:])
	doubleBlock(&s.k1)
	s.k2 = s.k1
	doubleBlock(&s.k2)
	w := &sivWork{}
	s.cmac(w, &s.start, make([]byte, aes.BlockSize))
	doubleBlock(&s.start)
	return s, nil
}

// seal appends the synthetic IV and the ciphertext to dst. ad may lie in dst.
func (s *siv) seal(dst []byte, plaintext string, ad []byte) []byte {
	w := sivWorks.Get().(*sivWork)
	defer w.release()
	at := len(dst)
	dst = append(dst, w.v[:]...)
	dst = append(dst, plaintext...)
	out := dst[at:]
	s.s2v(w, out[aes.BlockSize:], ad)
	copy(out, w.v[:])
	s.crypt(w, out[aes.BlockSize:])
	return dst
}

// open returns the plaintext, which the caller owns, or false for anything that
// seal did not return for ad. ciphertext is at least 16 bytes and not changed.
func (s *siv) open(ciphertext, ad []byte) ([]byte, bool) {
	w := sivWorks.Get().(*sivWork)
	defer w.release()
	plaintext := append([]byte(nil), ciphertext[aes.BlockSize:]...)
	copy(w.v[:], ciphertext)
	s.crypt(w, plaintext)
	s.s2v(w, plaintext, ad)
	if subtle.ConstantTimeCompare(w.v[:], ciphertext[:aes.BlockSize]) != 1 {
		return nil, false
	}
	return plaintext, true
}

// s2v leaves the synthetic IV of plaintext and ad in w.v (RFC 5297, 2.4).
func (s *siv) s2v(w *sivWork, plaintext, ad []byte) {
	s.cmac(w, &w.d, ad)
	subtle.XORBytes(w.d[:], w.d[:], s.start[:])
	w.last = append(w.last[:0], plaintext...)
	if n := len(plaintext) - aes.BlockSize; n >= 0 {
		subtle.XORBytes(w.last[n:], w.last[n:], w.d[:])
	} else {
		doubleBlock(&w.d)
		w.last = append(w.last, 0x80)
		w.last = append(w.last, make([]byte, aes.BlockSize-len(w.last))...)
		subtle.XORBytes(w.last, w.last, w.d[:])
	}
	s.cmac(w, &w.v, w.last)
}

// crypt encrypts or decrypts p in place, in counter mode from w.v (2.5). The
// two cleared bits are the RFC's; a name is far too short for the counter to
// carry out of its last eight bytes.
func (s *siv) crypt(w *sivWork, p []byte) {
	w.counter = w.v
	w.counter[8] &= 0x7f
	w.counter[12] &= 0x7f
	for len(p) > 0 {
		s.ctr.Encrypt(w.stream[:], w.counter[:])
		n := subtle.XORBytes(p, p, w.stream[:])
		p = p[n:]
		low := w.counter[8:]
		binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)+1)
	}
}

// cmac leaves the AES-CMAC of message in out (RFC 4493). It uses w.x only.
func (s *siv) cmac(w *sivWork, out *[aes.BlockSize]byte, message []byte) {
	w.x = [aes.BlockSize]byte{}
	for len(message) > aes.BlockSize {
		subtle.XORBytes(w.x[:], w.x[:], message[:aes.BlockSize])
		s.mac.Encrypt(w.x[:], w.x[:])
		message = message[aes.BlockSize:]
	}
	subtle.XORBytes(w.x[:], w.x[:], message)
	if len(message) == aes.BlockSize {
		subtle.XORBytes(w.x[:], w.x[:], s.k1[:])
	} else {
		w.x[len(message)] ^= 0x80
		subtle.XORBytes(w.x[:], w.x[:], s.k2[:])
	}
	s.mac.Encrypt(out[:], w.x[:])
}

// doubleBlock multiplies by x in the field of CMAC, in constant time.
func doubleBlock(p *[aes.BlockSize]byte) {
	carry := p[0] >> 7
	for i := range aes.BlockSize - 1 {
		p[i] = p[i]<<1 | p[i+1]>>7
	}
	p[aes.BlockSize-1] = p[aes.BlockSize-1]<<1 ^ carry*0x87
}
