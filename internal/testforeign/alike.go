//go:build ignore

// Alike writes each openbao_*_test.go from its vault_*_test.go: the clients are two
// packages that grew out of one, and what compiles with both, and does the same with
// both, is written once. With -check it only tells what it would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var check = flag.Bool("check", false, "write nothing, and fail where something would be written")

// words are those of the one client, and of the other.
var words = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`vault "github\.com/hashicorp/vault/api"`), `bao "github.com/openbao/openbao/api/v2"`},
	{regexp.MustCompile(`\bvault\.`), "bao."},
	{regexp.MustCompile(`\bvault([A-Z])`), "bao$1"},
	{regexp.MustCompile(`\bnewVault([A-Z])`), "newBao$1"},
	{regexp.MustCompile(`\bTestVault`), "TestOpenBao"},
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	sources, err := filepath.Glob("vault_*_test.go")
	if err != nil || len(sources) == 0 {
		return fmt.Errorf("%d files to start from, %v", len(sources), err)
	}
	made := map[string]bool{}
	for _, source := range sources {
		name := "openbao_" + strings.TrimPrefix(source, "vault_")
		made[name] = true
		if err := respell(source, name); err != nil {
			return err
		}
	}
	others, err := filepath.Glob("openbao_*_test.go")
	if err != nil {
		return err
	}
	for _, name := range others {
		if !made[name] {
			return fmt.Errorf("%s comes from no file of the other client", name)
		}
	}
	return nil
}

// respell writes, or checks, one file.
func respell(source, name string) error {
	raw, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	for _, word := range words {
		raw = word.from.ReplaceAll(raw, []byte(word.to))
	}
	raw, err = format.Source(append([]byte("// Code generated from "+source+" by go generate; DO NOT EDIT.\n\n"), raw...))
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if !*check {
		return os.WriteFile(name, raw, 0o644)
	}
	if there, err := os.ReadFile(name); err != nil || !bytes.Equal(there, raw) {
		return fmt.Errorf("%s is not what %s says: run go generate (%v)", name, source, err)
	}
	return nil
}
