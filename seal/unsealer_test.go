package seal_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Any threshold of the shares, in any order and any form, unseals.
func TestUnsealWithAnyShares(t *testing.T) {
	made := initialise(t, rand.Reader, 5, 3)
	for _, order := range [][]int{{0, 1, 2}, {4, 2, 0}, {1, 3, 4}} {
		u := seal.NewUnsealer(made.Config)
		for i, at := range order {
			share := made.Shares[at]
			text := []string{
				strings.ToUpper(share.ExposeText()),
				hex.EncodeToString(share.ExposeBinary()),
				base64.StdEncoding.EncodeToString(share.ExposeBinary()),
			}[i]
			progress, keyring, err := u.Submit(" " + text[:20] + "\r\n\t" + text[20:] + "\n")
			if err != nil || progress.Have != i+1 || progress.Need != 3 || len(progress.Indexes) != i+1 {
				t.Fatalf("share %d: %+v, %v", at+1, progress, err)
			}
			if (keyring != nil) != (i == 2) {
				t.Fatalf("share %d of 3: keyring is %v", i+1, keyring)
			}
			if keyring != nil {
				if !slices.Equal(keyring.Versions(), made.Keyring.Versions()) {
					t.Error("the keyring is another one")
				}
				if err := keyring.Wipe(); err != nil {
					t.Error(err)
				}
			}
		}
		if p := u.Progress(); p.Have != 0 {
			t.Errorf("after unsealing, %d shares are still kept", p.Have)
		}
	}
}

// Every bad share is refused at once, by its own error, and costs nothing: the
// right shares still unseal afterwards.
func TestBadSharesAreRefusedAtOnce(t *testing.T) {
	made := initialise(t, rand.Reader, 3, 2)
	foreign, err := seal.Init(rand.Reader, seal.ClusterID{1}, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	rekeyed, err := seal.Rekey(rand.Reader, made.Config, made.Keyring, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	impostor := initialise(t, rand.Reader, 3, 2) // same cluster id and generation, other polynomial
	u := seal.NewUnsealer(made.Config)
	if _, _, err := u.Submit(made.Shares[0].ExposeText()); err != nil {
		t.Fatal(err)
	}
	refuse := func(what, text string, want func(error) bool) {
		t.Helper()
		p, k, err := u.Submit(text)
		if !want(err) || k != nil || p.Have != 1 || p.Need != 2 || !slices.Equal(p.Indexes, []uint8{1}) {
			t.Errorf("%s: %+v, error %v", what, p, err)
		}
	}
	garbled := func(err error) bool { return errors.Is(err, shamir.ErrGarbled) }
	good := made.Shares[1].ExposeText()
	refuse("empty", "", garbled)
	refuse("a letter changed", good[:40]+flip(good[40])+good[41:], garbled)
	refuse("a letter missing", good[:40]+good[41:], garbled)
	refuse("of another cluster", foreign.Shares[1].ExposeText(), func(err error) bool { return errors.Is(err, shamir.ErrForeignCluster) })
	refuse("of another generation", rekeyed.Shares[1].ExposeText(), func(err error) bool {
		var e *shamir.WrongGenerationError
		return errors.As(err, &e) && e.Have == 2 && e.Want == 1
	})
	refuse("of another polynomial", impostor.Shares[1].ExposeText(), func(err error) bool {
		var e *shamir.WrongShareError
		return errors.As(err, &e) && e.Index == 2
	})
	refuse("given before", made.Shares[0].ExposeText(), func(err error) bool {
		var e *shamir.RepeatedError
		return errors.As(err, &e) && e.Index == 1
	})
	_, k, err := u.Submit(good)
	if err != nil || k == nil {
		t.Fatalf("the right share after all that: %v", err)
	}
	for _, k := range []*seal.Keyring{k, foreign.Keyring, rekeyed.Keyring} {
		if err := k.Wipe(); err != nil {
			t.Error(err)
		}
	}
}

func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

// Reset forgets; after it the threshold counts from nothing.
func TestReset(t *testing.T) {
	made := initialise(t, rand.Reader, 3, 2)
	u := seal.NewUnsealer(made.Config)
	if _, _, err := u.Submit(made.Shares[0].ExposeText()); err != nil {
		t.Fatal(err)
	}
	u.Reset()
	if p, k, err := u.Submit(made.Shares[1].ExposeText()); p.Have != 1 || k != nil || err != nil {
		t.Errorf("after Reset: %+v, %v", p, err)
	}
}

// Custodians who submit at the same moment get one keyring among them.
func TestConcurrentSubmit(t *testing.T) {
	made := initialise(t, rand.Reader, 8, 8)
	u := seal.NewUnsealer(made.Config)
	var keyrings atomic.Int32
	var wg sync.WaitGroup
	for _, s := range made.Shares {
		wg.Go(func() {
			_, k, err := u.Submit(s.ExposeText())
			if err != nil {
				t.Error(err)
			}
			if k != nil {
				keyrings.Add(1)
				if err := k.Wipe(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := keyrings.Load(); n != 1 {
		t.Errorf("%d submitters got a keyring, want 1", n)
	}
}

// After a rekey the new shares open the same data keys, the old ones nothing.
func TestRekey(t *testing.T) {
	made := initialise(t, rand.Reader, 3, 2)
	next, err := seal.Rekey(rand.Reader, made.Config, made.Keyring, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	old := newBarrier(t, rand.Reader, cluster, made.Keyring)
	value, err := old.Seal(seal.TableRecord, nil, 0, []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Keyring.Wipe(); err != nil {
		t.Fatal(err)
	}
	u := seal.NewUnsealer(next.Config)
	if _, _, err := u.Submit(next.Shares[0].ExposeText()); err != nil {
		t.Fatal(err)
	}
	_, k, err := u.Submit(next.Shares[1].ExposeText())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newBarrier(t, rand.Reader, cluster, k).Open(seal.TableRecord, nil, 0, value); err != nil || string(got) != "v" {
		t.Errorf("opening with the rekeyed keyring: %q, %v", got, err)
	}
	if err := old.Adopt(next.Config); !errors.Is(err, seal.ErrConfigAltered) {
		t.Errorf("adopting across a rekey: got %v, want ErrConfigAltered", err)
	}
}
