package testprocess_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// The search finds a canary in every spelling, at every alignment and across
// the edges of the pieces in which a file is read; and nothing in noise.
func TestCanariesAreFound(t *testing.T) {
	const text = "swordfish-7c1f-canary"
	c := testprocess.NewCanaries()
	c.Add("the canary", []byte(text))
	for _, before := range []string{"", "a", "ab", "abc", "abcd", "abcde"} {
		whole := []byte(before + text + "-and-after")
		utf16 := make([]byte, 0, 2*len(whole))
		for _, b := range whole {
			utf16 = append(utf16, b, 0)
		}
		for form, spelled := range map[string][]byte{
			"plain": whole, "utf16": utf16,
			"hex":    []byte(hex.EncodeToString(whole)),
			"base64": []byte(base64.StdEncoding.EncodeToString(whole)),
			"url":    []byte(base64.URLEncoding.EncodeToString(whole)),
			"base32": []byte(base32.StdEncoding.EncodeToString(whole)),
			"lower":  bytes.ToLower([]byte(base32.StdEncoding.EncodeToString(whole))),
		} {
			if len(c.Search(spelled, 0)) == 0 {
				t.Errorf("not found as %s behind %q", form, before)
			}
		}
	}

	dice := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 9<<20)
	for i := range noise {
		noise[i] = byte(dice.Uint32())
	}
	path := filepath.Join(t.TempDir(), "noise")
	for _, at := range []int{-1, 0, 4<<20 - 7, 8 << 20, len(noise) - len(text)} {
		planted := bytes.Clone(noise)
		if at >= 0 {
			copy(planted[at:], text)
		}
		if err := os.WriteFile(path, planted, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := c.SearchFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at < 0 && len(found) > 0 {
			t.Errorf("found %v in noise", found)
		}
		if at >= 0 && (len(found) != 1 || found[0].Offset != int64(at)) {
			t.Errorf("planted at %d, found %v", at, found)
		}
	}
}
