package password

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsimple"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// Bounds of a policy. Those of the length are Vault's.
const (
	MinLength = 4
	MaxLength = 100
	maxRules  = 16
	// maxCharset bounds one charset, in characters.
	maxCharset = 1024
	// maxText bounds the text of a policy, in bytes.
	maxText = 64 << 10
)

// ErrPolicy is what every error about the text of a policy wraps.
var ErrPolicy = errors.New("password policy")

// A Policy says what a password looks like. It never changes, and may be used by
// several goroutines.
type Policy struct {
	length int
	rules  []rule
	counts *counts
}

// rule asks for at least least characters of charset.
type rule struct {
	charset []rune // sorted, without repetitions
	least   int
}

// Default is the policy of passwords for which none is named: 20 letters and digits,
// with a capital, a small letter and a digit among them. They need no quoting anywhere.
func Default() *Policy { return defaultPolicy }

var defaultPolicy = func() *Policy {
	p, err := Parse(`
length = 20
rule "charset" {
  charset   = "abcdefghijklmnopqrstuvwxyz"
  min-chars = 1
}
rule "charset" {
  charset   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
  min-chars = 1
}
rule "charset" {
  charset   = "0123456789"
  min-chars = 1
}`)
	if err != nil {
		panic(err)
	}
	return p
}()

// text is a policy as it is written.
type text struct {
	Length int `hcl:"length"`
	Rules  []struct {
		Kind    string `hcl:"kind,label"`
		Charset string `hcl:"charset"`
		Least   int    `hcl:"min-chars,optional"`
	} `hcl:"rule,block"`
}

// Parse reads a policy, in HCL or JSON. Its errors wrap ErrPolicy and say where.
func Parse(policy string) (*Policy, error) {
	if len(policy) > maxText {
		return nil, fmt.Errorf("%w: it has %d bytes; %d are allowed", ErrPolicy, len(policy), maxText)
	}
	name := "policy.hcl"
	if strings.HasPrefix(strings.TrimSpace(policy), "{") {
		name = "policy.json"
	}
	var t text
	if err := hclsimple.Decode(name, []byte(policy), nil, &t); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrPolicy, plain(err))
	}
	return t.policy()
}

// plain is what the parser says, without the name of a file that there is not.
func plain(err error) string {
	var all hcl.Diagnostics
	if !errors.As(err, &all) || len(all) == 0 {
		return err.Error()
	}
	d := all[0]
	what := cmp.Or(d.Detail, d.Summary)
	if d.Subject == nil {
		return what
	}
	return fmt.Sprintf("line %d, column %d: %s", d.Subject.Start.Line, d.Subject.Start.Column, what)
}

func (t *text) policy() (*Policy, error) {
	switch {
	case t.Length < MinLength || t.Length > MaxLength:
		return nil, fmt.Errorf("%w: length is %d; it must be %d to %d", ErrPolicy, t.Length, MinLength, MaxLength)
	case len(t.Rules) == 0:
		return nil, fmt.Errorf(`%w: it has no rule "charset"`, ErrPolicy)
	case len(t.Rules) > maxRules:
		return nil, fmt.Errorf("%w: it has %d rules; %d are allowed", ErrPolicy, len(t.Rules), maxRules)
	}
	p := &Policy{length: t.Length}
	for i, r := range t.Rules {
		charset, err := parseCharset(r.Charset)
		switch {
		case r.Kind != "charset":
			err = fmt.Errorf("no kind of rule is called %q; there is \"charset\"", r.Kind)
		case r.Least < 0 || r.Least > t.Length:
			err = fmt.Errorf("min-chars is %d in a password of %d characters", r.Least, t.Length)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: rule %d: %w", ErrPolicy, i+1, err)
		}
		p.rules = append(p.rules, rule{charset, r.Least})
	}
	var err error
	if p.counts, err = count(p.length, p.rules); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return p, nil
}

func parseCharset(s string) ([]rune, error) {
	if !utf8.ValidString(s) || s == "" {
		return nil, errors.New("charset is empty, or no UTF-8")
	}
	runes := []rune(s)
	if len(runes) > maxCharset {
		return nil, fmt.Errorf("charset has %d characters; %d are allowed", len(runes), maxCharset)
	}
	if i := slices.IndexFunc(runes, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return nil, fmt.Errorf("character %d of charset, %U, is not printable", i+1, runes[i])
	}
	slices.Sort(runes)
	return slices.Compact(runes), nil
}

// Length is that of every password, in characters.
func (p *Policy) Length() int { return p.length }

// Passwords is how many passwords there are. It is the caller's.
func (p *Policy) Passwords() *big.Int { return new(big.Int).Set(p.counts.all()) }

// Entropy is that of a password, in bits, rounded down.
func (p *Policy) Entropy() int { return p.counts.all().BitLen() - 1 }

// Generate makes a password from random, which must be a cryptographic source. An
// error is one of random.
func (p *Policy) Generate(random io.Reader) (redact.Bytes, error) {
	n, err := rand.Int(random, p.counts.all())
	if err != nil {
		return redact.Bytes{}, fmt.Errorf("making a password: %w", err)
	}
	return redact.New([]byte(string(p.counts.at(n)))), nil
}

// Satisfied tells whether a password is one of this policy.
func (p *Policy) Satisfied(password redact.Bytes) bool {
	runes := []rune(string(password.Expose()))
	if len(runes) != p.length {
		return false
	}
	for _, r := range runes {
		if !slices.ContainsFunc(p.rules, func(x rule) bool { return x.has(r) }) {
			return false
		}
	}
	for _, x := range p.rules {
		n := 0
		for _, r := range runes {
			if x.has(r) {
				n++
			}
		}
		if n < x.least {
			return false
		}
	}
	return true
}

func (r rule) has(c rune) bool {
	_, found := slices.BinarySearch(r.charset, c)
	return found
}
