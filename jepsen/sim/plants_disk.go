package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// What is planted below the consensus: disks, machines, wires; and in the audit log.

// loseTail has a log forget its last entries, as if fsync had lied.
func loseTail(o *Options) {
	o.seams.Crash = func(log *raftlog.Memory) {
		last, err := log.LastIndex()
		if err == nil && last > 3 {
			err = log.DeleteRange(last-2, last)
		}
		if err != nil {
			panic(err)
		}
	}
}

// loseValue has the last change of a value of the stable store vanish in a power cut.
func loseValue(key string) func(*Options) {
	return tearValue(key, func(next *raftlog.Memory, from []byte) error { return next.Set([]byte(key), from) })
}

// tearVote has half of the last vote vanish in a power cut: the term is the new one, the
// candidate that of the vote before, as when the two are written one after the other.
var tearVote = tearValue("LastVote", func(next *raftlog.Memory, from []byte) error {
	log, err := raftlog.New(raftlog.Options{Inner: next})
	if err != nil {
		return err
	}
	term, err := log.GetUint64([]byte("LastVoteTerm"))
	if err == nil {
		err = next.Set([]byte("LastVote"), from)
	}
	if err != nil {
		return err
	}
	candidate, err := log.Get([]byte("LastVoteCand"))
	if err != nil {
		return err
	}
	return errors.Join(log.SetUint64([]byte("LastVoteTerm"), term), log.Set([]byte("LastVoteCand"), candidate))
})

// tearValue has a power cut take back the last change of a value of the stable store, or
// a part of it: undo gets what the value was.
func tearValue(key string, undo func(next *raftlog.Memory, from []byte) error) func(*Options) {
	return func(o *Options) {
		var mu sync.Mutex
		var changes []*change // of all lives of all nodes
		o.seams.Log = func(m *raftlog.Memory) raftlog.Inner {
			c := &change{}
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, c)
			return &rememberingLog{Memory: m, key: key, note: func(from, to []byte) {
				mu.Lock()
				defer mu.Unlock()
				c.from, c.to = from, to
			}}
		}
		o.seams.Crash = func(next *raftlog.Memory) {
			mu.Lock()
			defer mu.Unlock()
			now, err := next.Get([]byte(key))
			if err != nil {
				return // it was never set
			}
			for _, c := range changes {
				// The change of another node to the same value does as well: it goes back, too.
				if c.from == nil || !bytes.Equal(c.to, now) {
					continue
				}
				if err := undo(next, c.from); err != nil {
					panic(err)
				}
				return
			}
		}
	}
}

// change is what a value was and what it became; from is nil where there was none.
type change struct{ from, to []byte }

// rememberingLog tells what a value was before it was set.
type rememberingLog struct {
	*raftlog.Memory
	key  string
	note func(from, to []byte)
}

func (l *rememberingLog) Set(key, value []byte) error {
	if string(key) == l.key {
		old, err := l.Memory.Get(key)
		if err != nil && !errors.Is(err, raftlog.ErrKeyNotFound) {
			return err
		}
		l.note(old, bytes.Clone(value))
	}
	return l.Memory.Set(key, value)
}

// lyingFiles sync nothing.
type lyingFiles struct{ vfs.FS }

type lyingFile struct{ vfs.File }

func (lyingFile) Sync() error                { return nil }
func (lyingFile) SyncData() error            { return nil }
func (lyingFile) SyncTo(int64) (bool, error) { return true, nil }

func lie(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return lyingFile{f}, nil
}

func (l lyingFiles) Create(name string, c pebblevfs.DiskWriteCategory) (vfs.File, error) {
	return lie(l.FS.Create(name, c))
}

func (l lyingFiles) OpenReadWrite(name string, c pebblevfs.DiskWriteCategory, opts ...pebblevfs.OpenOption) (vfs.File, error) {
	return lie(l.FS.OpenReadWrite(name, c, opts...))
}

func (l lyingFiles) OpenDir(name string) (vfs.File, error) { return lie(l.FS.OpenDir(name)) }

func (l lyingFiles) ReuseForWrite(from, to string, c pebblevfs.DiskWriteCategory) (vfs.File, error) {
	return lie(l.FS.ReuseForWrite(from, to, c))
}

// wrongRepair has the entry that a node fetches be another than it asked for.
func wrongRepair(o *Options) {
	o.seams.Repair = func(l *raft.Log) *raft.Log {
		c := *l
		c.Data = append([]byte{}, l.Data...)
		if len(c.Data) > 0 {
			c.Data[len(c.Data)-1] ^= 1
		}
		return &c
	}
}

// changedMachine changes entries before the machine applies them.
type changedMachine struct {
	cluster.Machine
	change func(cluster.Machine, *fsm.LogEntry)
}

func (m changedMachine) Apply(entries []fsm.LogEntry) ([][]fsm.Result, error) {
	own := append([]fsm.LogEntry{}, entries...)
	for i := range own {
		if len(own[i].Data) > 0 {
			m.change(m.Machine, &own[i])
		}
	}
	return m.Machine.Apply(own)
}

func onEntries(change func(*testcluster.Replica, cluster.Machine, *fsm.LogEntry)) func(*Options) {
	return func(o *Options) {
		o.seams.Machine = func(r *testcluster.Replica, m cluster.Machine) cluster.Machine {
			return changedMachine{m, func(m cluster.Machine, e *fsm.LogEntry) { change(r, m, e) }}
		}
	}
}

// restamp gives an entry another time.
func restamp(e *fsm.LogEntry, to func(fsm.LogTime) fsm.LogTime) {
	entry, err := fsm.DecodeEntry(e.Data)
	if err != nil {
		return // the machine will say so
	}
	entry.Time = to(entry.Time)
	e.Data = fsm.EncodeEntry(entry)
}

// ownClock has each replica take its own wall for the log time.
func ownClock(r *testcluster.Replica, m cluster.Machine, e *fsm.LogEntry) {
	restamp(e, func(t fsm.LogTime) fsm.LogTime { return max(m.Time()+1, fsm.LogTime(r.Clock.Wall().UnixNano())) })
}

// fast has log time run ahead of what the entries say, by half a second.
func fast(_ *testcluster.Replica, m cluster.Machine, e *fsm.LogEntry) {
	restamp(e, func(t fsm.LogTime) fsm.LogTime { return max(m.Time()+1, t.Add(500*time.Millisecond)) })
}

// backward has log time go back now and then.
func backward(_ *testcluster.Replica, m cluster.Machine, e *fsm.LogEntry) {
	if e.Index%100 == 0 {
		restamp(e, func(fsm.LogTime) fsm.LogTime { return m.Time() - 1 })
	}
}

// skipping has one replica take note of an entry and not of what it says, now and then:
// the index moved, the data did not.
func skipping(r *testcluster.Replica, _ cluster.Machine, e *fsm.LogEntry) {
	if r.ID == "n1" && e.Index%97 == 0 {
		e.Data = nil
	}
}

// torn has the first entry that a node applies after a crash be noted and not carried
// out, as where the index is written in one transaction and the data in the next.
func torn(o *Options) {
	var mu sync.Mutex
	lived := map[string]bool{}
	o.seams.Machine = func(r *testcluster.Replica, m cluster.Machine) cluster.Machine {
		mu.Lock()
		defer mu.Unlock()
		due := lived[r.ID]
		lived[r.ID] = true
		return changedMachine{m, func(_ cluster.Machine, e *fsm.LogEntry) {
			if due {
				e.Data, due = nil, false
			}
		}}
	}
}

// changedSnapshots changes the snapshots that a machine takes.
type changedSnapshots struct {
	cluster.Machine
	snapshot func(cluster.Machine) (fsm.Snapshot, error)
}

func (m changedSnapshots) Snapshot() (fsm.Snapshot, error) { return m.snapshot(m.Machine) }

func onSnapshots(f func(cluster.Machine) (fsm.Snapshot, error)) func(*Options) {
	return func(o *Options) {
		o.seams.Machine = func(_ *testcluster.Replica, m cluster.Machine) cluster.Machine { return changedSnapshots{m, f} }
	}
}

// oldSnapshots has each machine give out its first snapshot for every later one.
func oldSnapshots(o *Options) {
	o.seams.Machine = func(_ *testcluster.Replica, m cluster.Machine) cluster.Machine {
		first := new(bytesBuffer)
		return changedSnapshots{m, func(m cluster.Machine) (fsm.Snapshot, error) {
			s, err := m.Snapshot()
			return outdated{s, first}, err
		}}
	}
}

type outdated struct {
	fsm.Snapshot
	first *bytesBuffer
}

func (s outdated) WriteTo(w io.Writer) (int64, error) {
	var image bytesBuffer
	if _, err := s.Snapshot.WriteTo(&image); err != nil {
		return 0, err
	}
	if len(*s.first) == 0 {
		*s.first = image
	}
	n, err := w.Write(*s.first)
	return int64(n), err
}

// cutShort leaves the end of the image out.
type cutShort struct{ fsm.Snapshot }

func (s cutShort) WriteTo(w io.Writer) (int64, error) {
	var all bytesBuffer
	if _, err := s.Snapshot.WriteTo(&all); err != nil {
		return 0, err
	}
	n, err := w.Write(all[:len(all)*3/4])
	return int64(n), err
}

type bytesBuffer []byte

func (b *bytesBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// generous takes every vote for granted.
type generous struct{ cluster.Transport }

func (t generous) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := t.Transport.RequestVote(id, to, req, resp)
	if err == nil && resp.Term <= req.Term {
		resp.Granted = true
	}
	return err
}

func (t generous) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := t.Transport.RequestPreVote(id, to, req, resp)
	if err == nil && resp.Term <= req.Term {
		resp.Granted = true
	}
	return err
}

// trusting takes what was sent for stored, also when no answer came.
type trusting struct{ cluster.Transport }

func (t trusting) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.Transport.AppendEntries(id, to, req, resp)
	if err != nil {
		*resp = raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: req.Term, Success: true}
		if n := len(req.Entries); n > 0 {
			resp.LastLog = req.Entries[n-1].Index
		}
		<-time.After(time.Millisecond) // or it would call again at the same instant, for ever
	}
	return nil
}

func onTransport(wrap func(cluster.Transport) cluster.Transport) func(*Options) {
	return func(o *Options) {
		o.seams.Transport = func(_ *testcluster.Process, t cluster.Transport) cluster.Transport { return wrap(t) }
	}
}

// lateRecords are written after the answer has left.
type lateRecords struct{ core.Recorder }

func (r lateRecords) Append(_ context.Context, e *audit.Entry) error {
	own := *e
	go func() {
		<-time.After(time.Millisecond)
		_ = r.Recorder.Append(context.Background(), &own) // nobody waits for it: that is the fault
	}()
	return nil
}

// fewerRecords leaves out one record in a hundred.
type fewerRecords struct {
	core.Recorder
	n *atomic.Int64
}

func (r fewerRecords) Append(ctx context.Context, e *audit.Entry) error {
	if r.n.Add(1)%100 == 0 {
		return nil
	}
	return r.Recorder.Append(ctx, e)
}
