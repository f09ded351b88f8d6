package server

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/policy"
	"github.com/conclave-secrets/conclave/storage/vfs"
	vaulthttp "github.com/conclave-secrets/conclave/transport/http"
)

// This file has what a node can tell of itself in numbers: sys/metrics, sys/host-info.

// Gauges implements the Node of transport/http. It works without a quorum: that is
// when one looks at it.
func (n *Node) Gauges(ctx context.Context, c core.Caller) ([]vaulthttp.Gauge, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	if _, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/metrics", Capability: policy.CapabilityRead}); err != nil {
		return nil, err
	}
	all := append(append(m.raftGauges(), processGauges()...), m.effectGauges()...)
	if log, ok := m.gate.Recorder().(*audit.Log); ok {
		all = append(all, auditGauges(log.Status())...)
	}
	if free, total, err := vfs.FreeSpace(m.cfg.DataDir); err == nil { // else it is not known
		all = append(all,
			vaulthttp.Gauge{Name: "disk_free_bytes", Help: "room in the file system of the data directory", Value: float64(free)},
			vaulthttp.Gauge{Name: "disk_bytes", Help: "size of that file system", Value: float64(total)})
	}
	return all, nil
}

func (m *member) raftGauges() []vaulthttp.Gauge {
	stats := m.node.Stats()
	role := m.role(stats)
	voters, others := 0, 0
	for _, other := range m.node.Members() {
		if other.Voter {
			voters++
		} else {
			others++
		}
	}
	label := func(name, value string) []vaulthttp.Label { return []vaulthttp.Label{{Name: name, Value: value}} }
	const members = "members of the cluster, as this node knows it"
	return []vaulthttp.Gauge{
		{Name: "build_info", Help: "1, with the version of the binary", Labels: label("version", Version), Value: 1},
		{Name: "raft_term", Help: "the term that this node is in", Value: float64(stats.Term)},
		{Name: "raft_commit_index", Help: "highest index that this node knows to be committed", Value: float64(stats.Commit)},
		{Name: "raft_applied_index", Help: "highest index that this node has applied", Value: float64(stats.Applied)},
		{Name: "raft_last_index", Help: "highest index in this node's log", Value: float64(stats.Last)},
		{Name: "raft_leader_known", Help: "whether this node knows a leader", Value: truthValue(stats.Leader.ID != "")},
		{Name: "raft_role", Help: "1, with what this node is in the cluster", Labels: label("role", role), Value: 1},
		{Name: "raft_members", Help: members, Labels: label("kind", "voter"), Value: float64(voters)},
		{Name: "raft_members", Help: members, Labels: label("kind", "non-voter"), Value: float64(others)},
	}
}

// effectGauges tell how it stands with effects on outside systems: those that wait,
// as this node knows it; what was undone, by this node while it led.
func (m *member) effectGauges() []vaulthttp.Gauge {
	counts := m.undoer.Counts()
	all := []vaulthttp.Gauge{
		{Name: "effects_undone_total", Help: "effects of ended leases that this node has undone on outside systems", Counter: true, Value: float64(counts.Undone)},
		{Name: "effects_failed_total", Help: "attempts to undo one that failed", Counter: true, Value: float64(counts.Failed)},
		{Name: "effects_systems_failing", Help: "outside systems on which nothing can be undone at the moment: an alarm", Value: float64(counts.Failing)},
	}
	if waiting, err := m.rooms.Pipeline.Waiting(); err == nil { // else it is not known
		all = append(all, vaulthttp.Gauge{Name: "effects_waiting", Help: "effects of ended leases that wait to be undone", Value: float64(waiting)})
	}
	return all
}

func truthValue(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

func auditGauges(sinks []audit.Status) []vaulthttp.Gauge {
	var all []vaulthttp.Gauge
	for _, s := range sinks {
		add := func(name, help string, counter bool, value float64) {
			all = append(all, vaulthttp.Gauge{Name: "audit_" + name, Help: help, Counter: counter, Value: value,
				Labels: []vaulthttp.Label{{Name: "sink", Value: s.Name}, {Name: "strictness", Value: s.Strictness}}})
		}
		add("sink_up", "whether the sink takes records", false, truthValue(s.State == audit.StateOK))
		add("records_total", "records that the sink has got", true, float64(s.Records))
		add("bytes_total", "their bytes", true, float64(s.Bytes))
		add("failures_total", "groups of records that failed or were late", true, float64(s.Failures))
		add("dropped_total", "records that the sink does not have", true, float64(s.Dropped))
		add("waiting_bytes", "bytes on their way to the sink", false, float64(s.Waiting))
	}
	return all
}

// started is when this process began, as near as it can tell.
var started = time.Now()

func processGauges() []vaulthttp.Gauge {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	value := func(i int) float64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return float64(samples[i].Value.Uint64())
	}
	return []vaulthttp.Gauge{
		{Name: "goroutines", Help: "goroutines of the process", Value: float64(runtime.NumGoroutine())},
		{Name: "heap_bytes", Help: "objects on the heap", Value: value(0)},
		{Name: "memory_bytes", Help: "memory that the Go runtime has mapped", Value: value(1)},
		{Name: "gc_cycles_total", Help: "collections of garbage since the start", Counter: true, Value: value(2)},
		{Name: "start_time_seconds", Help: "when the process started, in seconds since 1970", Value: float64(started.Unix())},
	}
}

// Host implements the Node of transport/http.
func (n *Node) Host(ctx context.Context, c core.Caller) (*vaulthttp.Host, string, error) {
	m, err := n.membership()
	if err != nil {
		return nil, "", err
	}
	id, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/host-info", Capability: policy.CapabilityRead})
	if err != nil {
		return nil, "", err
	}
	host := readHost(os.DirFS("/proc"))
	host.Timestamp = time.Now().UTC()
	if host.Machine.Hostname == "" {
		host.Machine.Hostname, _ = os.Hostname() // it stays empty where the system does not say
	}
	return host, id, nil
}

// readHost takes what the kernel tells from its files (proc(5)). What is not there,
// as on other systems, stays empty.
func readHost(proc fs.FS) *vaulthttp.Host {
	line := func(name string) string {
		text, _ := fs.ReadFile(proc, name)
		first, _, _ := strings.Cut(string(text), "\n")
		return first
	}
	host := &vaulthttp.Host{CPU: readCPUs(proc), Memory: readMemory(proc), Machine: vaulthttp.Machine{OS: runtime.GOOS, Arch: runtime.GOARCH,
		Hostname: line("sys/kernel/hostname"), Kernel: line("sys/kernel/osrelease")}}
	uptime, _, _ := strings.Cut(line("uptime"), " ")
	if seconds, err := strconv.ParseFloat(uptime, 64); err == nil {
		host.Machine.Uptime = uint64(seconds)
	}
	return host
}

// pairs walks over "name: value" lines.
func pairs(proc fs.FS, file string, each func(name, value string)) {
	text, err := fs.ReadFile(proc, file)
	if err != nil {
		return
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		each(strings.TrimSpace(name), strings.TrimSpace(value))
	}
}

func readCPUs(proc fs.FS) []vaulthttp.CPU {
	cpus := []vaulthttp.CPU{}
	pairs(proc, "cpuinfo", func(name, value string) {
		if name == "processor" {
			if n, err := strconv.Atoi(value); err == nil {
				cpus = append(cpus, vaulthttp.CPU{Number: n})
			}
		}
		if len(cpus) == 0 {
			return
		}
		last := &cpus[len(cpus)-1]
		switch name {
		case "model name":
			last.Model = value
		case "cpu MHz":
			if mhz, err := strconv.ParseFloat(value, 64); err == nil {
				last.MHz = mhz
			}
		}
	})
	return cpus
}

func readMemory(proc fs.FS) (m vaulthttp.Memory) {
	into := map[string]*uint64{"MemTotal": &m.Total, "MemAvailable": &m.Available, "MemFree": &m.Free}
	pairs(proc, "meminfo", func(name, value string) {
		number, isKiB := strings.CutSuffix(value, " kB")
		if to := into[name]; to != nil && isKiB {
			if kib, err := strconv.ParseUint(number, 10, 64); err == nil {
				*to = kib << 10
			}
		}
	})
	return m
}
