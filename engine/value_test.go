package engine

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What clients of all ages send, and what comes of it.
func TestLenientValues(t *testing.T) {
	var (
		duration Duration
		truth    Bool
		number   Int
		text     Text
		list     Strings
		numbers  Ints
		pairs    Map
	)
	for _, c := range []struct {
		sent string
		into any
		want any // nil: refused
	}{
		{`3600`, &duration, Duration(time.Hour)},
		{`"3600"`, &duration, Duration(time.Hour)},
		{`"1h30m"`, &duration, Duration(90 * time.Minute)},
		{`"2d"`, &duration, Duration(48 * time.Hour)},
		{`""`, &duration, Duration(0)},
		{`1.5`, &duration, Duration(time.Second)},
		{`1e3`, &duration, Duration(1000 * time.Second)},
		{`-1`, &duration, nil},
		{`"-1h"`, &duration, nil},
		{`"soon"`, &duration, nil},
		{`"NaNd"`, &duration, nil},
		{`"NaN"`, &duration, nil},
		{`"Inf"`, &duration, nil},
		{`9223372036854775807`, &duration, nil},
		{`"99999999999h"`, &duration, nil},
		{`1e300`, &duration, nil},
		{`[1]`, &duration, nil},
		{`true`, &truth, Bool(true)},
		{`"true"`, &truth, Bool(true)},
		{`"0"`, &truth, Bool(false)},
		{`1`, &truth, Bool(true)},
		{`"perhaps"`, &truth, nil},
		{`7`, &number, Int(7)},
		{`"7"`, &number, Int(7)},
		{`7.5`, &number, nil},
		{`92233720368547758070`, &number, nil},
		{`{}`, &number, nil},
		{`"x"`, &text, Text("x")},
		{`12`, &text, Text("12")},
		{`["x"]`, &text, nil},
		{`["a", "b "]`, &list, Strings{"a", "b"}},
		{`"a, b,,c"`, &list, Strings{"a", "b", "c"}},
		{`""`, &list, Strings{}},
		{`[1, "2"]`, &list, Strings{"1", "2"}},
		{`{"a": 1}`, &list, nil},
		{`[["a"]]`, &list, nil},
		{`["1", 2]`, &numbers, Ints{1, 2}},
		{`"1,2"`, &numbers, Ints{1, 2}},
		{`["one"]`, &numbers, nil},
		{`{"a": "b", "n": 1}`, &pairs, Map{"a": "b", "n": "1"}},
		{`["a=b", "c = d"]`, &pairs, Map{"a": "b", "c": "d"}},
		{`"a=b,c=d"`, &pairs, Map{"a": "b", "c": "d"}},
		{`"ab"`, &pairs, nil},
		{`{"a": {}}`, &pairs, nil},
	} {
		err := json.Unmarshal([]byte(c.sent), c.into)
		got := reflect.ValueOf(c.into).Elem().Interface()
		switch {
		case (err != nil) != (c.want == nil):
			t.Errorf("%T from %s: got %v, error %v", c.into, c.sent, got, err)
		case err == nil && !reflect.DeepEqual(got, c.want):
			t.Errorf("%T from %s: got %v, want %v", c.into, c.sent, got, c.want)
		}
	}
}

// What values print is what readers of integers and arrays expect.
func TestValuesPrintPlainly(t *testing.T) {
	for want, v := range map[string]any{
		`90`: Duration(90 * time.Second), `[]`: Strings(nil), `["a"]`: Strings{"a"}, `true`: Bool(true), `7`: Int(7),
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%T prints %s, %v; want %s", v, got, err, want)
		}
	}
}

// The error of a value never repeats it: it may be a secret in the wrong field.
func TestErrorsQuoteNothing(t *testing.T) {
	for _, into := range []any{new(Duration), new(Bool), new(Int), new(Ints), new(Map)} {
		for _, form := range []string{`"%s"`, `["%s"]`, `{"%s": []}`, `%s`} {
			if err := json.Unmarshal(fmt.Appendf(nil, form, "hunter2"), into); err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%T: %v", into, err)
			}
		}
	}
}
