// Package deptest holds the layering of the house: who may import whom, as a
// text that people read (layers.txt) and a test that holds everybody to it, in
// the manner of the Go tree's own go/build/deps_test.go.
package deptest

import (
	"fmt"
	"slices"
	"strings"
)

// Rules is a parsed layers.txt.
type Rules struct {
	allowed   map[string]map[string]bool // importer → what it may import directly
	forbidden []ban
}

type ban struct {
	what, by string
	direct   bool
}

// Parse reads the rules. Statements end in a semicolon; # starts a comment.
func Parse(text string) (*Rules, error) {
	var clean strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		clean.WriteString(strings.TrimSpace(line) + " ")
	}
	r := &Rules{allowed: map[string]map[string]bool{}}
	for statement := range strings.SplitSeq(clean.String(), ";") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if err := r.add(statement); err != nil {
			return nil, err
		}
	}
	r.close()
	return r, nil
}

func (r *Rules) add(statement string) error {
	for _, sign := range []string{"!<", "!-"} {
		left, right, ok := strings.Cut(statement, sign)
		if !ok {
			continue
		}
		for _, what := range names(left) {
			for _, by := range names(right) {
				r.forbidden = append(r.forbidden, ban{what, by, sign == "!-"})
			}
		}
		return nil
	}
	tiers := strings.Split(statement, "<")
	if len(tiers) < 2 {
		return fmt.Errorf("statement %q has no <", statement)
	}
	for i, tier := range tiers[1:] {
		for _, importer := range names(tier) {
			if r.allowed[importer] == nil {
				r.allowed[importer] = map[string]bool{}
			}
			for _, imported := range names(tiers[i]) {
				if imported != "NONE" {
					r.allowed[importer][imported] = true
				}
			}
		}
	}
	return nil
}

func names(list string) []string {
	var out []string
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// close makes the relation transitive.
func (r *Rules) close() {
	for changed := true; changed; {
		changed = false
		for _, direct := range r.allowed {
			for below := range direct {
				for further := range r.allowed[below] {
					if !direct[further] {
						direct[further], changed = true, true
					}
				}
			}
		}
	}
}

// rule finds the name in the rules that covers a package: itself, or the
// longest pattern with /... that does.
func (r *Rules) rule(pkg string) (string, bool) {
	if _, ok := r.allowed[pkg]; ok {
		return pkg, true
	}
	for dir := pkg; dir != ""; {
		if _, ok := r.allowed[dir+"/..."]; ok {
			return dir + "/...", true
		}
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			break
		}
		dir = dir[:i]
	}
	return "", false
}

// Check returns what is wrong with the imports of pkg, which are paths within
// the module, direct ones and all of those behind them.
func (r *Rules) Check(pkg string, direct, all []string) []string {
	var wrong []string
	name, ok := r.rule(pkg)
	if !ok {
		return []string{fmt.Sprintf("%s is in no rule: give it a place in layers.txt", pkg)}
	}
	for _, imported := range direct {
		to, ok := r.rule(imported)
		if ok && (r.allowed[name][to] || r.allowed[name][imported] || to == name) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s imports %s, which its rule does not allow", pkg, imported))
	}
	for _, b := range r.forbidden {
		if !covers(b.by, pkg) {
			continue
		}
		reach := all
		if b.direct {
			reach = direct
		}
		if i := slices.IndexFunc(reach, func(p string) bool { return covers(b.what, p) && !covers(b.by, p) }); i >= 0 {
			wrong = append(wrong, fmt.Sprintf("%s depends on %s, which is forbidden (%s, %s)", pkg, reach[i], b.what, b.by))
		}
	}
	return wrong
}

func covers(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pattern == pkg
}
