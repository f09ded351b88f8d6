package shamir_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	randv2 "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"pgregory.net/rapid"

	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Any threshold of the shares recovers the root, whatever the numbers; any share
// fewer is refused.
func TestAnyThresholdRecovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threshold := rapid.IntRange(2, 9).Draw(t, "threshold")
		n := rapid.IntRange(threshold, 12).Draw(t, "shares")
		root, shares, c, err := shamir.Split(rand.Reader, threshold, n)
		if err != nil {
			t.Fatal(err)
		}
		some := rapid.Permutation(shares).Draw(t, "order")[:threshold]
		got, err := shamir.Recover(c, some)
		if err != nil || !got.Equal(root) {
			t.Fatalf("%d of %d: recovered another root, or %v", threshold, n, err)
		}
		var few *shamir.TooFewError
		if _, err := shamir.Recover(c, some[1:]); !errors.As(err, &few) || few.Have != threshold-1 || few.Need != threshold {
			t.Fatalf("one fewer: got %v, want a TooFewError", err)
		}
	})
}

// The extremes work: one of one, and 255 of 255.
func TestExtremes(t *testing.T) {
	for _, n := range []int{1, shamir.MaxShares} {
		root, shares, c, err := shamir.Split(rand.Reader, n, n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := shamir.Recover(c, shares); err != nil || !got.Equal(root) {
			t.Errorf("%d of %d: recovered another root, or %v", n, n, err)
		}
	}
}

// All randomness comes from the reader: equal dice, equal shares; a reader that
// fails is an error.
func TestRandomnessIsAParameter(t *testing.T) {
	split := func() (string, []shamir.Share) {
		root, shares, _, err := shamir.Split(randv2.NewChaCha8([32]byte{4}), 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		return string(root.Expose()), shares
	}
	rootA, a := split()
	rootB, b := split()
	if rootA != rootB || !slices.EqualFunc(a, b, shamir.Share.Equal) {
		t.Error("equal dice gave different shares")
	}
	if _, _, _, err := shamir.Split(bytes.NewReader(make([]byte, 100)), 2, 3); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short reader: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// A wrong share is refused alone, by its number; so is one given twice.
func TestWrongAndRepeatedShares(t *testing.T) {
	_, shares, c, err := shamir.Split(rand.Reader, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	_, others, _, err := shamir.Split(rand.Reader, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	renumbered := shares[0]
	renumbered.Index = 3
	for what, bad := range map[string]shamir.Share{"of another secret": others[2], "renumbered": renumbered} {
		var wrong *shamir.WrongShareError
		if err := c.Verify(bad); !errors.As(err, &wrong) || wrong.Index != 3 {
			t.Errorf("%s: got %v, want WrongShareError of 3", what, err)
		}
		if _, err := shamir.Recover(c, []shamir.Share{shares[1], bad}); !errors.As(err, &wrong) || wrong.Index != 3 {
			t.Errorf("recovering with one %s: got %v, want WrongShareError of 3", what, err)
		}
	}
	var repeated *shamir.RepeatedError
	if _, err := shamir.Recover(c, []shamir.Share{shares[1], shares[1]}); !errors.As(err, &repeated) || repeated.Index != 2 {
		t.Errorf("one share twice: got %v, want RepeatedError of 2", err)
	}
	if err := c.Verify(shamir.Share{}); !errors.Is(err, shamir.ErrGarbled) {
		t.Errorf("zero share: got %v, want ErrGarbled", err)
	}
	var wrong *shamir.WrongShareError
	if err := (shamir.Commitments{}).Verify(shares[0]); !errors.As(err, &wrong) {
		t.Errorf("no commitments: got %v, want WrongShareError", err)
	}
}

// The shares of one secret at other indexes prove nothing: wiping is real.
func TestWipedShareIsWrong(t *testing.T) {
	_, shares, c, err := shamir.Split(rand.Reader, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	other := shares[0]
	other.Wipe()
	var wrong *shamir.WrongShareError
	if err := c.Verify(shares[0]); !errors.As(err, &wrong) {
		t.Errorf("after wiping a copy: got %v, want WrongShareError", err)
	}
}

// A custodian's age identity, and no other, opens what was encrypted to it. A
// wrong recipient is refused without being repeated.
func TestEncryptTo(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	armored, err := shamir.EncryptTo(id.Recipient().String(), "the share")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(armored, "the share") {
		t.Error("the armour shows the share")
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "the share" {
		t.Errorf("decrypted %q, %v", got, err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), stranger); err == nil {
		t.Error("a stranger's identity opened the share")
	}
	for _, bad := range []string{"", "age1", "ssh-ed25519 AAAA", id.String()} {
		_, err := shamir.EncryptTo(bad, "the share")
		if !errors.Is(err, shamir.ErrRecipient) || strings.Contains(err.Error(), id.String()) || strings.Contains(err.Error(), "the share") {
			t.Errorf("bad recipient: got %v, want ErrRecipient and nothing else", err)
		}
	}
}
