package enginetest

import (
	"errors"

	"github.com/conclave-secrets/conclave/engine"
)

// A directory shows each name directly in it once, sorted, a directory with a
// slash at its end; and it shows them page by page, from wherever one asks.
func (s *txSuite) children() {
	for _, p := range []engine.Path{
		{"a"}, {"a", "x"}, {"a", "y", "z"}, {"a", "y", "w", "v"}, {"a-b"}, {"a-b", "c"}, {"aa"}, {"b", "1"}, {"b", "2"},
		{"c"}, {"é", "ü"}, {"z z"}, {"deep", "er", "still", "down"},
	} {
		s.appendEach(p, "v")
	}
	s.do(func(tx engine.Tx) error {
		return errors.Join(
			// A deleted secret is still listed; a record alone is not.
			tx.ChangeVersions(engine.Path{"c"}, engine.Delete, []uint64{1}),
			tx.PutRecord(engine.Path{"record"}, nil), tx.PutRecord(engine.Path{"b", "record"}, nil))
	})
	s.look(home, func(tx engine.Tx) {
		for _, d := range []struct {
			dir  engine.Path
			want []string
		}{
			{nil, []string{"a", "a-b", "a-b/", "a/", "aa", "b/", "c", "deep/", "z z", "é/"}},
			{engine.Path{"a"}, []string{"x", "y/"}},
			{engine.Path{"a", "y"}, []string{"w/", "z"}},
			{engine.Path{"a-b"}, []string{"c"}},
			{engine.Path{"deep"}, []string{"er/"}},
			{engine.Path{"deep", "er", "still"}, []string{"down"}},
			{engine.Path{"é"}, []string{"ü"}},
			{engine.Path{"c"}, nil},
			{engine.Path{"none"}, nil},
			{engine.Path{"a", "x", "none"}, nil},
		} {
			s.wantChildren(tx, d.dir, d.want...)
			s.pages(tx.Children, d.dir, d.want)
		}
	})
}

// pages asks for the names of a directory from every place and in every size.
func (s *txSuite) pages(list func(engine.Path, string, int) ([]string, bool, error), dir engine.Path, all []string) {
	s.Helper()
	afters := []string{"", "a/a", "~", "b", "b0"}
	for _, name := range all {
		afters = append(afters, name, name+"\x01")
	}
	for _, after := range afters {
		rest := all
		for len(rest) > 0 && after != "" && rest[0] <= after {
			rest = rest[1:]
		}
		for limit := 1; limit <= len(all)+1; limit++ {
			want := rest[:min(limit, len(rest))]
			got, more, err := list(dir, after, limit)
			if err != nil || !sameNames(got, want) || more != (len(rest) > limit) {
				s.Fatalf("names in %q after %q, at most %d: got %q more %v %v, want %q more %v",
					dir, after, limit, got, more, err, want, len(rest) > limit)
			}
		}
	}
}
