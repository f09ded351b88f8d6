package bubble_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// An ordinary program has virtual time in a bubble.
func TestBubble(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	program := t.TempDir() + "/main.go"
	source := `package main

import (
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
)

func main() {
	real := time.Now()
	var virtual time.Duration
	bubble.Main(func(in bubble.Runner) {
		for seed := range uint64(3) {
			in(seed, func() {
				began := time.Now()
				time.Sleep(24 * time.Hour)
				virtual += time.Since(began)
			})
		}
		fmt.Println(virtual, time.Since(real) < time.Hour)
	})
}
`
	if err := os.WriteFile(program, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", program).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "72h0m0s true") {
		t.Errorf("%v: %s", err, out)
	}
}
