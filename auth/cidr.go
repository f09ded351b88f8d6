package auth

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// maxRanges bounds a list of address ranges: every login walks over it.
const maxRanges = 256

// ParseRanges returns a list of address ranges in the one form in which they are
// stored: prefixes without host bits. A single address is a range of its own.
// field names the list in the error, an engine.InvalidError.
func ParseRanges(field string, list []string) (engine.Strings, error) {
	if len(list) > maxRanges {
		return nil, &engine.InvalidError{Why: "the field \"" + field + "\" has more than 256 ranges"}
	}
	ranges := make(engine.Strings, 0, len(list))
	for _, text := range list {
		p, err := parseRange(strings.TrimSpace(text))
		if err != nil {
			return nil, &engine.InvalidError{Why: "the field \"" + field + "\" has an element that is no address range, such as 10.1.0.0/16"}
		}
		ranges = append(ranges, p.String())
	}
	return ranges, nil
}

func parseRange(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	// A range of IPv4 addresses in the spelling of IPv6 would match none of them:
	// addresses are compared in their own family.
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// Admits tells whether an address lies in one of the ranges; no ranges: always.
// An address that is not known lies in none.
func Admits(ranges []string, a netip.Addr) bool {
	if len(ranges) == 0 {
		return true
	}
	a = a.Unmap().WithZone("")
	for _, text := range ranges {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}

// Within tells whether every one of the ranges lies in one of outer; an empty
// outer contains everything.
func Within(ranges, outer []string) bool {
	if len(outer) == 0 {
		return true
	}
	for _, text := range ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil || !contained(p, outer) {
			return false
		}
	}
	return true
}

func contained(p netip.Prefix, outer []string) bool {
	for _, text := range outer {
		o, err := netip.ParsePrefix(text)
		if err == nil && o.Bits() <= p.Bits() && o.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Intersect returns the ranges that lie in both of two lists, of which an empty one
// contains everything. ok is false if nothing does.
func Intersect(a, b []string) (both engine.Strings, ok bool) {
	switch {
	case len(a) == 0:
		return b, true
	case len(b) == 0:
		return a, true
	}
	for _, pair := range [][2][]string{{a, b}, {b, a}} {
		for _, text := range pair[0] {
			if p, err := netip.ParsePrefix(text); err == nil && contained(p, pair[1]) && !slices.Contains(both, text) {
				both = append(both, text)
			}
		}
	}
	return both, len(both) > 0
}
