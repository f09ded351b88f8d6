package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/seal/sealtest"
)

var cluster = seal.ClusterID{0: 0xc0, 1: 0xff, 2: 0xee, 3: 0x01, 15: 9}

// The barrier keeps every promise of the conformance suite.
func TestBarrierConforms(t *testing.T) {
	made := initialise(t, rand.Reader, 1, 1)
	sealtest.TestBarrier(t, func(t *testing.T, id seal.ClusterID) sealtest.Barrier {
		k, err := made.Keyring.Reopen(made.Config)
		if err != nil {
			t.Fatal(err)
		}
		return newBarrier(t, rand.Reader, id, k)
	})
}

// Sealed means sealed: after Wipe every call says so and no key is left.
func TestWipedBarrierRefusesEverything(t *testing.T) {
	made := initialise(t, rand.Reader, 1, 1)
	b := newBarrier(t, rand.Reader, cluster, made.Keyring)
	value, err := b.Seal(seal.TableRecord, fsm.Key("k"), 0, []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.Blind(5, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Wipe(), b.Wipe()); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"Seal":        func() error { _, err := b.Seal(seal.TableRecord, key, 0, nil); return err },
		"Open":        func() error { _, err := b.Open(seal.TableRecord, fsm.Key("k"), 0, value); return err },
		"Blind":       func() error { _, err := b.Blind(5, []string{"a"}); return err },
		"BlindPrefix": func() error { _, err := b.BlindPrefix(5, nil); return err },
		"Unblind":     func() error { _, err := b.Unblind(5, key); return err },
		"Segment":     func() error { _, _, err := b.UnblindSegment(key[:1], key); return err },
		"ID":          func() error { _, err := b.ID("token", nil); return err },
		"Mask":        func() error { _, err := b.Mask([seal.MaskSize]byte{}); return err },
		"Unmask":      func() error { _, err := b.Unmask([seal.MaskSize]byte{}); return err },
		"AuditHash":   func() error { _, err := b.AuditHash("value", nil); return err },
		"ActiveKey":   func() error { _, err := b.ActiveKey(); return err },
		"RotateData":  func() error { _, err := b.RotateData(made.Config); return err },
		"Adopt":       func() error { return b.Adopt(made.Config) },
		"keyring":     func() error { _, err := made.Keyring.Reopen(made.Config); return err },
		"new barrier": func() error { _, err := seal.NewBarrier(rand.Reader, cluster, made.Keyring); return err },
		"rekey":       func() error { _, err := seal.Rekey(rand.Reader, made.Config, made.Keyring, 1, 1); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("%s after Wipe: got %v, want ErrSealed", name, err)
		}
	}
	if n := len(made.Keyring.Versions()); n != 0 {
		t.Errorf("the wiped keyring still lists %d data keys", n)
	}
}

// Wiping while others seal and open ends each call with an answer or ErrSealed.
func TestWipeUnderLoad(t *testing.T) {
	b := newBarrier(t, rand.Reader, cluster, initialise(t, rand.Reader, 1, 1).Keyring)
	var running, done sync.WaitGroup
	for range 4 {
		running.Add(1)
		done.Go(func() {
			for first := true; ; first = false {
				p, err := b.Seal(seal.TableRecord, fsm.Key("k"), 0, []byte("v"))
				if err == nil {
					_, err = b.Open(seal.TableRecord, fsm.Key("k"), 0, p)
				}
				if first {
					running.Done()
				}
				if errors.Is(err, seal.ErrSealed) {
					return
				}
				if err != nil {
					t.Errorf("under load: %v", err)
					return
				}
			}
		})
	}
	running.Wait()
	if err := b.Wipe(); err != nil {
		t.Error(err)
	}
	done.Wait()
}

// Rotation: committed and adopted, the new key seals, the old one still opens;
// a node that has not followed yet names the version it lacks.
func TestRotation(t *testing.T) {
	made := initialise(t, rand.Reader, 1, 1)
	other, err := made.Keyring.Reopen(made.Config)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newBarrier(t, rand.Reader, cluster, made.Keyring), newBarrier(t, rand.Reader, cluster, other)
	seal1 := func() []byte {
		p, err := a.Seal(seal.TableRecord, fsm.Key("k"), 0, []byte("v"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old := seal1()
	rotated, err := a.RotateData(made.Config)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := a.ActiveKey(); v != 1 || err != nil {
		t.Fatalf("before adoption: active key %d, %v; want 1", v, err)
	}
	if err := a.Adopt(rotated); err != nil {
		t.Fatal(err)
	}
	fresh := seal1()
	if v, err := seal.KeyVersion(fresh); v != 2 || err != nil {
		t.Errorf("after adoption: sealed with version %d, %v; want 2", v, err)
	}
	var unknown *seal.UnknownKeyError
	if _, err := b.Open(seal.TableRecord, fsm.Key("k"), 0, fresh); !errors.As(err, &unknown) || unknown.Version != 2 {
		t.Errorf("node behind: got %v, want an UnknownKeyError of version 2", err)
	}
	if err := b.Adopt(rotated); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{old, fresh} {
		if got, err := b.Open(seal.TableRecord, fsm.Key("k"), 0, p); err != nil || string(got) != "v" {
			t.Errorf("after following: %q, %v", got, err)
		}
	}
	if err := b.Adopt(made.Config); !errors.Is(err, seal.ErrOlderKeyring) {
		t.Errorf("going back: got %v, want ErrOlderKeyring", err)
	}
	if got, err := b.Open(seal.TableRecord, fsm.Key("k"), 0, fresh); err != nil || string(got) != "v" {
		t.Errorf("after a refused Config: %q, %v", got, err)
	}
}

// A listing takes one segment at a time, and only from below its directory.
func TestUnblindSegment(t *testing.T) {
	b := newBarrier(t, rand.Reader, cluster, initialise(t, rand.Reader, 1, 1).Keyring)
	key, err := b.Blind(5, []string{"team", "app", "password"})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := b.BlindPrefix(5, []string{"team"})
	if err != nil {
		t.Fatal(err)
	}
	segment, rest, err := b.UnblindSegment(parent, key)
	if err != nil || segment != "app" || len(rest) == 0 {
		t.Errorf("middle: %q, %d bytes left, %v", segment, len(rest), err)
	}
	segment, rest, err = b.UnblindSegment(key[:len(key)-len(rest)], key)
	if err != nil || segment != "password" || len(rest) != 0 {
		t.Errorf("end: %q, %d bytes left, %v", segment, len(rest), err)
	}
	foreign, err := b.BlindPrefix(5, []string{"other"})
	if err != nil {
		t.Fatal(err)
	}
	for what, parent := range map[string]fsm.Key{"foreign": foreign, "itself": key, "empty": nil, "partial": parent[:5]} {
		if _, _, err := b.UnblindSegment(parent, key); !errors.Is(err, seal.ErrNameAltered) {
			t.Errorf("%s parent: got %v, want ErrNameAltered", what, err)
		}
	}
}

// A length spelled in more bytes than it needs would be a second key for one
// name; it is refused.
func TestLongSpeltLengthIsRefused(t *testing.T) {
	b := newBarrier(t, rand.Reader, cluster, initialise(t, rand.Reader, 1, 1).Keyring)
	key, err := b.Blind(5, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if key[1] != 17 {
		t.Fatalf("length byte is %d, want 17", key[1])
	}
	second := append(fsm.Key{key[0], key[1] | 0x80, 0}, key[2:]...)
	if got, err := b.Unblind(5, second); !errors.Is(err, seal.ErrNameAltered) {
		t.Errorf("got %d segments and %v, want ErrNameAltered", len(got), err)
	}
}

// Names that cannot be are refused without being repeated; a name as long as a
// key allows is not.
func TestBlindLimits(t *testing.T) {
	b := newBarrier(t, rand.Reader, cluster, initialise(t, rand.Reader, 1, 1).Keyring)
	long := strings.Repeat("canary", fsm.MaxKeySize/6)
	for what, segments := range map[string][]string{
		"no segment": nil, "empty segment": {"canary", ""}, "too long": {long}, "too many": strings.Split(strings.Repeat("c,", fsm.MaxKeySize/10), ",")[:fsm.MaxKeySize/10],
	} {
		_, err := b.Blind(5, segments)
		if !errors.Is(err, seal.ErrName) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v, want ErrName without the name", what, err)
		}
	}
	// space, two bytes of length, 16 of overhead
	fits := strings.Repeat("x", fsm.MaxKeySize-1-2-16)
	if key, err := b.Blind(5, []string{fits}); err != nil || len(key) != fsm.MaxKeySize {
		t.Errorf("longest name: %d bytes, %v", len(key), err)
	}
	if _, err := b.Blind(5, []string{fits + "x"}); !errors.Is(err, seal.ErrName) {
		t.Errorf("one byte more: got %v, want ErrName", err)
	}
}

// Ids depend on kind and value apart, and ids are not audit hashes.
func TestID(t *testing.T) {
	b := newBarrier(t, rand.Reader, cluster, initialise(t, rand.Reader, 1, 1).Keyring)
	seen := map[string]bool{}
	for _, c := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"", "abc"}, {"abc", ""}} {
		for _, hash := range []func(string, []byte) ([]byte, error){b.ID, b.AuditHash} {
			got, err := hash(c[0], []byte(c[1]))
			again, err2 := hash(c[0], []byte(c[1]))
			if err != nil || err2 != nil || len(got) != 32 || !bytes.Equal(got, again) {
				t.Errorf("%q: %x and %x, %v, %v", c, got, again, err, err2)
			}
			seen[string(got)] = true
		}
	}
	if len(seen) != 8 {
		t.Errorf("8 different inputs gave %d hashes", len(seen))
	}
}

// A random source that fails is an error everywhere, never a weak nonce or key.
func TestFailingRandomness(t *testing.T) {
	broken := errors.New("no entropy")
	for n := range 6 {
		source := io.MultiReader(io.LimitReader(rand.Reader, int64(n*64)), failing{broken})
		if _, err := seal.Init(source, cluster, 3, 2); !errors.Is(err, broken) {
			t.Errorf("Init after %d bytes: got %v, want the source's error", n*64, err)
		}
	}
	made := initialise(t, rand.Reader, 1, 1)
	b := newBarrier(t, failing{broken}, cluster, made.Keyring)
	if _, err := b.Seal(seal.TableRecord, nil, 0, nil); !errors.Is(err, broken) {
		t.Errorf("Seal: got %v, want the source's error", err)
	}
	if _, err := b.RotateData(made.Config); !errors.Is(err, broken) {
		t.Errorf("RotateData: got %v, want the source's error", err)
	}
	if _, err := seal.NewClusterID(failing{broken}); !errors.Is(err, broken) {
		t.Errorf("NewClusterID: got %v, want the source's error", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Keyring, shares and what holds them print nothing of their bytes.
func TestPrintingHides(t *testing.T) {
	made := initialise(t, rand.Reader, 3, 2)
	raw := made.Shares[0].ExposeBinary()
	value := raw[10:42]
	var out string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%t"} {
		out += fmt.Sprintf(verb, made) + fmt.Sprintf(verb, *made)
	}
	out += fmt.Sprintf("%v %#v %d %x", made.Shares, made.Shares, made.Shares, made.Shares[0].Share)
	out += fmt.Sprintf("%v %s %d", made.Keyring, made.Keyring, made.Keyring)
	for _, form := range []string{fmt.Sprintf("%x", value), fmt.Sprint(value), strings.Trim(fmt.Sprint(value[:4]), "[]"), made.Shares[0].ExposeText()[30:40]} {
		if strings.Contains(out, form) {
			t.Errorf("printing shows the share as %q…", form[:4])
		}
	}
}

func initialise(t testing.TB, random io.Reader, shares, threshold int) *seal.Initialised {
	t.Helper()
	made, err := seal.Init(random, cluster, shares, threshold)
	if err != nil {
		t.Fatal(err)
	}
	if w := made.Keyring.MemoryWarning(); w != "" {
		t.Log(w)
	}
	t.Cleanup(func() {
		made.Wipe()
		if err := made.Keyring.Wipe(); err != nil {
			t.Error(err)
		}
	})
	return made
}

func newBarrier(t testing.TB, random io.Reader, id seal.ClusterID, k *seal.Keyring) *seal.Barrier {
	t.Helper()
	b, err := seal.NewBarrier(random, id, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Wipe(); err != nil {
			t.Error(err)
		}
	})
	return b
}
