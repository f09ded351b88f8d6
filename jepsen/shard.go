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
	Mutant             string // planted in all of them, until one is caught; the rest does not matter then
}

// A verdict is what a child tells of one seed.
type verdict struct {
	Seed        uint64
	Fingerprint string
	Counts      sim.Counts
	Wrong       []string
	Searched    int    // requests that porcupine searched to the end
	Folder      string // of its page
}

const (
	beginMark   = "simulating seed "
	verdictMark = "verdict "
)

// runShard is the child's side; it ends the process.
func runShard(args []string) {
	var s shard
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "jepsen:", shardCommand, "is for this program itself")
		os.Exit(exitUsage)
	}
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(exitUsage)
	}
	bubble.Main(func(in bubble.Runner) {
		if s.Mutant != "" {
			v, err := s.hunt(in)
			check(err)
			check(tell(v))
			return
		}
		for i := range s.Count {
			seed := s.First + i*s.Step
			fmt.Println(beginMark, seed)
			v, err := s.simulate(in, seed)
			check(err)
			check(tell(v))
		}
	})
}

// check ends a child that cannot do its work.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "jepsen:", err)
		os.Exit(exitUsage)
	}
}

// hunt runs seeds with the mutant planted until one of them is caught.
func (s *shard) hunt(in bubble.Runner) (*verdict, error) {
	fmt.Println(beginMark, s.First)
	seeds, caught, err := sim.RunMutant(in, s.Mutant, s.First, int(s.Count))
	v := &verdict{Seed: s.First, Counts: sim.Counts{Seeds: seeds}}
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
	run.Commit, run.Machine, run.Replay, run.Started = s.Commit, machine(), replayLine(o), time.Now()
	if run.Options, err = json.Marshal(o); err != nil {
		return nil, err
	}
	sum := report.Summarise(run)
	v := &verdict{Seed: seed, Fingerprint: result.Fingerprint, Counts: result.Counts, Wrong: sum.Found, Searched: sum.Searched}
	if s.Keep != "" && (s.KeepAll || len(v.Wrong) > 0) {
		v.Folder, err = report.Publish(s.Keep, run, sum, nil)
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
// finding about the seed that it was at.
func (s shard) start(ctx context.Context, hear func(*verdict)) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	task, err := json.Marshal(s)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, shardCommand, string(task))
	cmd.Env = append(os.Environ(), bubble.Environment()...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr tail
	cmd.Stderr = &stderr
	if s.Trace {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	begun, rest := listen(out, hear)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == exitUsage:
		return errors.New(strings.TrimSpace(strings.TrimPrefix(string(stderr), "jepsen: ")))
	}
	var seed uint64
	if _, err := fmt.Sscan(begun, &seed); err != nil {
		return fmt.Errorf("a shard ended before its first seed: %s", stderr)
	}
	hear(&verdict{Seed: seed, Wrong: []string{fmt.Sprintf("the process ended: %v\n%s\n%s", err, rest, stderr)}})
	return nil
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
