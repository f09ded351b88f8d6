package testforeign

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"
)

// Calls that only the one client has.
func TestVaultOnly(t *testing.T) {
	h := newVaultHand(t)
	name := unique(t)
	done(t, h.sys().EnableAuth(name, "userpass", "people"))
	m := need[*vault.AuthMount](t)(did(t, h.sys().GetAuth)(name))
	if m.Type != "userpass" || m.Description != "people" || m.Accessor == "" || m.Config.TokenType != "default-service" {
		t.Errorf("enabled %+v", m)
	}
	done(t, h.sys().DisableAuth(name))
	_, err := h.sys().GetAuth(name)
	denied(t, h, err, http.StatusBadRequest, "No auth engine at")
	mounted := need[*vault.MountOutput](t)(did(t, h.sys().GetMount)("secret"))
	if mounted.Type != "kv" || mounted.Options["version"] != "2" || mounted.Config.DefaultLeaseTTL != 0 {
		t.Errorf("mounted %+v", mounted)
	}
	made := need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}}))
	got := need[[]string](t)(did(t, h.sys().CapabilitiesAccessor)(made.Auth.Accessor, "auth/token/lookup-self"))
	if !slices.Equal(got, []string{"read"}) {
		t.Errorf("capabilities %v", got)
	}
	// The client ends the request before its caller has read the answer, unless it is
	// not to watch the time.
	c := h.client()
	did(t, c.SetClientTimeout)(0)
	resp := need[*vault.Response](t)(did(t, c.Logical().WriteRaw)("secret/data/"+name, []byte(`{"data": {"k": "v"}}`)))
	s := need[*vault.Secret](t)(h.logical().ParseRawResponseAndCloseBody(resp, nil))
	if number(s.Data["version"]) != "1" || s.MountType != "kv" {
		t.Errorf("written %+v", s)
	}
}

// A client that reads its own writes sends along what it has seen, to whatever node it
// asks next, and is never shown anything older. It may ask for the active node's word.
func TestVaultOnlyReadsItsWrites(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	var sent []string
	c := newVaultClient(t, cluster.Nodes[0], rootToken(t)).WithResponseCallbacks(func(r *vault.Response) { sent = r.Request.Header.Values(vault.HeaderIndex) })
	did(t, c.SetReadYourWrites)(true)
	if !did(t, c.ReadYourWrites)() {
		t.Error("the client does not mean to")
	}
	for i := range 12 {
		done(t, c.SetAddress(h.nodes[i%3].Address()))
		need[*vault.Secret](t)(c.Logical().Write(path, map[string]any{"data": map[string]any{"n": i}}))
		done(t, c.SetAddress(h.nodes[(i+1)%3].Address()))
		s := need[*vault.Secret](t)(c.Logical().Read(path))
		if inner, _ := s.Data["data"].(map[string]any); number(inner["n"]) != fmt.Sprint(i) || len(sent) == 0 {
			t.Fatalf("wrote %d and read %v, having sent %d marks", i, inner, len(sent))
		}
	}
	merged := vault.MergeReplicationStates(sent, sent[0])
	for _, callback := range []vault.RequestCallback{vault.ForwardInconsistent(), vault.ForwardAlways()} {
		c := h.client().WithRequestCallbacks(vault.RequireState(merged...), callback)
		need[*vault.Secret](t)(c.Logical().Read(path))
	}
	// A mark that the cluster did not make is refused, and not waited for.
	c = h.client().WithRequestCallbacks(vault.RequireState(sent[0][:len(sent[0])-8] + "AAAAAAAA"))
	_, err := c.Logical().Read(path)
	denied(t, h, err, http.StatusBadRequest, "X-Vault-Index")
	if err != nil && strings.Contains(err.Error(), sent[0]) {
		t.Error("the refusal repeats the mark")
	}
}
