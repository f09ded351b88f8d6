package testforeign

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// cleanUp ends, after the test, whatever the test has made and left in the cluster,
// so that a transcript, which has fixed names, can be played again.
func cleanUp(t *testing.T) {
	t.Helper()
	before := footprint(t)
	t.Cleanup(func() {
		for path := range footprint(t) {
			if before[path] {
				continue
			}
			if a, err := asRoot(t, http.MethodDelete, path); err != nil || a.code != http.StatusNoContent {
				t.Errorf("deleting %s: %+v, %v", path, a, err)
			}
		}
	})
}

// footprint is what there is in the cluster, as paths to delete.
func footprint(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for _, kind := range []string{"sys/mounts", "sys/auth"} {
		var table struct{ Data map[string]any }
		ask(t, http.MethodGet, kind, &table)
		for path := range table.Data {
			there[kind+"/"+strings.TrimSuffix(path, "/")] = true
		}
	}
	for _, directory := range []string{"sys/policies/acl", "auth/token/roles", "secret/metadata"} {
		walk(t, directory, there)
	}
	return there
}

// walk notes the paths below a directory.
func walk(t *testing.T, directory string, there map[string]bool) {
	t.Helper()
	var list struct{ Data struct{ Keys []string } }
	ask(t, "LIST", directory, &list)
	for _, name := range list.Data.Keys {
		if inner, deeper := strings.CutSuffix(name, "/"); deeper {
			walk(t, directory+"/"+inner, there)
			continue
		}
		there[directory+"/"+name] = true
	}
}

// ask reads an answer into v; there may be nothing to read.
func ask(t *testing.T, method, path string, v any) {
	t.Helper()
	a, err := asRoot(t, method, path)
	if err == nil && a.code == http.StatusNotFound {
		return
	}
	if err == nil && a.code != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, a.code, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func asRoot(t *testing.T, method, path string) (*answer, error) {
	// The test is over when it is cleaned up after, and its context with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	return send(ctx, cluster.Nodes[0], method, "/v1/"+path, map[string]string{"X-Vault-Token": rootToken(t)}, "")
}
