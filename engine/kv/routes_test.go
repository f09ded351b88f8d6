package kv

import (
	"errors"
	"testing"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

var version2 = map[string]string{"version": "2"}

// stockRoutes is stock with demands of the mount, and fields of every kind.
func stockRoutes(t testing.TB, store *enginetest.Store) {
	stock(t, store)
	write := func(path, body string) {
		t.Helper()
		if err := enginetest.Answer(store, Backend{}, enginetest.RouteOptions{Options: version2},
			enginetest.Asking(engine.VerbWrite, path, body)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	write("data/deep", `{"data":{"o":{"a":{"b":1},"c":"x"},"n":12345678901234567890,"s":"t","e":{}}}`)
	write("config", `{"max_versions":4,"delete_version_after":"10h"}`)
	write("metadata/limited", `{"max_versions":2}`)
	write("data/limited", `{"data":{"a":1}}`)
}

func v2Asks() []enginetest.Ask {
	read, write, patch, del, list := engine.VerbRead, engine.VerbWrite, engine.VerbPatch, engine.VerbDelete, engine.VerbList
	return []enginetest.Ask{
		enginetest.Asking(read, "config", ""),
		enginetest.Asking(write, "config", `{"max_versions":"3","cas_required":"true","delete_version_after":"1h"}`),
		enginetest.Asking(read, "data/a/b?version=1", ""),
		enginetest.Asking(read, "data/a/b?version=2", ""),
		enginetest.Asking(read, "data/deep", ""),
		enginetest.Asking(read, "data/none", ""),
		enginetest.Asking(write, "data/a/b", `{"data":{"k":"v","n":1},"options":{"cas":4}}`),
		enginetest.Asking(write, "data/limited", `{"data":{"k":{}}}`),
		enginetest.Asking(write, "data/new/one", `{"data":{"k":"v"},"options":{"cas":"0"}}`),
		enginetest.Asking(write, "data/cas", `{"data":{"k":"v"}}`),
		enginetest.Asking(patch, "data/deep", `{"data":{"o":{"a":null,"d":[1]},"n":null,"s":{"x":null,"y":2}},"options":{"cas":1}}`),
		enginetest.Asking(patch, "data/none", `{"data":{"k":"v"}}`),
		enginetest.Asking(del, "data/a/b", ""),
		enginetest.Asking(del, "data/none", ""),
		enginetest.Asking(write, "delete/a/b", `{"versions":[1,2,9]}`),
		enginetest.Asking(write, "undelete/a/b", `{"versions":["2",3]}`),
		enginetest.Asking(write, "destroy/a/b", `{"versions":"1,4"}`),
		enginetest.Asking(read, "metadata/a/b", ""),
		enginetest.Asking(read, "metadata/limited", ""),
		enginetest.Asking(write, "metadata/a/b", `{"max_versions":5,"cas_required":true,"delete_version_after":"30m","custom_metadata":{"a":"b"}}`),
		enginetest.Asking(write, "metadata/new", `{}`),
		enginetest.Asking(patch, "metadata/a/b", `{"custom_metadata":{"owner":null,"x":"y"},"max_versions":null}`),
		enginetest.Asking(del, "metadata/limited", ""),
		enginetest.Asking(list, "metadata/a?after=a&limit=1", ""),
		enginetest.Asking(list, "metadata", ""),
		enginetest.Asking(list, "metadata/none", ""),
		enginetest.Asking(list, "detailed-metadata", ""),
		enginetest.Asking(list, "detailed-metadata/a?limit=5", ""),
		enginetest.Asking(write, "metadata/cas", `{"cas_required":false}`),
		enginetest.Asking(read, "subkeys/deep?depth=2&version=1", ""),
		enginetest.Asking(read, "subkeys/a/b?version=3", ""),
		enginetest.Asking(read, "app/db", ""),
		enginetest.Asking(write, "app/db", `{"a":"b"}`),
		enginetest.Asking(list, "", ""),
		enginetest.Asking(del, "x", ""),
	}
}

func v1Asks() []enginetest.Ask {
	return []enginetest.Ask{
		enginetest.Asking(engine.VerbRead, "a/b", ""),
		enginetest.Asking(engine.VerbRead, "deep", ""),
		enginetest.Asking(engine.VerbRead, "none", ""),
		enginetest.Asking(engine.VerbWrite, "a/b", `{"k":"v","ttl":"1h"}`),
		enginetest.Asking(engine.VerbWrite, "new", `{"k":[1,2]}`),
		enginetest.Asking(engine.VerbDelete, "a/b", ""),
		enginetest.Asking(engine.VerbDelete, "none", ""),
		enginetest.Asking(engine.VerbList, "a", ""),
		enginetest.Asking(engine.VerbList, "", ""),
	}
}

func small() Backend { return Backend{Engine: &Engine{MaxValueBytes: 64 << 10}} }

// The routes of both versions keep the contract of a route.
func TestRoutes(t *testing.T) {
	t.Run("2", func(t *testing.T) {
		enginetest.TestRoutes(t, small(), enginetest.RouteOptions{Prepare: stockRoutes, Options: version2}, v2Asks()...)
	})
	t.Run("1", func(t *testing.T) {
		enginetest.TestRoutes(t, small(), enginetest.RouteOptions{Prepare: stockRoutes}, v1Asks()...)
	})
}

func FuzzRoutesOfVersion2(f *testing.F) {
	enginetest.FuzzRoutes(f, small(), enginetest.RouteOptions{Prepare: stockRoutes, Options: version2}, v2Asks()...)
}

func FuzzRoutesOfVersion1(f *testing.F) {
	enginetest.FuzzRoutes(f, small(), enginetest.RouteOptions{Prepare: stockRoutes}, v1Asks()...)
}

// The numbered behaviours that Vault's clients rely on, each a story of its own.
func TestTranscripts(t *testing.T) {
	enginetest.TestTranscripts(t, Backend{}, "testdata/*.txt")
}

// A mount has version 1 or 2; anything else is refused with what would be right.
func TestVersions(t *testing.T) {
	for option, want := range map[string]int{"": 4, "1": 4, "2": len(v2{&Engine{}}.routes())} {
		routes, err := Backend{}.Routes(map[string]string{"version": option})
		if err != nil || len(routes) != want {
			t.Errorf("version %q: %d routes, %v; want %d", option, len(routes), err, want)
		}
	}
	if routes, err := (Backend{}).Routes(nil); err != nil || len(routes) != 4 {
		t.Errorf("without options: %d routes, %v", len(routes), err)
	}
	for _, bad := range []string{"0", "3", "v2", "2.0", " 2"} {
		var invalid *engine.InvalidError
		if _, err := (Backend{}).Routes(map[string]string{"version": bad}); !errors.As(err, &invalid) {
			t.Errorf("version %q: got %v, want an InvalidError", bad, err)
		}
	}
}
