package workload

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Each request around access asks with the credential that was made for it, at the
// paths that Answered says, and only those that write name their index.
func TestByPath(t *testing.T) {
	s := newScene()
	for _, c := range []struct {
		o       history.Op
		callers string // of the requests; "" is the root
		index   uint64
	}{
		{history.Op{Kind: model.MakeToken, Key: "t"}, ",made-1", 5},
		{history.Op{Kind: model.UseToken, Key: "t", Value: model.Child}, "made-2", 0},
		{history.Op{Kind: model.RevokeToken, Key: "t", Value: model.Parent}, "", 0},
		{history.Op{Kind: model.MakeLimited, Key: "l"}, "", 5},
		{history.Op{Kind: model.UseLimited, Key: "l"}, "made-3", 5},
		{history.Op{Kind: model.MakeGate, Key: "g"}, ",", 5},
		{history.Op{Kind: model.SetPolicy, Key: "g", Value: model.Deny}, "", 5},
		{history.Op{Kind: model.UsePolicy, Key: "g", Value: writing}, "made-5", 5},
		{history.Op{Kind: model.UsePolicy, Key: "g"}, "made-5", 0},
		{history.Op{Kind: model.MakeWrapped, Key: "w"}, "", 5},
		{history.Op{Kind: model.Unwrap, Key: "w"}, "", 5},
	} {
		var callers, paths []string
		a := &Answer{}
		err := s.ByPath(&c.o, a, func(q Request) (*Reply, error) {
			callers, paths = append(callers, string(q.Token.Expose())), append(paths, q.Path)
			r := &Reply{Index: 5}
			if q.Body != nil && (q.Path == createToken || q.Path == "sys/wrapping/wrap" || strings.HasPrefix(q.Path, "sys/policies")) {
				s.clock++
				r.Token = redact.New([]byte("made-" + string(rune('0'+s.clock))))
			}
			if q.Path == "sys/wrapping/unwrap" {
				r.Text = s.wrapped(&c.o)
			}
			return r, nil
		})
		if err != nil || strings.Join(callers, ",") != c.callers || a.Index != c.index {
			t.Errorf("%v: asked by %q, index %d, %v", &c.o, callers, a.Index, err)
		}
		if want := Answered(&c.o); want != nil && !slices.Equal(paths, want) {
			t.Errorf("%v: asked at %v, want %v", &c.o, paths, want)
		}
	}
	if s.found != nil {
		t.Error(s.found)
	}
}

// Nothing behind a gate is behind an open gate; another failure is one, and what fails
// to be made is not used.
func TestByPathFails(t *testing.T) {
	s := newScene()
	s.keep(model.MakeGate, one("g", redact.New([]byte("made"))))
	use := &history.Op{Kind: model.UsePolicy, Key: "g"}
	told := func(reason conclavev1.Reason) func(Request) (*Reply, error) {
		return func(Request) (*Reply, error) { return nil, &Failure{Reason: reason} }
	}
	if err := s.ByPath(use, &Answer{}, told(conclavev1.Reason_REASON_NOT_FOUND)); err != nil {
		t.Errorf("let in and told that nothing is there: %v", err)
	}
	writes := &history.Op{Kind: model.UsePolicy, Key: "g", Value: writing}
	if err := s.ByPath(writes, &Answer{}, told(conclavev1.Reason_REASON_NOT_FOUND)); err == nil {
		t.Error("a write that was not found was let in")
	}
	var f *Failure
	if err := s.ByPath(use, &Answer{}, told(conclavev1.Reason_REASON_DENIED)); !errors.As(err, &f) || f.Reason != conclavev1.Reason_REASON_DENIED {
		t.Errorf("denied: %v", err)
	}
	for _, kind := range []history.Kind{model.MakeToken, model.MakeLimited, model.MakeGate, model.MakeWrapped} {
		if err := s.ByPath(&history.Op{Kind: kind, Key: "n"}, &Answer{}, told(conclavev1.Reason_REASON_SEALED)); err == nil || s.credential("n") != nil {
			t.Errorf("%s failed, and left a credential or no error, %v", kind, err)
		}
	}
}

// Another text than the wrapped one is found.
func TestWrappedText(t *testing.T) {
	s := newScene()
	made := one("w", redact.New([]byte("made")))
	made.body = "this"
	s.keep(model.MakeWrapped, made)
	unwrap := &history.Op{Kind: model.Unwrap, Key: "w"}
	for text, findings := range map[string]int{"this": 0, "that": 1} {
		s.found = nil
		if err := s.ByPath(unwrap, &Answer{}, func(Request) (*Reply, error) { return &Reply{Text: text}, nil }); err != nil || len(s.found) != findings {
			t.Errorf("%s was unwrapped: %v, %v", text, s.found, err)
		}
	}
}
