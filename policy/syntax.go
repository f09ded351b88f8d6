package policy

import (
	"fmt"
	"strings"
)

// Limits on a policy. They are far above what people write and keep parsing,
// compiling and deciding cheap for what an attacker might.
const (
	MaxText          = 256 << 10 // bytes of a policy's text
	MaxRules         = 4096      // path blocks in one policy
	MaxPattern       = 2048      // bytes of one path pattern, before and after templates are filled
	MaxReasonPattern = 512       // bytes of one required_reason_pattern
	MaxDepth         = 16        // brackets and braces open at once
)

// A SyntaxError says where a policy's text is wrong. Line and Column count from
// 1, Column in characters.
type SyntaxError struct {
	Line, Column int
	Problem      string
}

// Error names place and problem.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("parsing policy: line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// A Warning is a remark on a policy that is valid but may not do what its author
// thinks: Vault accepts it too, so it is not refused.
type Warning struct {
	Line, Column int
	Text         string
}

// String names place and remark.
func (w Warning) String() string {
	return fmt.Sprintf("line %d, column %d: %s", w.Line, w.Column, w.Text)
}

type position struct{ line, column int }

func (at position) errorf(format string, args ...any) error {
	return &SyntaxError{Line: at.line, Column: at.column, Problem: fmt.Sprintf(format, args...)}
}

// suggest ends a sentence about an unknown name with the known one that was
// probably meant, or with all of them.
func suggest(unknown string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(unknown), k, distance); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known are " + strings.Join(known, ", ")
}

// editDistance counts the insertions, deletions and replacements between two
// words, or returns limit if there are that many or more.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
