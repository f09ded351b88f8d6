package server

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the museum piece of the current form")

const museumOwner = "00112233445566778899aabbccddeeff n0123456789ab"

// ownedDir is a data directory whose state directory has this owner file.
func ownedDir(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, stateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateDir, ownerFile), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ownerOf(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, stateDir, ownerFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Both forms are read for ever; the first is replaced by the second, and
// writing that today gives the same bytes.
func TestOwnerMuseum(t *testing.T) {
	const second = "testdata/museum/owner-v2"
	if *update {
		if err := os.WriteFile(second, ownerText(museumOwner), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	current, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"testdata/museum/owner-v1", second} {
		raw, err := os.ReadFile(piece)
		if err != nil {
			t.Fatal(err)
		}
		dir := ownedDir(t, raw)
		if err := claimDir(dir, stateDir, museumOwner); err != nil {
			t.Errorf("%s: %v", piece, err)
		}
		if got := ownerOf(t, dir); got != string(current) {
			t.Errorf("%s: the file is now %q, want %q", piece, got, current)
		}
		dir = ownedDir(t, raw)
		err = claimDir(dir, stateDir, strings.Replace(museumOwner, "n0", "n1", 1))
		var wrong *DataDirError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, "another cluster or node") {
			t.Errorf("%s as another's: got %v, want a refusal", piece, err)
		}
		if got := ownerOf(t, dir); got != string(raw) {
			t.Errorf("%s: a refused file was changed to %q", piece, got)
		}
	}
}

// Rot is told from a directory of another node, whichever bit it takes, and so
// is a file that was cut off; and what to do then works.
func TestOwnerRot(t *testing.T) {
	whole := ownerText(museumOwner)
	rotten := func(what string, raw []byte) {
		t.Helper()
		dir := ownedDir(t, raw)
		err := claimDir(dir, stateDir, museumOwner)
		var wrong *DataDirError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, "damaged file state/owner") {
			t.Errorf("%s: got %v, want that the file is damaged", what, err)
			return
		}
		if got := ownerOf(t, dir); got != string(raw) {
			t.Errorf("%s: the damaged file was changed to %q", what, got)
		}
	}
	for bit := range 8 * len(whole) {
		bent := bytes.Clone(whole)
		bent[bit/8] ^= 1 << (bit % 8)
		rotten(fmt.Sprintf("bit %d of byte %d", bit%8, bit/8), bent)
	}
	firstForm := len(museumOwner) + 1 // cut there it is the whole first form
	for n := range len(whole) {
		if n != firstForm {
			rotten(fmt.Sprintf("cut off after %d bytes", n), whole[:n])
		}
	}
	rotten("with more behind it", append(bytes.Clone(whole), '\n'))

	dir := ownedDir(t, []byte("rot"))
	if err := os.Remove(filepath.Join(dir, stateDir, ownerFile)); err != nil {
		t.Fatal(err)
	}
	if err := claimDir(dir, stateDir, museumOwner); err != nil {
		t.Errorf("with the damaged file removed: %v", err)
	}
	if got := ownerOf(t, dir); got != string(whole) {
		t.Errorf("the file is written anew as %q, want %q", got, whole)
	}
}
