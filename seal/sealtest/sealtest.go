// Package sealtest holds the promises of a barrier as tests, for whatever seals
// values and blinds names. What never lives here: keys, formats or knowledge of
// how a barrier keeps its promises. Start reading at TestBarrier.
package sealtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

// A Barrier is what the suite tests; *seal.Barrier is one. Seal is told where a
// value will lie and Open where it was found; Open must refuse, with an error
// and without a panic, whatever is not exactly what Seal returned for that place.
type Barrier interface {
	Seal(table seal.Table, key fsm.Key, number uint64, plaintext []byte) ([]byte, error)
	Open(table seal.Table, key fsm.Key, number uint64, sealed []byte) ([]byte, error)
	Blind(space fsm.Space, segments []string) (fsm.Key, error)
	Unblind(space fsm.Space, key fsm.Key) ([]string, error)
}

// A Maker returns a barrier for a cluster. All barriers it returns in one test
// have the same keys, so that only the cluster tells them apart.
type Maker func(t *testing.T, cluster seal.ClusterID) Barrier

const canary = "canary-5b1e-in-plaintext"

// TestBarrier runs the whole suite.
func TestBarrier(t *testing.T, newBarrier Maker) {
	t.Run("round trip", func(t *testing.T) { testRoundTrip(t, newBarrier) })
	t.Run("moved value", func(t *testing.T) { testMoved(t, newBarrier) })
	t.Run("altered value", func(t *testing.T) { testAltered(t, newBarrier) })
	t.Run("randomised", func(t *testing.T) { testRandomised(t, newBarrier) })
	t.Run("names", func(t *testing.T) { testNames(t, newBarrier) })
	t.Run("altered name", func(t *testing.T) { testAlteredName(t, newBarrier) })
}

var home = struct {
	cluster seal.ClusterID
	table   seal.Table
	key     fsm.Key
	number  uint64
}{seal.ClusterID{1}, seal.TableVersion, fsm.Key("key"), 7}

// What was sealed opens at the same place, whatever its length.
func testRoundTrip(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	for _, n := range []int{0, 1, 15, 16, 17, 255, 256, 4096, 1 << 20} {
		plaintext := bytes.Repeat([]byte{byte(n)}, n)
		got, err := b.Open(home.table, home.key, home.number, mustSeal(t, b, plaintext))
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("opening %d bytes: got %d bytes and %v", n, len(got), err)
		}
	}
}

// A value does not open at any other place.
func testMoved(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	sealed := mustSeal(t, b, []byte(canary))
	for _, c := range []struct {
		what    string
		cluster seal.ClusterID
		table   seal.Table
		key     fsm.Key
		number  uint64
	}{
		{"another cluster", seal.ClusterID{2}, home.table, home.key, home.number},
		{"another cluster, last byte", seal.ClusterID{0: 1, 15: 1}, home.table, home.key, home.number},
		{"another table", home.cluster, seal.TableRecord, home.key, home.number},
		{"another key", home.cluster, home.table, fsm.Key("kez"), home.number},
		{"a shorter key", home.cluster, home.table, fsm.Key("ke"), home.number},
		{"a longer key", home.cluster, home.table, fsm.Key("key\x00"), home.number},
		{"no key", home.cluster, home.table, nil, home.number},
		{"the number before", home.cluster, home.table, home.key, home.number - 1},
		{"a number 2^56 away", home.cluster, home.table, home.key, home.number + 1<<56},
	} {
		got, err := newBarrier(t, c.cluster).Open(c.table, c.key, c.number, sealed)
		var want *seal.AuthenticationError
		if !errors.As(err, &want) || want.Table != c.table {
			t.Errorf("%s: got %v, want an AuthenticationError of table %s", c.what, err, c.table)
		}
		checkRefusal(t, c.what, got, err)
	}
}

// No bit can be flipped, and no byte taken off or put on.
func testAltered(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	sealed := mustSeal(t, b, []byte(canary))
	refuse := func(what string, altered []byte) {
		got, err := b.Open(home.table, home.key, home.number, altered)
		checkRefusal(t, what, got, err)
	}
	for bit := range 8 * len(sealed) {
		altered := slices.Clone(sealed)
		altered[bit/8] ^= 1 << (bit % 8)
		refuse(fmt.Sprintf("bit %d flipped", bit), altered)
	}
	for n := range sealed {
		refuse(fmt.Sprintf("cut to %d bytes", n), sealed[:n])
		refuse(fmt.Sprintf("%d bytes cut off the front", n+1), sealed[n+1:])
	}
	refuse("a byte appended", append(slices.Clone(sealed), 0))
	refuse("doubled", append(slices.Clone(sealed), sealed...))
	if _, err := b.Open(home.table, home.key, home.number, sealed); err != nil {
		t.Errorf("the unaltered value does not open any more: %v", err)
	}
}

// Equal plaintexts look unrelated, and no plaintext shows.
func testRandomised(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	seen := map[string]bool{}
	for range 100 {
		sealed := mustSeal(t, b, []byte(canary))
		if bytes.Contains(sealed, []byte(canary[:6])) {
			t.Fatal("the sealed value shows its plaintext")
		}
		seen[string(sealed)] = true
	}
	if len(seen) != 100 {
		t.Errorf("sealing one plaintext 100 times gave %d values, want 100", len(seen))
	}
}

// Names blind deterministically, come back whole, nest as prefixes and hide.
func testNames(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	names := [][]string{
		{"a"}, {"a", "b"}, {"a", "b", "c"}, {"b"}, {"b", "a"}, {"ab"}, {"a/b"}, {"a\x00b"}, {"ü"},
		{canary}, {canary, canary}, {strings.Repeat("x", 300), "y"},
	}
	seen := map[string]bool{}
	for _, name := range names {
		key := mustBlind(t, b, name)
		if again := mustBlind(t, b, name); !bytes.Equal(key, again) {
			t.Errorf("%q blinds to two keys", name)
		}
		if seen[string(key)] {
			t.Errorf("%q shares its key with another name", name)
		}
		seen[string(key)] = true
		if bytes.Contains(key, []byte(canary[:6])) {
			t.Errorf("the key of %q shows its name", name)
		}
		got, err := b.Unblind(9, key)
		if err != nil || !slices.Equal(got, name) {
			t.Errorf("unblinding %q: got %q and %v", name, got, err)
		}
		if parent := name[:len(name)-1]; len(parent) > 0 && !bytes.HasPrefix(key, mustBlind(t, b, parent)) {
			t.Errorf("the key of %q does not begin with its directory's", name)
		}
	}
	if bytes.HasSuffix(mustBlind(t, b, []string{"b", "a"}), mustBlind(t, b, []string{"a"})[1:]) {
		t.Error("one segment looks the same in two directories")
	}
}

// No altered key gives a name.
func testAlteredName(t *testing.T, newBarrier Maker) {
	b := newBarrier(t, home.cluster)
	key := mustBlind(t, b, []string{canary, "child"})
	for bit := range 8 * len(key) {
		altered := slices.Clone(key)
		altered[bit/8] ^= 1 << (bit % 8)
		// A flipped space makes a key of that space: refuse it there as well.
		for _, space := range []fsm.Space{9, fsm.Space(altered[0])} {
			if got, err := b.Unblind(space, altered); err == nil {
				t.Errorf("bit %d flipped: unblinded to %d segments", bit, len(got))
			}
		}
	}
	first := len(mustBlind(t, b, []string{canary}))
	for n := range key {
		got, err := b.Unblind(9, key[:n])
		if n == first {
			continue // the directory itself, a name of its own
		}
		if err == nil {
			t.Errorf("cut to %d bytes: unblinded to %d segments", n, len(got))
		}
	}
}

func checkRefusal(t *testing.T, what string, got []byte, err error) {
	t.Helper()
	if err == nil || got != nil {
		t.Errorf("%s: got %d bytes and error %v, want a refusal", what, len(got), err)
		return
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("%s: the error shows the plaintext", what)
	}
}

func mustSeal(t *testing.T, b Barrier, plaintext []byte) []byte {
	t.Helper()
	sealed, err := b.Seal(home.table, home.key, home.number, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func mustBlind(t *testing.T, b Barrier, segments []string) fsm.Key {
	t.Helper()
	key, err := b.Blind(9, segments)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
