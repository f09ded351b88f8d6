package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Shares and thresholds that make no sense are refused with the reason.
func TestInitParameters(t *testing.T) {
	for _, c := range []struct {
		shares, threshold int
		want              error
	}{
		{0, 0, shamir.ErrNoShares}, {-1, 1, shamir.ErrNoShares}, {3, 0, shamir.ErrNoShares},
		{2, 3, shamir.ErrThresholdAboveShares}, {256, 3, shamir.ErrTooManyShares},
		{5, 1, shamir.ErrThresholdOne}, {1, 1, nil}, {2, 2, nil}, {255, 2, nil}, {255, 255, nil},
	} {
		made, err := seal.Init(rand.Reader, cluster, c.shares, c.threshold)
		if !errors.Is(err, c.want) {
			t.Errorf("%d of %d: got %v, want %v", c.threshold, c.shares, err, c.want)
		}
		if err == nil {
			if len(made.Shares) != c.shares || made.Config.Threshold() != c.threshold {
				t.Errorf("%d of %d: made %d of %d", c.threshold, c.shares, made.Config.Threshold(), len(made.Shares))
			}
			if err := made.Keyring.Wipe(); err != nil {
				t.Error(err)
			}
		}
	}
}

// No bit of a Config can be changed: it is malformed, or the shares do not fit,
// or the keyring does not open. Nothing panics and no keyring comes out.
func TestAlteredConfigNeverUnseals(t *testing.T) {
	made := initialise(t, rand.Reader, 2, 2)
	encoded := marshal(t, made.Config)
	for bit := range 8 * len(encoded) {
		altered := bytes.Clone(encoded)
		altered[bit/8] ^= 1 << (bit % 8)
		cfg, err := seal.UnmarshalConfig(altered)
		if err != nil {
			if !errors.Is(err, seal.ErrFormat) && !errors.Is(err, seal.ErrNewerFormat) {
				t.Errorf("bit %d: error %v is of no known kind", bit, err)
			}
			continue
		}
		u := seal.NewUnsealer(cfg)
		refused := false
		for _, s := range made.Shares {
			_, k, err := u.Submit(s.ExposeText())
			refused = refused || err != nil
			if k != nil {
				t.Errorf("bit %d: the altered configuration unsealed", bit)
			}
		}
		if !refused && u.Progress().Have == u.Progress().Need {
			t.Errorf("bit %d: neither refused nor unsealed", bit)
		}
	}
	for n := range encoded {
		if _, err := seal.UnmarshalConfig(encoded[:n]); !errors.Is(err, seal.ErrFormat) {
			t.Errorf("cut to %d bytes: got %v, want ErrFormat", n, err)
		}
	}
}

// A later format is told apart from damage.
func TestNewerFormats(t *testing.T) {
	made := initialise(t, rand.Reader, 1, 1)
	encoded := marshal(t, made.Config)
	encoded[0] = 2
	if _, err := seal.UnmarshalConfig(encoded); !errors.Is(err, seal.ErrNewerFormat) {
		t.Errorf("configuration: got %v, want ErrNewerFormat", err)
	}
	if _, err := seal.KeyVersion([]byte{2}); !errors.Is(err, seal.ErrNewerFormat) {
		t.Errorf("value: got %v, want ErrNewerFormat", err)
	}
}

// What parses encodes to the same bytes: there is one encoding.
func FuzzConfig(f *testing.F) {
	made, err := seal.Init(rand.Reader, cluster, 3, 2)
	if err != nil {
		f.Fatal(err)
	}
	encoded, err := made.Config.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		cfg, err := seal.UnmarshalConfig(p)
		if err != nil {
			return
		}
		if again := marshal(t, cfg); !bytes.Equal(again, p) {
			t.Errorf("got %x, want %x", again, p)
		}
	})
}

func marshal(t testing.TB, cfg seal.Config) []byte {
	t.Helper()
	p, err := cfg.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
