package kv

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

var opening = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// shop is an engine over a store of its own.
type shop struct {
	t testing.TB
	Engine
	*enginetest.Store
}

func newShop(t testing.TB) *shop {
	return &shop{t: t, Store: enginetest.NewStore(opening)}
}

// ask answers a request that must succeed.
func ask[Req, Resp proto.Message](s *shop, m engine.Method[Req, Resp], r Req) Resp {
	s.t.Helper()
	resp, err := enginetest.Call(s.Store, enginetest.Mount, m, r)
	if err != nil {
		s.t.Fatalf("%s %v: %v", m.Name, r, err)
	}
	return resp
}

// refused answers a request that must fail with exactly the error want.
func refused[Req, Resp proto.Message](s *shop, m engine.Method[Req, Resp], r Req, want error) {
	s.t.Helper()
	_, err := enginetest.Call(s.Store, enginetest.Mount, m, r)
	if !reflect.DeepEqual(err, want) {
		s.t.Errorf("%s %v: got %T %v, want %T %v", m.Name, r, err, err, want, want)
	}
}

func text(s string) map[string]*conclavev1.Field {
	return map[string]*conclavev1.Field{"v": {Kind: &conclavev1.Field_Text{Text: s}}}
}

// put writes each value as a version of its own.
func (s *shop) put(path string, values ...string) {
	s.t.Helper()
	for _, v := range values {
		ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: path, Data: text(v)})
	}
}

// want checks the value of a version; 0 is the current one.
func (s *shop) want(path string, version uint64, value string) {
	s.t.Helper()
	got := ask(s, s.Get(), &conclavev1.GetSecretRequest{Path: path, Version: version})
	if v := got.Secret.Data["v"].GetText(); v != value || len(got.Secret.Data) != 1 || got.Secret.Path != path {
		s.t.Errorf("%s version %d: got %v, want %q", path, version, got, value)
	}
}

// gone checks that a version cannot be read, and why.
func (s *shop) gone(path string, version uint64, want error) {
	s.t.Helper()
	refused(s, s.Get(), &conclavev1.GetSecretRequest{Path: path, Version: version}, want)
}

func (s *shop) metadata(path string) *conclavev1.SecretMetadata {
	s.t.Helper()
	return ask(s, s.GetMetadata(), &conclavev1.GetMetadataRequest{Path: path}).Metadata
}

// numbers lists the versions that the metadata show.
func (s *shop) numbers(path string) string {
	s.t.Helper()
	var out []string
	for _, v := range s.metadata(path).Versions {
		mark := ""
		if v.Deleted {
			mark += "-"
		}
		if v.Destroyed {
			mark += "x"
		}
		out = append(out, fmt.Sprint(v.Version)+mark)
	}
	return fmt.Sprint(out)
}

func numbersOf(m ...uint64) []uint64 { return m }

var (
	noSecret    = &engine.NotFoundError{What: "secret"}
	noDirectory = &engine.NotFoundError{What: "directory"}
)

func noVersion(n uint64) error { return &engine.NotFoundError{What: fmt.Sprintf("version %d", n)} }

func ttl(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// unchanged checks that do has no effect on what is at path.
func (s *shop) unchanged(path string, do func()) {
	s.t.Helper()
	look := func() (all []any) {
		tx := s.Begin(enginetest.Mount)
		p := engine.Path{path}
		head, err := tx.Head(p)
		record, err2 := tx.Record(p)
		if err := errors.Join(err, err2); err != nil {
			s.t.Fatal(err)
		}
		if head != nil {
			all = append(all, *head)
			for n := range head.Current {
				v, err := tx.Version(p, n+1)
				if err != nil {
					s.t.Fatal(err)
				}
				all = append(all, v)
			}
		}
		return append(all, slices.Clone(record))
	}
	before := look()
	do()
	if after := look(); !reflect.DeepEqual(before, after) {
		s.t.Errorf("%s changed from %v to %v", path, before, after)
	}
}
