package engine

import (
	"errors"
	"strings"
	"testing"
)

// What a path may be, and that a refusal does not repeat it.
func TestParsePath(t *testing.T) {
	for _, good := range []string{"a", "a/b/c", "app/db/pass word", "ü/日本", "a/...", strings.Repeat("x", MaxPathBytes)} {
		p, err := ParsePath(good, 0)
		if err != nil || p.String() != good {
			t.Errorf("%q: got %q %v", good, p, err)
		}
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\x00", "a\tb", "a\u0085b", "\xff", strings.Repeat("x", MaxPathBytes+1)} {
		_, err := ParsePath(bad, 0)
		var why *PathError
		if !errors.As(err, &why) {
			t.Errorf("%q was accepted", bad)
			continue
		}
		if len(bad) > 3 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the path: %v", err)
		}
	}
	for in, want := range map[string]string{"": "", "/": "", "a": "a", "a/": "a", "a/b/": "a/b"} {
		if p, err := ParseDirectory(in, 0); err != nil || p.String() != want {
			t.Errorf("directory %q: got %q %v, want %q", in, p, err, want)
		}
	}
}

// Whatever comes in, a path that is accepted has only segments that are safe to
// blind, and spells itself.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a/b", "..", "a//b", "\xff/a", "a\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s, 0)
		if err != nil {
			return
		}
		if p.String() != s || len(p) == 0 {
			t.Fatalf("%q became %q", s, p)
		}
		for _, segment := range p {
			if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "/\x00\n\r") {
				t.Fatalf("%q has the segment %q", s, segment)
			}
		}
	})
}
