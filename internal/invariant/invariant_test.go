package invariant_test

import (
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/invariant"
)

// A broken invariant panics with its numbers exactly in the builds that check.
func TestCheck(t *testing.T) {
	invariant.Check(true, "never shown")
	defer func() {
		r := recover()
		if (r != nil) != invariant.Enabled {
			t.Fatalf("recovered %v with Enabled=%v", r, invariant.Enabled)
		}
		if r != nil && !strings.Contains(r.(string), "index 7") {
			t.Errorf("message %q does not carry the number", r)
		}
	}()
	invariant.Check(false, "applied index %d went back", 7)
}
