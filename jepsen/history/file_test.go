package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func sample() *history.Run {
	two := uint64(2)
	ops := []*history.Op{
		{Client: 1, Node: 2, Life: 3, Kind: history.Put, Key: "a \"b\"\n\u00e9", Called: 5, Returned: 9, Sent: 2, Faulty: true, Value: "v1", CAS: &two,
			Outcome: history.Refused, Reason: conclavev1.Reason_REASON_CAS_MISMATCH, Number: 4, LogTime: time.Unix(0, 77).UTC()},
		{Kind: history.Get, Key: "a", Called: 10, Returned: 12, Version: 3, Level: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, AtLeast: 8, MaxAge: time.Second,
			Outcome: history.Done, Number: 3, Read: "v0", Index: 9},
		{Kind: history.Grant, Key: "lease", Called: 11, Returned: 15, TTL: time.Hour, Outcome: history.Done, Expires: time.Unix(9, 1).UTC(), Number: 1, Index: 10},
		{Kind: history.Revoke, Key: "lease", Called: 16, Returned: 20, Outcome: history.Unknown},
	}
	times := make([]int64, 1100)
	for i := range times {
		times[i] = int64(i * 1000)
	}
	return &history.Run{
		Header: history.Header{Format: history.FormatVersion, Kind: "sim", Seed: 42, Nodes: 3, Clients: 6, Length: time.Minute, Commit: "abc", Started: time.Unix(5, 0).UTC(), Replay: "again"},
		Ops:    ops, Times: times,
		Faults: []history.Fault{{Name: "leader cut off", Nodes: []int{1}, Began: 3, Ended: 8, Proofs: []history.Proof{{What: "messages dropped", Count: 7}}}},
	}
}

func TestFilesComeBack(t *testing.T) {
	var file bytes.Buffer
	want := sample()
	if err := history.Write(&file, want); err != nil {
		t.Fatal(err)
	}
	got, err := history.Read(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if at, ok := got.TimeAt(1099); !ok || at.UnixNano() != 1099_000 {
		t.Errorf("the log time at 1099 is %v, %t", at, ok)
	}
	if _, ok := got.TimeAt(1100); ok {
		t.Error("an entry that nobody saw has a log time")
	}
}

// Whatever is cut off a file, changed in it or put into it, it is no history any more.
func TestDamagedFilesAreRefused(t *testing.T) {
	var file bytes.Buffer
	if err := history.Write(&file, sample()); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(file.String(), "\n"), "\n")
	bad := map[string]string{"empty": "", "no header": strings.Join(lines[1:], ""), "two headers": lines[0] + file.String(), "something after the end": file.String() + lines[1],
		"another format": strings.Replace(file.String(), `"format":1`, `"format":2`, 1), "an outcome that nobody knows": strings.Replace(file.String(), `"outcome":"done"`, `"outcome":"well"`, 1),
		"a reason that nobody knows": strings.Replace(file.String(), `"cas-mismatch"`, `"mood"`, 1), "an empty line": strings.Replace(file.String(), "\n", "\n{}\n", 1)}
	for n := 0; n < file.Len()-1; n += 1 + n/500 {
		bad["cut"] = file.String()[:n]
		if _, err := history.Read(strings.NewReader(bad["cut"])); !errors.Is(err, history.ErrFormat) {
			t.Fatalf("cut after byte %d: %v", n, err)
		}
	}
	for i := 1; i < len(lines)-1; i++ {
		bad[fmt.Sprintf("without line %d", i)] = strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "")
	}
	for name, text := range bad {
		if _, err := history.Read(strings.NewReader(text)); !errors.Is(err, history.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEDN(t *testing.T) {
	var out bytes.Buffer
	if err := history.WriteEDN(&out, sample().Ops[1:]); err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :time 10, :process 0, :type :invoke, :f :get, :key "a", :node 0, :value nil, :version 3, :level :at-least-index}
{:index 1, :time 11, :process 0, :type :invoke, :f :grant, :key "lease", :node 0, :value nil}
{:index 2, :time 12, :process 0, :type :ok, :f :get, :key "a", :node 0, :value "v0", :version 3, :level :at-least-index, :number 3, :log-index 9}
{:index 3, :time 15, :process 0, :type :ok, :f :grant, :key "lease", :node 0, :value nil, :number 1, :log-index 10}
{:index 4, :time 16, :process 0, :type :invoke, :f :revoke, :key "lease", :node 0, :value nil}
{:index 5, :time 20, :process 0, :type :info, :f :revoke, :key "lease", :node 0, :value nil}
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
