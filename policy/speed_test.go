package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// rules200 is one large team's access: 200 rules of every shape, many of which
// share long prefixes and the place of their first wildcard.
func rules200(t testing.TB) *ACL {
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "path \"secret/data/team%d/app\" { capabilities = [\"read\"] }\n", i)
		fmt.Fprintf(&text, "path \"secret/data/team%d/*\" { capabilities = [\"read\", \"list\"] }\n", i)
		fmt.Fprintf(&text, "path \"secret/+/app%d/*\" { capabilities = [\"update\"] }\n", i)
		fmt.Fprintf(&text, "path \"secret/+/+/config%d\" { capabilities = [\"update\"] }\n", i)
		fmt.Fprintf(&text, "path \"secret/metadata/+/deep/+/end%d\" { capabilities = [\"list\"] }\n", i)
	}
	text.WriteString(`path "wrapped" { capabilities = ["update"] min_wrapping_ttl = 1 max_wrapping_ttl = 60 required_reason = true }
path "ticket" { capabilities = ["read"] required_reason_pattern = "[A-Z]+-[0-9]+" }
path "denied/*" { capabilities = ["deny"] }`)
	p, err := Parse("team", text.String())
	if err != nil {
		t.Fatal(err)
	}
	return Compile(p)
}

var speedRequests = map[string]struct {
	req  Request
	want Verdict
}{
	"exact":    {Request{Path: "secret/data/team7/app", Capability: CapabilityRead}, Granted},
	"glob":     {Request{Path: "secret/data/team7/other/thing", Capability: CapabilityRead}, Granted},
	"plus":     {Request{Path: "secret/x/app39/thing", Capability: CapabilityUpdate}, Granted},
	"two plus": {Request{Path: "secret/metadata/x/deep/y/end39", Capability: CapabilityList}, Granted},
	"list":     {Request{Path: "secret/data/team39/dir/", Capability: CapabilityList}, Granted},
	"slash":    {Request{Path: "/secret/data/team7/app", Capability: CapabilityRead}, Granted},
	"missing":  {Request{Path: "secret/data/team7/app", Capability: CapabilityUpdate}, CapabilityMissing},
	"denied":   {Request{Path: "denied/x", Capability: CapabilityUpdate}, Denied},
	"no rule":  {Request{Path: "secret/metadata/x/deep/y/end40", Capability: CapabilityUpdate}, NoRule},
	"wrapped":  {Request{Path: "wrapped", Capability: CapabilityUpdate, Wrapped: true, WrapTTL: time.Minute, Reason: "x"}, Granted},
	"ticket":   {Request{Path: "ticket", Capability: CapabilityRead, Reason: "OPS-17"}, Granted},
}

// TestDecideDoesNotAllocate holds the promise of ACL's comment for every shape
// of rule.
func TestDecideDoesNotAllocate(t *testing.T) {
	acl := rules200(t)
	for name, c := range speedRequests {
		t.Run(name, func(t *testing.T) {
			if got := acl.Decide(c.req); got.Why != c.want {
				t.Fatalf("got %v, want %v", got.Why, c.want)
			}
			if raceEnabled {
				t.Skip("the race detector allocates")
			}
			if n := testing.AllocsPerRun(1000, func() { acl.Decide(c.req) }); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

// TestDecideTakesLessThanTwoMicroseconds takes the best of many short rounds, so
// that a busy machine does not matter.
func TestDecideTakesLessThanTwoMicroseconds(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector slows everything")
	}
	acl := rules200(t)
	for name, c := range speedRequests {
		best := time.Hour
		for range 50 {
			start := time.Now()
			for range 200 {
				acl.Decide(c.req)
			}
			best = min(best, time.Since(start)/200)
		}
		if best > 2*time.Microsecond {
			t.Errorf("%s takes %v, want at most 2µs", name, best)
		}
	}
}

func BenchmarkDecide200Rules(b *testing.B) {
	acl := rules200(b)
	for name, c := range speedRequests {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				acl.Decide(c.req)
			}
		})
	}
}

// TestDecideIsBoundedForHostilePatterns: patterns that share every prefix with
// and without + are the worst that a full policy can hold; a decision among all
// of them stays far below a millisecond.
func TestDecideIsBoundedForHostilePatterns(t *testing.T) {
	var text strings.Builder
	for i := range MaxRules {
		segments := make([]string, 12)
		for j := range segments {
			segments[j] = "a"
			if i>>j&1 == 1 {
				segments[j] = "+"
			}
		}
		fmt.Fprintf(&text, "path %q {}\n", strings.Join(segments, "/"))
	}
	p, err := Parse("hostile", text.String())
	if err != nil {
		t.Fatal(err)
	}
	acl := Compile(p)
	path := strings.Repeat("a/", 11) + "b"
	if got, want := acl.Decide(Request{Path: path, Capability: CapabilityRead}).Pattern, strings.Repeat("a/", 11)+"+"; got != want {
		t.Fatalf("decided by %q, want %q", got, want)
	}
	best := time.Hour
	for range 20 {
		start := time.Now()
		acl.Decide(Request{Path: path + "/c", Capability: CapabilityRead})
		best = min(best, time.Since(start))
	}
	if best > 5*time.Millisecond && !raceEnabled {
		t.Errorf("a decision takes %v", best)
	}
}
