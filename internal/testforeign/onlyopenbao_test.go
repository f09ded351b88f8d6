package testforeign

import (
	"fmt"
	"slices"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"
)

// Calls that only the other client has.
func TestOpenBaoOnly(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	mount, old := unique(t), unique(t)
	done(t, h.sys().Mount(mount, &bao.MountInput{Type: "kv-v2", Description: "mine"}))
	done(t, h.sys().Mount(old, &bao.MountInput{Type: "kv-v1"}))
	if m := need[*bao.MountOutput](t)(did(t, h.sys().MountInfo)(mount)); m.Type != "kv" || m.Description != "mine" || m.Options["version"] != "2" {
		t.Errorf("mounted %+v", m)
	}
	for _, path := range []string{"dir/a", "dir/b", "dir/deep/c"} {
		need[*bao.KVSecret](t)(h.kv2(mount).Put(ctx, path, map[string]any{"k": "v"}))
		done(t, h.kv1(old).Put(ctx, path, map[string]any{"k": "v"}))
	}
	want := []string{"a", "b", "deep/"}
	if list := need[*bao.KVList](t)(did(t, h.kv1(old).List)(ctx, "dir")); !slices.Equal(list.Keys, want) {
		t.Errorf("listed %v", list.Keys)
	}
	if list := need[*bao.KVList](t)(did(t, h.kv2(mount).List)(ctx, "dir")); !slices.Equal(list.Keys, want) {
		t.Errorf("listed %v", list.Keys)
	}
	done(t, h.kv2(mount).PutMetadata(ctx, "dir/a", bao.KVMetadataPutInput{MaxVersions: 7, DeleteVersionAfter: time.Hour}))
	list := need[*bao.KVList](t)(did(t, h.kv2(mount).ListWithDetails)(ctx, "dir"))
	if m := list.Metadata["a"]; !slices.Equal(list.Keys, want) || m == nil || m.MaxVersions != 7 || m.CurrentVersion != 1 || m.DeleteVersionAfter != time.Hour {
		t.Errorf("listed %v with %+v", list.Keys, list.Metadata)
	}
	if list := need[*bao.KVList](t)(h.kv2(mount).List(ctx, "none")); list != nil {
		t.Errorf("an empty directory lists %v", list.Keys)
	}
	before := need[*bao.KeyStatus](t)(h.sys().KeyStatus())
	done(t, did(t, h.sys().RotateKeyring)())
	if after := need[*bao.KeyStatus](t)(h.sys().KeyStatus()); after.Term != before.Term+1 {
		t.Errorf("key %+v after %+v", after, before)
	}
}

// A client that asks for strong consistency sends the mark of its last answer to
// whatever node it asks next, and what to do there meanwhile.
func TestOpenBaoOnlyStrongConsistency(t *testing.T) {
	h, path := newBaoHand(t), "secret/data/"+unique(t)
	var sent []string
	c := newBaoClient(t, cluster.Nodes[0], rootToken(t), func(config *bao.Config) { config.DefaultStrongConsistency = true })
	c = c.WithRequestCallbacks(func(r *bao.Request) { sent = r.Headers.Values(bao.IndexHeaderName) })
	for i, behaviour := range [][]string{nil, {bao.IndexInconsistentFail}, {bao.IndexInconsistentForward}, {bao.IndexInconsistentAwait, bao.IndexInconsistentForward}} {
		if behaviour != nil {
			did(t, c.SetInconsistent)(behaviour...)
		}
		done(t, c.SetAddress(h.nodes[i%3].Address()))
		need[*bao.Secret](t)(c.Logical().Write(path, map[string]any{"data": map[string]any{"n": i}}))
		done(t, c.SetAddress(h.nodes[(i+1)%3].Address()))
		s := need[*bao.Secret](t)(c.Logical().Read(path))
		if inner, _ := s.Data["data"].(map[string]any); number(inner["n"]) != fmt.Sprint(i) || len(sent) != 1 {
			t.Fatalf("wrote %d and read %v, having sent %d marks", i, inner, len(sent))
		}
	}
}
