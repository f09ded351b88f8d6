package seal_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

func BenchmarkBarrier(b *testing.B) {
	bar := newBarrier(b, rand.Reader, cluster, initialise(b, rand.Reader, 1, 1).Keyring)
	name := []string{"team", "application", "password"}
	key, err := bar.Blind(5, name)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{256, 4096} {
		plaintext := make([]byte, size)
		sealed, err := bar.Seal(seal.TableVersion, key, 1, plaintext)
		if err != nil {
			b.Fatal(err)
		}
		bench(b, fmt.Sprintf("Seal%d", size), func() error {
			_, err := bar.Seal(seal.TableVersion, key, 1, plaintext)
			return err
		})
		bench(b, fmt.Sprintf("Open%d", size), func() error {
			_, err := bar.Open(seal.TableVersion, key, 1, sealed)
			return err
		})
	}
	bench(b, "Blind3Segments", func() error { _, err := bar.Blind(5, name); return err })
	bench(b, "Unblind3Segments", func() error { _, err := bar.Unblind(5, key); return err })
	bench(b, "UnblindSegment", func() error { _, _, err := bar.UnblindSegment(fsm.Key{5}, key); return err })
	bench(b, "ID", func() error { _, err := bar.ID("token", key); return err })
	bench(b, "Mask", func() error { _, err := bar.Mask([seal.MaskSize]byte{}); return err })
}

func bench(b *testing.B, name string, call func() error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := call(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkUnseal3of5(b *testing.B) {
	made := initialise(b, rand.Reader, 5, 3)
	var texts []string
	for _, s := range made.Shares[:3] {
		texts = append(texts, s.ExposeText())
	}
	for b.Loop() {
		u := seal.NewUnsealer(made.Config)
		for _, text := range texts {
			_, k, err := u.Submit(text)
			if err != nil {
				b.Fatal(err)
			}
			if k != nil {
				if err := k.Wipe(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
