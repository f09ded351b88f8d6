package deptest

import (
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

//go:embed layers.txt
var layers string

const module = "github.com/conclave-secrets/conclave"

// Every package of the module keeps to layers.txt.
func TestLayers(t *testing.T) {
	rules, err := Parse(layers)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, wrong := range rules.Check(within(p.ImportPath)[0], within(p.Imports...), within(p.Deps...)) {
			t.Error(wrong)
		}
	}
	if seen < 20 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

// within keeps the paths of this module, without its name.
func within(paths ...string) []string {
	var own []string
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			own = append(own, rest)
		}
	}
	return own
}

// The rules refuse what they should: a test of the test.
func TestRulesRefuse(t *testing.T) {
	rules, err := Parse(layers)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pkg     string
		imports []string
		wrong   bool
	}{
		{"seal", []string{"fsm"}, false},
		{"seal", []string{"cluster"}, true},
		{"core", []string{"seal", "engine"}, false},
		{"core", []string{"transport/grpc"}, true},
		{"core", []string{"cluster"}, true},
		{"cluster", []string{"core"}, true},
		{"engine/kv", []string{"fsm"}, true},
		{"client", []string{"core"}, true},
		{"fsm", []string{"storage/raftlog"}, true},
		{"nowhere", nil, true},
	} {
		if got := rules.Check(c.pkg, c.imports, c.imports); (len(got) > 0) != c.wrong {
			t.Errorf("%s importing %v: got %q, want wrong=%v", c.pkg, c.imports, got, c.wrong)
		}
	}
}
