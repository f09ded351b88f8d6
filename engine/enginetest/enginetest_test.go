package enginetest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The reference keeps its own contract.
func TestReference(t *testing.T) {
	TestTx(t, func(*testing.T) Harness { return NewStore(startOfTime).Harness() })
}

// A Fork goes its own way.
func TestFork(t *testing.T) {
	p := engine.Path{"p"}
	write := func(s *Store, value string) {
		t.Helper()
		tx := s.Begin(Mount)
		if err := errors.Join(tx.PutRecord(p, []byte(value)), tx.Commit()); err != nil {
			t.Fatal(err)
		}
	}
	s := NewStore(startOfTime)
	write(s, "both")
	fork := s.Fork()
	write(fork, "fork")
	fork.Advance(time.Second)
	got, _ := s.Begin(Mount).Record(p)
	forked, _ := fork.Begin(Mount).Record(p)
	if string(got) != "both" || string(forked) != "fork" || s.Begin(Mount).Now() != startOfTime {
		t.Errorf("got %q in the store and %q in its fork", got, forked)
	}
}

// Call commits what a method staged and finishes its answer; of a method that
// refuses nothing remains.
func TestCall(t *testing.T) {
	s := NewStore(startOfTime)
	s.Advance(time.Second)
	m := goodWrite()
	resp, err := Call(s, Mount, m, &conclavev1.PutMetadataRequest{Path: "p"})
	if err != nil || resp.Index != 2 {
		t.Errorf("got %v %v, want index 2", resp, err)
	}
	m.Handle = func(tx engine.Tx, _ *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
		return nil, errors.Join(tx.PutRecord(engine.Path{"q"}, nil), errors.New("no"))
	}
	if resp, err := Call(s, Mount, m, &conclavev1.PutMetadataRequest{}); err == nil || resp != nil {
		t.Errorf("a refusal gives %v %v", resp, err)
	}
	if got, _ := s.Begin(Mount).Record(engine.Path{"q"}); got != nil {
		t.Error("a refused method has written")
	}
}

// goodWrite and goodRead are methods that keep the contract.
func goodWrite() engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse] {
	return engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse]{
		Name: conclavev1.Secrets_PutMetadata_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: (*conclavev1.PutMetadataRequest).GetPath,
		Handle: func(tx engine.Tx, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
			p, err := engine.ParsePath(r.Path, 0)
			if err != nil {
				return nil, err
			}
			if _, err := tx.Head(p); err != nil {
				return nil, err
			}
			return &conclavev1.PutMetadataResponse{}, tx.PutRecord(p, []byte(r.CustomMetadata["k"]))
		},
		Finish: func(r *conclavev1.PutMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func goodRead() engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse] {
	return engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse]{
		Name: conclavev1.Secrets_GetMetadata_FullMethodName, Capability: engine.CapabilityRead,
		Path: (*conclavev1.GetMetadataRequest).GetPath,
		Handle: func(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
			p, err := engine.ParsePath(r.Path, 0)
			if err != nil {
				return nil, err
			}
			if _, err := tx.Record(p); err != nil {
				return nil, err
			}
			return &conclavev1.GetMetadataResponse{Metadata: &conclavev1.SecretMetadata{Path: r.Path, CreatedAt: timestamppb.New(tx.Now())}}, nil
		},
		Finish: func(r *conclavev1.GetMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func writeCase(m engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse]) Case {
	return Of(m, &conclavev1.PutMetadataRequest{Path: "a/b", CustomMetadata: map[string]string{"k": "v"}}, &conclavev1.PutMetadataRequest{Path: "//"})
}

func readCase(m engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse]) Case {
	return Of(m, &conclavev1.GetMetadataRequest{Path: "a/b"})
}

// Good methods pass.
func TestGoodMethods(t *testing.T) {
	TestMethods(t, Options{}, writeCase(goodWrite()), readCase(goodRead()))
}

const mutantVar = "ENGINETEST_MUTANT"

// TestMutant runs a suite over something that breaks the contract. It fails, and
// so runs only where TestSuitesCatch wants to see that.
func TestMutant(t *testing.T) {
	name, ok := os.LookupEnv(mutantVar)
	if !ok {
		t.Skip("only for TestSuitesCatch")
	}
	if run, ok := txMutants[name]; ok {
		TestTx(t, func(*testing.T) Harness { return run(NewStore(startOfTime)) })
		return
	}
	if run, ok := routeMutants[name]; ok {
		run(t)
		return
	}
	methodMutants[name](t)
}

// Each suite fails over whatever breaks one promise: a test of the tests.
func TestSuitesCatch(t *testing.T) {
	catch := func(name string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0], "-test.run=^TestMutant$", "-test.v", "-test.failfast")
			child.Env = append(os.Environ(), mutantVar+"="+name)
			out, err := child.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMutant") || strings.Contains(string(out), "[recovered") {
				t.Errorf("the mutant is not caught: %v\n%s", err, out)
			}
		})
	}
	for name := range txMutants {
		catch(name)
	}
	for name := range methodMutants {
		catch(name)
	}
	for name := range routeMutants {
		catch(name)
	}
}
