package shamir_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	randv2 "math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/seal/shamir"
)

// issued makes a share of cluster 1a2b3c4d, generation 7.
func issued(t testing.TB, random *randv2.ChaCha8) shamir.IssuedShare {
	t.Helper()
	_, shares, _, err := shamir.Split(random, 2, 12)
	if err != nil {
		t.Fatal(err)
	}
	return shamir.IssuedShare{Cluster: shamir.ClusterPrefix{0x1a, 0x2b, 0x3c, 0x4d}, Generation: 7, Share: shares[11]}
}

func same(a, b shamir.IssuedShare) bool {
	return a.Cluster == b.Cluster && a.Generation == b.Generation && a.Share.Equal(b.Share)
}

// The text looks as promised and comes back whole, however it was copied.
func TestTextForms(t *testing.T) {
	s := issued(t, randv2.NewChaCha8([32]byte{1}))
	text, raw := s.ExposeText(), s.ExposeBinary()
	form := regexp.MustCompile(`^conclave-share-1a2b3c4d-7-12(-[a-z2-7]{4}){13}-[a-z2-7]{8}$`)
	if !form.MatchString(text) {
		t.Fatalf("the text has another form: %d letters", len(text))
	}
	for what, copied := range map[string]string{
		"as printed":         text,
		"upper case":         strings.ToUpper(text),
		"wrapped":            "  " + text[:33] + "\r\n    " + text[33:] + "\n",
		"non-breaking space": text[:33] + "\u00a0" + text[33:],
		"spaced":             strings.ReplaceAll(text, "-", " - "),
		"groups run on":      text[:29] + strings.ReplaceAll(text[29:], "-", ""),
		"hex":                hex.EncodeToString(raw),
		"upper hex":          strings.ToUpper(hex.EncodeToString(raw)),
		"base64":             base64.StdEncoding.EncodeToString(raw),
		"raw base64":         base64.RawStdEncoding.EncodeToString(raw),
		"url base64":         base64.URLEncoding.EncodeToString(raw),
		"raw url base64":     base64.RawURLEncoding.EncodeToString(raw),
	} {
		if got, err := shamir.ParseShare(copied); err != nil || !same(got, s) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

// Whatever single letter of a share is wrong, missing or doubled, the share is
// refused as garbled, and the error shows nothing of it.
func TestEveryGarblingIsNoticed(t *testing.T) {
	s := issued(t, randv2.NewChaCha8([32]byte{2}))
	text := s.ExposeText()
	forms := []string{text, hex.EncodeToString(s.ExposeBinary()), base64.StdEncoding.EncodeToString(s.ExposeBinary())}
	for _, text := range forms {
		for i := range text {
			for _, garbled := range []string{
				text[:i] + other(text[i]) + text[i+1:],
				text[:i] + text[i+1:],
				text[:i] + text[i:i+1] + text[i:],
				text[:i],
			} {
				got, err := shamir.ParseShare(garbled)
				if err == nil && same(got, s) && strings.ReplaceAll(garbled, "-", "") == strings.ReplaceAll(text, "-", "") {
					continue // a dash between groups, which carries nothing
				}
				if err == nil && same(got, s) && strings.TrimRight(garbled, "=") == strings.TrimRight(text, "=") {
					continue // padding, which may be left out
				}
				if !errors.Is(err, shamir.ErrGarbled) {
					t.Fatalf("letter %d: got %v, want ErrGarbled", i, err)
				}
				checkSilent(t, err, text)
			}
		}
	}
	_, err := shamir.ParseShare(text[:40] + other(text[40]) + text[41:])
	if err == nil || !strings.Contains(err.Error(), "checksum is wrong") {
		t.Errorf("a wrong letter: got %v, want the checksum to be blamed", err)
	}
}

// The last letter of the value has four bits to spare; one letter is right all
// the same, and no second text means the same share.
func TestSpareBitsAreRefused(t *testing.T) {
	text := issued(t, randv2.NewChaCha8([32]byte{5})).ExposeText()
	at := len(text) - len("-abcdefgh") - 1
	for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
		changed := text[:at] + string(c) + text[at+1:]
		if _, err := shamir.ParseShare(changed); (err == nil) != (changed == text) {
			t.Errorf("last letter changed: got %v", err)
		}
	}
}

func other(c byte) string {
	if c == 'b' {
		return "c"
	}
	return "b"
}

// checkSilent fails if the error holds any six letters of the share's value.
func checkSilent(t *testing.T, err error, text string) {
	t.Helper()
	const prefix = len("conclave-share-1a2b3c4d-7-12-")
	if !strings.HasPrefix(text, "conclave") {
		text = strings.Repeat("-", prefix) + text
	}
	for i := prefix; i+6 <= len(text); i++ {
		if strings.Contains(err.Error(), text[i:i+6]) {
			t.Fatalf("error %q repeats part of the share", err)
		}
	}
}

// The museum's shares, written by the first release, are read for ever.
func TestShareMuseum(t *testing.T) {
	s := issued(t, randv2.NewChaCha8([32]byte{3}))
	if got := s.ExposeText(); got != museumShare {
		t.Errorf("text form 1 has changed: got %s, want %s", got, museumShare)
	}
	if got, err := shamir.ParseShare(museumShare); err != nil || !same(got, s) {
		t.Errorf("reading form 1: %v, %v", got, err)
	}
}

// What parses encodes to the same share: binary forms to the same bytes.
func FuzzParseShare(f *testing.F) {
	s := issued(f, randv2.NewChaCha8([32]byte{4}))
	f.Add(s.ExposeText())
	f.Add(hex.EncodeToString(s.ExposeBinary()))
	f.Add(base64.StdEncoding.EncodeToString(s.ExposeBinary()))
	f.Add("conclave-share-")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := shamir.ParseShare(text)
		if err != nil {
			if !errors.Is(err, shamir.ErrGarbled) {
				t.Errorf("error %v is not ErrGarbled", err)
			}
			return
		}
		for _, form := range []string{got.ExposeText(), hex.EncodeToString(got.ExposeBinary())} {
			if again, err := shamir.ParseShare(form); err != nil || !same(again, got) {
				t.Errorf("parsed again: %v, %v", again, err)
			}
		}
	})
}

// Commitments and share values have exactly one encoding each.
func FuzzBinary(f *testing.F) {
	_, shares, c, err := shamir.Split(rand.Reader, 2, 2)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []interface{ MarshalBinary() ([]byte, error) }{shares[0], c} {
		p, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add(bytes.Repeat([]byte{0xff}, 33))
	f.Fuzz(func(t *testing.T, p []byte) {
		var s shamir.Share
		if s.UnmarshalBinary(p) == nil {
			if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(again, p) {
				t.Errorf("share: got %x and %v, want %x", again, err, p)
			}
		}
		if c, err := shamir.UnmarshalCommitments(p); err == nil {
			if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, p) {
				t.Errorf("commitments: got %x and %v, want %x", again, err, p)
			}
		}
	})
}

const museumShare = "conclave-share-1a2b3c4d-7-12-7i6d-lpnq-vq3d-3g6x-atdr-swaj-6fok-zkzh-3rpn-4vwj-lkyb-bdse-wyfa-une4uzfv"
