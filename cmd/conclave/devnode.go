package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Bounds of stopping a node: it is asked, and after a while killed.
const (
	politeStop = 12 * time.Second
	rudeStop   = 5 * time.Second
)

// A devNode is one child process that runs a node.
type devNode struct {
	name    string // node-1, …
	ports   devPorts
	dataDir string
	logPath string
	logKept bool // the log outlives us

	log     *os.File
	process *exec.Cmd     // nil until started
	exited  chan struct{} // closed after the process ended; exitErr is set then
	exitErr error
}

func newDevNode(home *devHome, index int, ports devPorts) *devNode {
	name := fmt.Sprintf("node-%d", index+1)
	return &devNode{
		name: name, ports: ports,
		dataDir: filepath.Join(home.dir, name, "data"), logPath: filepath.Join(home.dir, name, "log"), logKept: !home.temporary,
		exited: make(chan struct{}),
	}
}

func (n *devNode) caFile() string { return filepath.Join(n.dataDir, "ca.pem") }

// arguments of the child. promoteAfter is short, because nothing but this
// machine can be unstable here.
func (n *devNode) arguments(joinAddress string) []string {
	args := []string{
		"server", "--data-dir", n.dataDir, "--node-name", n.name,
		"--api-address", n.ports.api(), "--peer-address", n.ports.peer(), "--gossip-address", n.ports.gossip(), "--http-address", n.ports.http(),
		"--raft-promote-after", "100ms",
	}
	if joinAddress != "" {
		args = append(args, "--join", joinAddress)
	}
	return args
}

// A launcher starts children from one thread that lives as long as they may:
// Linux ends them when the thread that started them ends (PR_SET_PDEATHSIG),
// which is how they die with this process even when it is killed. The Go
// runtime may end other threads at any time.
type launcher struct{ requests chan launch }

type launch struct {
	cmd  *exec.Cmd
	done chan error
}

func newLauncher() *launcher {
	l := &launcher{make(chan launch)}
	go func() {
		runtime.LockOSThread()
		for r := range l.requests {
			r.done <- r.cmd.Start()
		}
	}()
	return l
}

func (l *launcher) start(cmd *exec.Cmd) error {
	r := launch{cmd, make(chan error, 1)}
	l.requests <- r
	return <-r.done
}

// start runs the node. The join token travels in the environment, because
// arguments show in process lists.
func (n *devNode) start(l *launcher, joinAddress, joinToken string, alsoTo io.Writer, died chan<- *devNode) error {
	self, err := os.Executable()
	if err != nil {
		return devFailure("finding this program", err, "")
	}
	if err := os.MkdirAll(n.dataDir, 0o700); err != nil {
		return devFailure("making the directory of "+n.name, err, "")
	}
	if n.log, err = os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return devFailure("opening the log of "+n.name, err, "")
	}
	cmd := exec.Command(self, n.arguments(joinAddress)...)
	cmd.Env = childEnvironment(os.Environ(), joinToken)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	if alsoTo != nil {
		both := io.MultiWriter(n.log, &namedLines{name: n.name, to: alsoTo})
		cmd.Stdout, cmd.Stderr = both, both
		cmd.WaitDelay = time.Second
	}
	cmd.SysProcAttr = childAttributes()
	if err := l.start(cmd); err != nil {
		return devFailure("starting "+n.name, err, "")
	}
	n.process = cmd
	go func() {
		n.exitErr = errors.Join(cmd.Wait(), n.log.Close())
		close(n.exited)
		died <- n // has room for every node
	}()
	return nil
}

// childEnvironment is ours without settings of a server, which would win over
// nothing but still confuse, and without the credentials of a client.
func childEnvironment(ours []string, joinToken string) []string {
	var out []string
	for _, v := range ours {
		if !strings.HasPrefix(v, "CONCLAVE_") {
			out = append(out, v)
		}
	}
	if joinToken != "" {
		out = append(out, "CONCLAVE_JOIN_TOKEN="+joinToken)
	}
	return out
}

func (n *devNode) running() bool {
	select {
	case <-n.exited:
		return false
	default:
		return n.process != nil
	}
}

// stop asks the process to end and kills it when it does not.
func (n *devNode) stop() error {
	if n.process == nil {
		if n.log != nil {
			return n.log.Close()
		}
		return nil
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, politeStop}, {syscall.SIGKILL, rudeStop}} {
		if err := n.process.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return devFailure("stopping "+n.name, err, "")
		}
		select {
		case <-n.exited:
			return nil
		case <-time.After(step.wait):
		}
	}
	return devFailure("stopping "+n.name, errors.New("the process does not end"), fmt.Sprintf("Look at process %d.", n.process.Process.Pid))
}

// failure tells what became of a node, with what its log says of that.
func (n *devNode) failure(what string) error {
	text := n.name + " " + what
	if !n.running() && n.exitErr != nil {
		text += " (" + n.exitErr.Error() + ")"
	}
	if told := lastWords(lastBytes(n.logPath)); len(told) > 0 {
		text += "; its log ends with:\n" + strings.Join(told, "\n")
	}
	hint := "With --dir DIR the logs of the nodes are kept; with --verbose they are shown."
	if n.logKept {
		hint = "Its whole log is " + n.logPath + "."
	}
	return &failure{exitServer, errors.New(text), hint}
}
