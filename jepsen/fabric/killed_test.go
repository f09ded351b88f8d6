package fabric_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/fabric"
)

// asChild makes this test binary a harness that is about to be killed.
const asChild = "FABRIC_TEST_CHILD"

// Whoever is killed with SIGKILL leaves no process behind, and with the last process
// of a namespace the namespace is gone.
func TestKilledHarnessLeavesNothing(t *testing.T) {
	if os.Getenv(asChild) != "" {
		beChild(t)
		return
	}
	if err := fabric.Available(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestKilledHarnessLeavesNothing$")
	child.Env = append(os.Environ(), asChild+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "sleeper %d", &pid); err != nil {
			pid = 0 // the test's own talk
		}
	}
	if pid == 0 || !runs(pid) {
		t.Errorf("the sleeper with pid %d does not run", pid)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); runs(pid); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("process %d outlives its harness", pid)
		}
	}
}

// beChild starts a process on a host, says its id, and waits to be killed.
func beChild(t *testing.T) {
	f := build(t, 1)
	sleeper := exec.Command("sleep", "300")
	if err := f.Hosts[0].Start(sleeper); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("sleeper %d\n", sleeper.Process.Pid)
	_ = sleeper.Wait()
}

// runs tells whether a process is there and no zombie.
func runs(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	_, after, _ := strings.Cut(string(raw), ") ")
	return err == nil && !strings.HasPrefix(after, "Z")
}
