package testforeign

import (
	"os/exec"
	"testing"
)

//go:generate go run alike.go

// What is driven with one client is driven with the other in the same way.
func TestTheHandsAreAlike(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "go", "run", "alike.go", "-check").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
