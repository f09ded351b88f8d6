package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Lists, maps and objects have a bound, counted in elements, wherever a request may
// hold one; and what has none too many is read as before.
func TestElementsAreBounded(t *testing.T) {
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ",%q:1", fmt.Sprint(i))
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	values := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	text := func(n int) string { return `"` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + `"` }
	pairs := func(n int) string { return `"` + strings.TrimSuffix(strings.Repeat("1=1,", n), ",") + `"` }
	for name, c := range map[string]struct {
		make func(n int) string
		into func() any
	}{
		"list":         {values, func() any { return new(Strings) }},
		"text":         {text, func() any { return new(Strings) }},
		"numbers":      {values, func() any { return new(Ints) }},
		"map":          {members, func() any { return new(Map) }},
		"pairs":        {pairs, func() any { return new(Map) }},
		"object":       {members, func() any { return new(Object) }},
		"inner object": {func(n int) string { return `{"a":` + members(n) + `}` }, func() any { return new(struct{ A Object }) }},
	} {
		if err := json.Unmarshal([]byte(c.make(MaxElements)), c.into()); err != nil {
			t.Errorf("%s of as many as there may be: %v", name, err)
		}
		if err := json.Unmarshal([]byte(c.make(MaxElements+1)), c.into()); err == nil {
			t.Errorf("%s of one too many is read", name)
		}
	}
	// Commas that are no commas of the object do not count.
	object := `{"a":"` + strings.Repeat(`,\"`, MaxElements) + `","b":[` + strings.Repeat("{},", MaxElements) + `{}],"c":{"d":1}}`
	if o, err := ParseBody([]byte(object)); err != nil || len(o) != 3 {
		t.Errorf("an object of three: %d, %v", len(o), err)
	}
	var invalid *InvalidError
	if _, err := ParseBody([]byte(members(MaxElements + 1))); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "65536") {
		t.Error(err)
	}
}

// What is wrong with a request is told by its handler, after it is known who asks.
func TestExistenceOfNonsense(t *testing.T) {
	failing := func(err error) Match {
		r := WithExists(NewRoute(Route{Verb: VerbWrite, Path: "a"}, func(*Call, *struct{}) (*struct{}, error) { return nil, nil }),
			func(*Call, *struct{}) (bool, error) { return false, err })
		m, _ := CompileRoutes([]Route{r}).Find(VerbWrite, "a")
		return m
	}
	for _, nonsense := range []error{&InvalidError{"x"}, &PathError{"x"}, fmt.Errorf("in: %w", &InvalidError{"x"})} {
		if creates, err := failing(nonsense).Creates(&Call{}, &struct{}{}); err != nil || creates {
			t.Errorf("%v: creates %v, %v", nonsense, creates, err)
		}
	}
	broken := errors.New("the disk is gone")
	if _, err := failing(broken).Creates(&Call{}, &struct{}{}); err != broken {
		t.Error(err)
	}
}
