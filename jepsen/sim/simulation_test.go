package sim_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/sim"
)

var (
	oneSeed = flag.Int64("seed", -1, "simulate this seed only")
	seeds   = flag.Int("seeds", 200, "how many seeds to simulate")
	first   = flag.Int("first", 0, "the first of the seeds")
	trace   = flag.Bool("trace", false, "with -seed: print what the nodes log")
)

// on makes the bubbles of a test.
func on(t *testing.T) bubble.Runner {
	return func(seed uint64, f func()) { bubble.Run(t, seed, f) }
}

// shardVariable tells a child process which seeds are its own: "first step count".
const shardVariable = "CONCLAVE_SIM_SHARD"

// verdict is what a child tells about one seed.
type verdict struct {
	Seed        uint64
	Fingerprint string
	Counts      sim.Counts
	Wrong       string
}

// Whatever goes wrong with messages, processes, clocks and disks: what clients
// saw is linearizable where it claims to be, weaker where it says so, and
// everything acknowledged is there in the end, alike on every node.
//
// The seeds are shared out to child processes with one processor each, because
// only one goroutine at a time makes a seed repeat.
func TestSimulation(t *testing.T) {
	if shard := os.Getenv(shardVariable); shard != "" {
		runShard(t, shard)
		return
	}
	var shards []string
	if *oneSeed >= 0 {
		shards = []string{fmt.Sprintf("%d 1 1", *oneSeed)}
	} else {
		shards = []string{fmt.Sprintf("%d 2 %d", *first, (*seeds+1)/2), fmt.Sprintf("%d 2 %d", *first+1, *seeds/2)}
	}
	var (
		mu  sync.Mutex
		sum sim.Counts
		all sync.WaitGroup
	)
	for _, shard := range shards {
		all.Go(func() {
			runChild(t, shard, func(v verdict) {
				mu.Lock()
				defer mu.Unlock()
				sum.Add(v.Counts)
				if v.Wrong != "" {
					t.Errorf("seed %d: %s\nreplay: go test ./jepsen/sim -run TestSimulation -seed %d", v.Seed, v.Wrong, v.Seed)
				}
			})
		})
	}
	all.Wait()
	t.Log(sum.String())
	if *oneSeed >= 0 {
		return
	}
	if sum.Seeds != *seeds {
		t.Errorf("%d seeds were simulated, want %d", sum.Seeds, *seeds)
	}
	if *seeds >= 100 {
		for _, missing := range sum.Vacuous() {
			t.Errorf("the simulation proves too little: %s", missing)
		}
	}
}

// runChild runs a shard in a process of its own and hands on its verdicts.
func runChild(t *testing.T, shard string, hear func(verdict)) {
	args := []string{"-test.run=^TestSimulation$", "-test.timeout=20m"}
	if *trace {
		args = append(args, "-trace")
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), shardVariable+"="+shard, "GOMAXPROCS=1", "GODEBUG=randseednop=0,asyncpreemptoff=1", "GOGC=400")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	rest, begun := listen(out, hear)
	if err := cmd.Wait(); err != nil {
		t.Errorf("shard %q ended with %v in seed %s\nreplay: go test ./jepsen/sim -run TestSimulation -seed %s\n%s", shard, err, begun, begun, rest)
	} else if *trace {
		t.Log(rest)
	}
}

const (
	beginMark   = "simulating seed "
	verdictMark = "verdict "
)

// listen reads a child's output: verdicts, the seed that it was at last, and
// the end of everything else.
func listen(out io.Reader, hear func(verdict)) (rest, begun string) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	var other []string
	for lines.Scan() {
		line := lines.Text()
		if seed, ok := strings.CutPrefix(line, beginMark); ok {
			begun = seed
			continue
		}
		if text, ok := strings.CutPrefix(line, verdictMark); ok {
			var v verdict
			if err := json.Unmarshal([]byte(text), &v); err == nil {
				hear(v)
				continue
			}
		}
		if other = append(other, line); len(other) > 20_000 {
			other = other[10_000:]
		}
	}
	return strings.Join(other, "\n"), begun
}

// runShard is the child's side.
func runShard(t *testing.T, shard string) {
	var first, step, count uint64
	if _, err := fmt.Sscan(shard, &first, &step, &count); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		seed := first + i*step
		fmt.Println(beginMark + strconv.FormatUint(seed, 10))
		o := sim.Options{Seed: seed}
		if *trace {
			o.Logger = slog.New(slog.NewTextHandler(os.Stdout, nil))
		}
		r, err := sim.Run(on(t), o)
		if err != nil {
			t.Fatal(err)
		}
		v := verdict{Seed: seed, Fingerprint: r.Fingerprint, Counts: r.Counts, Wrong: strings.Join(r.Violations(), "\n")}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(verdictMark + string(text))
	}
}
