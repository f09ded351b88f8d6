package core_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/auth/approle"
	"github.com/conclave-secrets/conclave/auth/jwt"
	"github.com/conclave-secrets/conclave/auth/userpass"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/cubbyhole"
	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/engine/database/postgresql"
	"github.com/conclave-secrets/conclave/engine/kv"
)

var updateRights = flag.Bool("update-rights", false, "write testdata/rights.txt anew")

// carried are the mounts of everything that this release carries.
var carried = []struct {
	path    string
	backend engine.Backend
	options map[string]string
}{
	{"sys/", sys.Backend{}, nil},
	{"auth/token/", sys.Tokens{}, nil},
	{"auth/approle/", approle.Backend{}, nil},
	{"auth/jwt/", jwt.New(time.Now), nil},
	{"auth/userpass/", userpass.New(), nil},
	{"cubbyhole/", cubbyhole.Backend{}, nil},
	{"database/", database.New(postgresql.Plugin{}), nil},
	{"kv1/", kv.Backend{}, map[string]string{"version": "1"}},
	{"secret/", kv.Backend{}, map[string]string{"version": "2"}},
}

// Which right each route demands stands in a file, so that a change of rights shows
// in review: path, capability, and what there is beside it.
func TestRights(t *testing.T) {
	var lines []string
	for _, m := range carried {
		routes, err := m.backend.Routes(m.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if !r.Stray {
				lines = append(lines, fmt.Sprintf("%-60s %s", m.path+r.Path, rightsOf(r)))
			}
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "rights.txt")
	if *updateRights {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	before := strings.Split(string(want), "\n")
	for _, line := range lines {
		if !slices.Contains(before, line) {
			t.Errorf("now:    %s", line)
		}
	}
	for _, line := range before {
		if line != "" && !slices.Contains(lines, line) {
			t.Errorf("before: %s", line)
		}
	}
	t.Error("the rights have changed; if that is meant: go test ./core -run TestRights -update-rights")
}

func rightsOf(r engine.Route) string {
	need := map[engine.Verb]string{engine.VerbRead: "read", engine.VerbList: "list", engine.VerbWrite: "update", engine.VerbPatch: "patch", engine.VerbDelete: "delete"}[r.Verb]
	if r.TellsCreation() {
		need = "create or update"
	}
	if r.Sudo {
		need += ", sudo"
	}
	if r.Open {
		need = r.Verb.String() + " without a token"
	}
	return need
}

// What Vault protects as root's takes sudo here, too.
func TestRootProtected(t *testing.T) {
	sudo := map[string]bool{}
	for _, m := range carried {
		routes, err := m.backend.Routes(m.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			sudo[r.Verb.String()+" "+m.path+r.Path] = r.Sudo
		}
	}
	for _, protected := range []string{
		"list auth/token/accessors", "write auth/token/revoke-orphan", "write auth/token/tidy", "read sys/audit", "write sys/audit/{path...}", "delete sys/audit/{path...}",
		"write sys/auth/{path...}", "delete sys/auth/{path...}", "write sys/auth/{path...}/tune", "read sys/auth/{path...}/tune",
		"list sys/leases/lookup/{prefix*}", "write sys/leases/revoke-prefix/{prefix...}", "write sys/leases/revoke-force/{prefix...}", "write sys/revoke-prefix/{prefix...}",
		"write sys/revoke-force/{prefix...}", "write sys/leases/tidy", "write sys/remount", "write sys/rotate", "write sys/rotate/keyring", "write sys/rotate/config",
	} {
		if needs, there := sudo[protected]; !there || !needs {
			t.Errorf("%s: there %v, needs sudo %v", protected, there, needs)
		}
	}
}
