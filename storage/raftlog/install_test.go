package raftlog

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

// emptyMachine is a snapshot of raft.MockFSM without entries: a msgpack array of none.
var emptyMachine = []byte{0x90}

func install(index uint64) (*raft.InstallSnapshotRequest, *bytes.Reader) {
	only := raft.Configuration{Servers: []raft.Server{{ID: "L", Address: "L"}, {ID: "N", Address: "N"}}}
	return &raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("L"), Addr: []byte("L")}, SnapshotVersion: 1,
		Term: 2, LastLogIndex: index, LastLogTerm: 2, Size: int64(len(emptyMachine)),
		Configuration: raft.EncodeConfiguration(only), ConfigurationIndex: 1,
	}, bytes.NewReader(emptyMachine)
}

func appendRequest(prev uint64, logs []*raft.Log) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("L"), Addr: []byte("L")},
		Term:      2, PrevLogEntry: prev, PrevLogTerm: 2, Entries: logs,
	}
}

// A real Raft installs a snapshot far ahead of its log and goes on behind it: no
// hole is left. When the same installation is delivered a second time, late, the
// entries that were acknowledged in between stay.
func TestSnapshotInstallation(t *testing.T) {
	inner := NewMemory()
	snaps := raft.NewInmemSnapshotStore()
	s := mustNew(t, Options{Inner: inner, Fail: func(err error) { t.Error(err) }, LastSnapshot: func() (uint64, error) {
		metas, err := snaps.List()
		if err != nil || len(metas) == 0 {
			return 0, err
		}
		return metas[0].Index, nil
	}})
	must(t, s.SetUint64([]byte(keyCurrentTerm), 2))
	must(t, s.StoreLogs(noops(1, 9)))
	r, call := server(t, s, snaps)
	send := func() {
		req, body := install(50)
		if !call(req, body).(*raft.InstallSnapshotResponse).Success {
			t.Fatal("the snapshot was not installed")
		}
	}
	send()
	if !call(appendRequest(50, noops(51, 60)), nil).(*raft.AppendEntriesResponse).Success {
		t.Fatal("entries behind the snapshot were refused")
	}
	wantSpan(t, s, 51, 60)
	send()
	wantSpan(t, s, 51, 60)
	var e raft.Log
	must(t, s.GetLog(60, &e))
	must(t, r.Shutdown().Error())
	must(t, s.CheckAgainst(60, 50))
}

// The road not taken: had the store called itself monotonic, the late
// installation would have emptied a log that was acknowledged up to 60.
func TestMonotonicStoreWouldForget(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	must(t, s.SetUint64([]byte(keyCurrentTerm), 2))
	must(t, s.StoreLogs(noops(1, 60)))
	r, call := server(t, monotonic{s}, raft.NewInmemSnapshotStore())
	req, body := install(50)
	if !call(req, body).(*raft.InstallSnapshotResponse).Success {
		t.Fatal("the snapshot was not installed")
	}
	wantSpan(t, s, 0, 0)
	must(t, r.Shutdown().Error())
}

type monotonic struct{ *Store }

func (monotonic) IsMonotonic() bool { return true }

func noops(from, to uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 2, Type: raft.LogNoop})
	}
	return logs
}
