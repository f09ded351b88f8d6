package engine

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Path is a name that was checked: its segments, outermost first. A directory
// may be the empty path, the mount itself.
type Path []string

// MaxPathBytes is the longest path, in bytes, when no other limit is set.
const MaxPathBytes = 1024

// A PathError says why a path is not one. It does not repeat the path: names
// are not for logs.
type PathError struct{ Why string }

func (e *PathError) Error() string { return "path " + e.Why }

// ParsePath checks the path of a secret or a lease: non-empty segments of
// printable UTF-8 between single slashes, none of them "." or "..", at most
// limit bytes (0: MaxPathBytes).
func ParsePath(s string, limit int) (Path, error) {
	if s == "" {
		return nil, &PathError{"is empty"}
	}
	return parse(s, limit)
}

// ParseDirectory checks the path of a directory: like ParsePath, but it may be
// empty and may end in a slash.
func ParseDirectory(s string, limit int) (Path, error) {
	if s = strings.TrimSuffix(s, "/"); s == "" {
		return nil, nil
	}
	return parse(s, limit)
}

func parse(s string, limit int) (Path, error) {
	if limit == 0 {
		limit = MaxPathBytes
	}
	if len(s) > limit {
		return nil, &PathError{fmt.Sprintf("of %d bytes is longer than %d", len(s), limit)}
	}
	if !utf8.ValidString(s) {
		return nil, &PathError{"is not valid UTF-8"}
	}
	segments := strings.Split(s, "/")
	for i, segment := range segments {
		if err := checkSegment(segment, i, len(segments)); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

func checkSegment(s string, i, n int) error {
	switch {
	case s == "" && i == 0:
		return &PathError{"starts with a slash"}
	case s == "" && i == n-1:
		return &PathError{"ends with a slash"}
	case s == "":
		return &PathError{"has an empty segment"}
	case s == "." || s == "..":
		return &PathError{fmt.Sprintf("has the segment %q, which names no secret", s)}
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return &PathError{fmt.Sprintf("has a control character in segment %d", i+1)}
		}
	}
	return nil
}

// String spells the path. It is for answers to those who may read it, never
// for logs or errors.
func (p Path) String() string { return strings.Join(p, "/") }
