package seal

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// The museum holds what the first release wrote. Its pieces are never written
// anew; -new-museum-piece makes the file where there is none.
var newPiece = flag.Bool("new-museum-piece", false, "write testdata/museum/format1.txt if it does not exist")

const museumFile = "testdata/museum/format1.txt"

// Shares, configuration, root key, sealed values of every table, a value under a
// rotated key and a blinded name, all of format 1, are read for ever.
func TestMuseum(t *testing.T) {
	if *newPiece {
		writeMuseum(t)
	}
	piece := readMuseum(t)
	cfg, err := UnmarshalConfig(piece["config"])
	if err != nil {
		t.Fatal(err)
	}
	if again, err := cfg.Marshal(); err != nil || !bytes.Equal(again, piece["config"]) {
		t.Errorf("the configuration encodes differently now: %v", err)
	}
	u := NewUnsealer(cfg)
	var keyring *Keyring
	for _, name := range []string{"share 1", "share 3"} {
		if _, keyring, err = u.Submit(string(piece[name])); err != nil {
			t.Fatal(err)
		}
	}
	if keyring == nil {
		t.Fatal("two of the museum's shares do not unseal")
	}
	if !bytes.Equal(keyring.memory.bytes, piece["root and keyring"]) {
		t.Error("root key or keyring are not the museum's")
	}
	b, err := NewBarrier(rand.NewChaCha8([32]byte{}), cfg.Cluster, keyring)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Wipe(); err != nil {
			t.Error(err)
		}
	}()
	key, err := b.Blind(9, museumName)
	if err != nil || !bytes.Equal(key, piece["name"]) {
		t.Errorf("the name blinds differently now: %v", err)
	}
	if got, err := b.Unblind(9, piece["name"]); err != nil || !slices.Equal(got, museumName) {
		t.Errorf("the museum's name: %q, %v", got, err)
	}
	if got, err := b.ID("token", []byte("value")); err != nil || !bytes.Equal(got, piece["id"]) {
		t.Errorf("the id is another now: %v", err)
	}
	if got, err := b.Mask([MaskSize]byte(piece["id"])); err != nil || !bytes.Equal(got[:], piece["mask"]) {
		t.Errorf("the mask is %x now: %v", got, err)
	} else if id, err := b.Unmask(got); err != nil || !bytes.HasPrefix(piece["id"], id[:]) {
		t.Errorf("the mask leads to %x: %v", id, err)
	}
	if got, err := b.AuditHash("value", []byte("value")); err != nil || !bytes.Equal(got, piece["audit hash"]) {
		t.Errorf("the audit hash is another now: %v", err)
	}
	for name, v := range museumValues {
		if got, err := b.Open(v.table, key, v.number, piece[name]); err != nil || string(got) != name {
			t.Errorf("opening %q: %q, %v", name, got, err)
		}
	}
}

var museumName = []string{"team", "app", "password"}

var museumValues = map[string]struct {
	table   Table
	number  uint64
	rotated bool
}{
	"record":               {TableRecord, 0, false},
	"version 3":            {TableVersion, 3, false},
	"lease":                {TableLease, 0, false},
	"version 4, key two":   {TableVersion, 4, true},
	"record under key two": {TableRecord, 0, true},
}

func writeMuseum(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(museumFile); err == nil {
		t.Fatalf("%s exists; a piece is never written anew", museumFile)
	}
	var out strings.Builder
	show := func(name string, p []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(name + ": " + hex.EncodeToString(p) + "\n")
	}
	dice := rand.NewChaCha8([32]byte([]byte("the dice of the seal museum, 1.\n")))
	made, err := Init(dice, ClusterID([]byte("museum cluster 1")), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBarrier(dice, made.Config.Cluster, made.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	key, err := b.Blind(9, museumName)
	show("name", key, err)
	id, err := b.ID("token", []byte("value"))
	show("id", id, err)
	mask, err := b.Mask([MaskSize]byte(id))
	show("mask", mask[:], err)
	hash, err := b.AuditHash("value", []byte("value"))
	show("audit hash", hash, err)
	cfg := made.Config
	for _, rotated := range []bool{false, true} {
		if rotated {
			if cfg, err = b.RotateData(cfg); err != nil {
				t.Fatal(err)
			}
			if err := b.Adopt(cfg); err != nil {
				t.Fatal(err)
			}
		}
		for name, v := range museumValues {
			if v.rotated == rotated {
				p, err := b.Seal(v.table, key, v.number, []byte(name))
				show(name, p, err)
			}
		}
	}
	encoded, err := cfg.Marshal()
	show("config", encoded, err)
	for _, s := range made.Shares {
		show("share "+string('0'+rune(s.Share.Index)), []byte(s.ExposeText()), nil)
	}
	show("root and keyring", b.keys.keyring.memory.bytes, nil)
	if err := os.WriteFile(museumFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readMuseum(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(museumFile)
	if err != nil {
		t.Fatal(err)
	}
	piece := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		name, digits, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("%s: line without a colon", museumFile)
		}
		piece[name] = mustHex(t, digits)
	}
	return piece
}

// What parses as a keyring is laid out exactly so: every byte belongs to one
// field, and damage is an error, not a panic.
func FuzzKeyring(f *testing.F) {
	made, err := Init(rand.NewChaCha8([32]byte{1}), ClusterID{}, 1, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(made.Keyring.memory.bytes[shamir.RootSize:]))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		k := &Keyring{memory: onHeap(1, ""), data: map[uint32][]byte{}}
		if err := k.parse(bytes.Clone(p)); err != nil {
			return
		}
		if want := keyringHeaderSize + len(k.data)*dataKeyEntrySize; len(p) != want {
			t.Errorf("%d bytes parsed as %d", len(p), want)
		}
		if k.data[k.active] == nil {
			t.Error("the active key is absent")
		}
	})
}

// Opening anything never panics, and opens nothing that Seal did not make.
func FuzzOpen(f *testing.F) {
	made, err := Init(rand.NewChaCha8([32]byte{1}), ClusterID{}, 1, 1)
	if err != nil {
		f.Fatal(err)
	}
	b, err := NewBarrier(rand.NewChaCha8([32]byte{2}), ClusterID{}, made.Keyring)
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := b.Seal(TableRecord, fsm.Key("k"), 0, []byte("v"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := b.Blind(9, museumName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(key))
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := b.Open(TableRecord, fsm.Key("k"), 0, p); err == nil && !bytes.Equal(p, sealed) {
			t.Errorf("%x opened", p)
		}
		if len(p) == 0 {
			return
		}
		if segments, err := b.Unblind(fsm.Space(p[0]), p); err == nil {
			if again, err := b.Blind(fsm.Space(p[0]), segments); err != nil || !bytes.Equal(again, p) {
				t.Errorf("unblinded to %d segments, which blind to %x, %v", len(segments), again, err)
			}
		}
	})
}
