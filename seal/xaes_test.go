package seal

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
)

// Our XAES-256-GCM gives the two vectors of https://c2sp.org/XAES-256-GCM,
// which take both branches of the doubling.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		keyByte byte
		aad     string
		want    string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		got := sealXAES(t, bytes.Repeat([]byte{v.keyByte}, 32), []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM"), []byte(v.aad))
		if hex.EncodeToString(got) != v.want {
			t.Errorf("key %02x…: got %x, want %s", v.keyByte, got, v.want)
		}
	}
}

// It gives the specification's digest over 10,000 random inputs as well.
func TestXAESAccumulated(t *testing.T) {
	source, digest := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		p := make([]byte, n)
		_, _ = source.Read(p) // a SHAKE never fails
		return p
	}
	for range 10_000 {
		key, nonce := read(32), read(24)
		plaintext := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		sealed := sealXAES(t, key, nonce, plaintext, aad)
		_, _ = digest.Write(sealed)
		if got, err := openXAES(t, key, nonce, sealed, aad); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("opening: %v", err)
		}
	}
	sum := make([]byte, 32)
	_, _ = digest.Read(sum)
	if got, want := hex.EncodeToString(sum), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"; got != want {
		t.Errorf("digest: got %s, want %s", got, want)
	}
}

// What we seal, tink opens, and the other way round.
func TestXAESAgainstTink(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	other := tinkXAES(t, key)
	plaintext, aad := []byte("some plaintext"), []byte("some place")
	nonce := []byte("abcdefghijklmnopqrstuvwx")
	ours := append(bytes.Clone(nonce), sealXAES(t, key, nonce, plaintext, aad)...)
	if got, err := other.Decrypt(ours, aad); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("tink opening ours: %q, %v", got, err)
	}
	theirs, err := other.Encrypt(plaintext, aad)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openXAES(t, key, theirs[:24], theirs[24:], aad); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("opening tink's: %q, %v", got, err)
	}
}

func sealXAES(t *testing.T, key, nonce, plaintext, aad []byte) []byte {
	t.Helper()
	x, err := newXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	d := derivations.Get().(*derivation)
	defer d.release()
	out, err := x.seal(d, nil, nonce, plaintext, aad)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func openXAES(t *testing.T, key, nonce, sealed, aad []byte) ([]byte, error) {
	t.Helper()
	x, err := newXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	d := derivations.Get().(*derivation)
	defer d.release()
	return x.open(d, nil, nonce, sealed, aad)
}

func tinkXAES(t *testing.T, raw []byte) tink.AEAD {
	t.Helper()
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		t.Fatal(err)
	}
	key, err := xaesgcm.NewKey(secretdata.NewBytesFromData(raw, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		t.Fatal(err)
	}
	m := keyset.NewManager()
	id, err := m.AddKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	a, err := tinkaead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
