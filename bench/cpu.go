package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// cpuTimes is the processor time that the nodes and this process have used so
// far. Per operation it says more than throughput does on a machine that others
// use, too.
type cpuTimes struct {
	nodes []time.Duration
	load  time.Duration
}

// clockTick is the unit of /proc/PID/stat: USER_HZ, 100 on every Linux.
const clockTick = 10 * time.Millisecond

func readCPU(cluster *testprocess.Cluster) (t cpuTimes, err error) {
	for _, n := range cluster.Nodes {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
		if err != nil {
			return t, err
		}
		// The name, in parentheses, may hold anything; fields count after it.
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		var user, system int64
		if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
			return t, err
		}
		t.nodes = append(t.nodes, time.Duration(user+system)*clockTick)
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return t, err
	}
	t.load = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return t, nil
}

// since tells what n operations cost each process, in microseconds.
func (t cpuTimes) since(before cpuTimes, n int) string {
	if n == 0 {
		return ""
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	var nodes []string
	var total time.Duration
	for i := range t.nodes {
		d := t.nodes[i] - before.nodes[i]
		total += d
		nodes = append(nodes, fmt.Sprintf("%.0f", per(d)))
	}
	load := t.load - before.load
	return fmt.Sprintf("cpu/op %.0f µs (nodes %s, load %.0f)", per(total+load), strings.Join(nodes, "+"), per(load))
}
