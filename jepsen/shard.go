package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/report"
	"github.com/conclave-secrets/conclave/jepsen/sim"
)

// Seeds are shared out to child processes of this program, with one processor each,
// because only one goroutine at a time makes a seed repeat. A child is told what to
// do in its arguments, as JSON, and answers on standard output, a line for each seed.

// shardCommand is the first argument of a child.
const shardCommand = "simulate-shard"

// A shard is the work of one child: count seeds from first on, each step apart.
type shard struct {
	First, Step, Count uint64
	Options            sim.Options
	Keep               string // folder for the pages of seeds in which something was wrong; "": none
	KeepAll            bool   // … of all seeds
	Commit             string
	Trace              bool   // what the nodes log goes to standard error
	Batch              string // the folder of the batch that counts them; "": none
	Mutant             string // planted in all of them; the rest does not matter then
}

// next is what is left of s after seed.
func (s shard) next(seed uint64) shard {
	s.Count -= (seed-s.First)/s.Step + 1
	s.First = seed + s.Step
	return s
}

// A verdict is what a child tells of one seed.
type verdict struct {
	Seed        uint64
	Fingerprint string
	Counts      sim.Counts
	Wrong       []string
	Searched    int                 // requests that porcupine searched to the end
	Faults      []report.FaultCount // that were done, and how many of them bit
	Folder      string              // of its page
}

// exitUnable is how a child says that its task cannot be done. It is none of the codes
// with which a process ends that fails while it is at a seed: 1 is a bubble's, 2 is a
// panic's.
const exitUnable = 4

const (
	beginMark   = "simulating seed "
	verdictMark = "verdict "
)

// runShard is the child's side; it ends the process. one runs a seed.
func runShard(args []string, one func(shard, bubble.Runner, uint64) (*verdict, error)) {
	// Who interrupts a terminal means the parent, which ends its children. A child that
	// went first would look like one that died of its seed.
	signal.Ignore(os.Interrupt)
	var s shard
	if len(args) != 1 {
		check(fmt.Errorf("%s is for this program itself", shardCommand))
	}
	check(json.Unmarshal([]byte(args[0]), &s))
	bubble.Main(func(in bubble.Runner) {
		for i := range s.Count {
			seed := s.First + i*s.Step
			fmt.Println(beginMark, seed)
			v, err := one(s, in, seed)
			check(err)
			check(tell(v))
		}
	})
}

// check ends a child that cannot do its work.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(exitUnable)
	}
}

// runSeed runs one seed of a shard.
func runSeed(s shard, in bubble.Runner, seed uint64) (*verdict, error) {
	if s.Mutant != "" {
		return s.hunt(in, seed)
	}
	return s.simulate(in, seed)
}

// hunt runs one seed with the mutant planted.
func (s *shard) hunt(in bubble.Runner, seed uint64) (*verdict, error) {
	seeds, caught, err := sim.RunMutant(in, s.Mutant, seed, 1)
	v := &verdict{Seed: seed, Counts: sim.Counts{Seeds: seeds}}
	if caught != "" {
		v.Wrong = []string{caught}
	}
	return v, err
}

// simulate runs and judges one seed.
func (s *shard) simulate(in bubble.Runner, seed uint64) (*verdict, error) {
	o := s.Options
	o.Seed = seed
	if s.Trace {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	result, err := sim.Run(in, o)
	if err != nil {
		return nil, err
	}
	run := result.Run
	run.Commit, run.Machine, run.Replay, run.Started, run.Batch = s.Commit, machine(), replayLine(o), time.Now(), s.Batch
	if run.Options, err = json.Marshal(o); err != nil {
		return nil, err
	}
	sum := report.Summarise(run)
	v := &verdict{Seed: seed, Fingerprint: result.Fingerprint, Counts: result.Counts, Wrong: sum.Found, Searched: sum.Searched, Faults: sum.Faults}
	if s.Keep != "" && (s.KeepAll || len(v.Wrong) > 0) {
		v.Folder, err = report.Write(s.Keep, run, sum, nil)
	}
	return v, err
}

func tell(v *verdict) error {
	text, err := json.Marshal(v)
	if err == nil {
		fmt.Println(verdictMark + string(text))
	}
	return err
}

// start runs a shard in a child and hands on its verdicts. A child that dies is a
// finding about the seed that it was at, and another child takes the rest.
func (s shard) start(ctx context.Context, hear func(*verdict)) error {
	for s.Count > 0 && ctx.Err() == nil {
		died, err := s.child(ctx, hear)
		if died == nil {
			return err
		}
		hear(died)
		s = s.next(died.Seed)
	}
	return nil
}

// child runs one child until it ends. died is what became of the seed that it was at
// when it died; nil: it did not.
func (s shard) child(ctx context.Context, hear func(*verdict)) (died *verdict, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	task, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, shardCommand, string(task))
	cmd.Env = append(os.Environ(), bubble.Environment()...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr tail
	cmd.Stderr = &stderr
	if s.Trace {
		cmd.Stderr = io.MultiWriter(&stderr, os.Stderr)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	begun, rest := listen(out, hear)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil || ctx.Err() != nil:
		return nil, nil
	case !errors.As(err, &exit):
		return nil, err
	case exit.ExitCode() == exitUnable:
		return nil, errors.New(strings.TrimSpace(strings.TrimPrefix(string(stderr), "jepsen: ")))
	}
	var seed uint64
	if _, err := fmt.Sscan(begun, &seed); err != nil {
		return nil, fmt.Errorf("a shard ended before its first seed: %v: %s", exit, stderr)
	}
	return &verdict{Seed: seed, Counts: sim.Counts{Seeds: 1}, Wrong: []string{lastWords(exit, rest, string(stderr))}}, nil
}

// lastWords tells how a child ended: in the first line what a panic said, if it was
// one, and then the end of its output.
func lastWords(exit error, stdout, stderr string) string {
	what := exit.Error()
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			what = strings.TrimSpace(line)
			break
		}
	}
	return fmt.Sprintf("the process ended: %s\n%s\n%s", what, stdout, stderr)
}

// listen reads a child's output: verdicts, the seed that it is at, and the rest.
func listen(out io.Reader, hear func(*verdict)) (begun, rest string) {
	lines := bufio.NewReader(out)
	var other tail
	for {
		line, err := lines.ReadString('\n')
		if seed, ok := strings.CutPrefix(line, beginMark); ok {
			begun = strings.TrimSpace(seed)
		} else if text, ok := strings.CutPrefix(line, verdictMark); ok {
			v := &verdict{}
			if json.Unmarshal([]byte(text), v) == nil {
				hear(v)
			}
		} else {
			_, _ = other.Write([]byte(line)) // never fails
		}
		if err != nil {
			return begun, string(other)
		}
	}
}

// tail keeps the last of what is written to it.
type tail []byte

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if len(*t) > 2*tailSize {
		*t = append((*t)[:0], (*t)[len(*t)-tailSize:]...)
	}
	return len(p), nil
}
