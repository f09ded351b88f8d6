// Code generated from vault_client_test.go by go generate; DO NOT EDIT.

package testforeign

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	bao "github.com/openbao/openbao/api/v2"
)

//lint:file-ignore SA1019 what a client deprecates it still offers, and people still call

// There is one namespace, the root, by whatever name; another is not found, and what
// is not of a namespace says so.
func TestOpenBaoNamespaces(t *testing.T) {
	h := newBaoHand(t)
	for _, name := range []string{"", "root", "root/"} {
		done(t, baoListing(did(t, h.client().WithNamespace)(name)))
	}
	c := h.client()
	did(t, c.SetNamespace)("nosuch/team")
	if got := did(t, c.Namespace)(); got != "nosuch/team" {
		t.Errorf("the client is in %q", got)
	}
	denied(t, h, baoListing(c), http.StatusNotFound, "namespace not found")
	_, err := c.Sys().SealStatus()
	denied(t, h, err, http.StatusBadRequest, "operation unavailable in namespaces")
	did(t, c.ClearNamespace)()
	done(t, baoListing(c))
}

// baoListing is the error of a call that needs a namespace.
func baoListing(c *bao.Client) error {
	_, err := c.Sys().ListMounts()
	return err
}

// What a client can be set to send with each request is taken, or does no harm.
func TestOpenBaoHeaders(t *testing.T) {
	h := newBaoHand(t)
	c := h.client()
	did(t, c.SetMFACreds)([]string{"method:123456"})
	did(t, c.SetPolicyOverride)(true)
	did(t, c.AddHeader)("X-Conclave-Reason", "TICKET-7")
	done(t, baoListing(c))
	if got := did(t, c.Headers)(); got.Get("X-Vault-Request") != "true" || got.Get("X-Conclave-Reason") != "TICKET-7" {
		t.Errorf("headers %v", got)
	}
	other := need[*bao.Client](t)(did(t, c.CloneWithHeaders)())
	if other.Headers().Get("X-Conclave-Reason") != "TICKET-7" || other.Token() != "" {
		t.Errorf("cloned with %v", other.Headers())
	}
	other.SetToken(rootToken(t))
	done(t, baoListing(other))
	did(t, other.ClearToken)()
	denied(t, h, baoListing(other), http.StatusForbidden, "permission denied")
	// A token may come as what other protocols carry it in.
	did(t, other.SetHeaders)(http.Header{"Authorization": {"Bearer " + rootToken(t)}})
	done(t, baoListing(other))
	did(t, other.SetToken)("hvs.nosuchtokennosuchtoken99")
	denied(t, h, baoListing(other), http.StatusForbidden, "permission denied")
	if did(t, other.Token)() == "" {
		t.Error("the client has forgotten its token")
	}
	plain := need[*bao.Client](t)(did(t, c.Clone)())
	done(t, did(t, plain.SetAddress)(h.nodes[0].Address()))
	did(t, plain.SetClientTimeout)(patience)
	if plain.Headers().Get("X-Conclave-Reason") != "" || did(t, plain.Address)() != h.nodes[0].Address() {
		t.Errorf("cloned %v", plain.Headers())
	}
}

// A client may ask for what it has no words for, see each request and answer, and
// read what a path is for.
func TestOpenBaoRequests(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	asked, answered := "", 0
	c := did(t, h.client().WithRequestCallbacks)(func(r *bao.Request) { asked = r.Method + " " + r.URL.Path })
	c = did(t, c.WithResponseCallbacks)(func(r *bao.Response) { answered = r.StatusCode })
	r := did(t, c.NewRequest)("LIST", "/v1/sys/policies/acl")
	resp := need[*bao.Response](t)(did(t, c.RawRequest)(r))
	var list struct{ Data struct{ Keys []string } }
	done(t, did(t, resp.DecodeJSON)(&list))
	done(t, resp.Body.Close())
	if asked != "LIST /v1/sys/policies/acl" || answered != http.StatusOK || len(list.Data.Keys) < 2 {
		t.Errorf("%q was answered %d: %v", asked, answered, list)
	}
	r = c.NewRequest(http.MethodPost, "/v1/sys/capabilities-self")
	done(t, did(t, r.SetJSONBody)(map[string]any{"paths": []string{"a", "b"}}))
	done(t, did(t, r.ResetJSONBody)())
	resp = need[*bao.Response](t)(c.RawRequest(r))
	text := need[[]byte](t)(io.ReadAll(resp.Body))
	if done(t, resp.Body.Close()); !strings.Contains(string(text), `"a":["root"]`) {
		t.Errorf("answered %s", text)
	}
	resp, err := c.RawRequestWithContext(ctx, c.NewRequest(http.MethodGet, "/v1/nosuch/thing"))
	denied(t, h, err, http.StatusNotFound, "no handler for route")
	if did(t, resp.Error)() == nil {
		t.Error("the answer is no error")
	}
	plain := need[*http.Request](t)(did(t, c.NewRequest(http.MethodGet, "/v1/sys/health").ToHTTP)())
	if plain.URL.Path != "/v1/sys/health" {
		t.Errorf("the request is %v", plain.URL)
	}
	for _, path := range []string{"sys/mounts", "secret/data/any", "auth/token/create"} {
		help := need[*bao.Help](t)(did(t, h.client().Help)(path))
		if help.Help == "" || help.OpenAPI["openapi"] == nil {
			t.Errorf("help for %s: %+v", path, help)
		}
	}
}

// baoLogin is how the clients' own modules for approle and userpass log in: an
// AuthMethod that writes to a path.
type baoLogin struct {
	path     string
	data     map[string]any
	wrapping string // the token that wraps the secret id, if it is not in data
}

func (l baoLogin) Login(ctx context.Context, c *bao.Client) (*bao.Secret, error) {
	data := map[string]any{}
	for name, value := range l.data {
		data[name] = value
	}
	if l.wrapping != "" {
		s, err := c.Logical().UnwrapWithContext(ctx, l.wrapping)
		if err != nil {
			return nil, fmt.Errorf("unwrapping: %w", err)
		}
		data["secret_id"] = s.Data["secret_id"]
	}
	return c.Logical().WriteWithContext(ctx, l.path, data)
}

// Machines and people log in by the client's interface for it, and go on with what
// they were given. Codes of a second factor are taken, and nobody asks for them.
func TestOpenBaoLogin(t *testing.T) {
	h, ctx := newBaoHand(t), t.Context()
	name := unique(t)
	done(t, h.sys().EnableAuth(name+"-machines", "approle", ""))
	done(t, h.sys().EnableAuth(name+"-people", "userpass", ""))
	role := "auth/" + name + "-machines/role/web"
	need[*bao.Secret](t)(h.logical().Write(role, map[string]any{"token_policies": "default", "token_ttl": "20m", "secret_id_num_uses": 1}))
	roleID := need[*bao.Secret](t)(h.logical().Read(role + "/role-id")).Data["role_id"]
	machine := baoLogin{path: "auth/" + name + "-machines/login", data: map[string]any{"role_id": roleID}}

	h.SetWrapTTL("1m")
	machine.wrapping = need[*bao.Secret](t)(h.logical().Write(role+"/secret-id", nil)).WrapInfo.Token
	h.SetWrapTTL("")
	nobody := h.as("").client()
	s := need[*bao.Secret](t)(did(t, nobody.Auth().Login)(ctx, machine))
	if s.Auth.Metadata["role_name"] != "web" || s.Auth.LeaseDuration != 1200 || nobody.Token() != s.Auth.ClientToken {
		t.Errorf("logged in as %+v", s.Auth)
	}
	_, err := h.as("").client().Auth().Login(ctx, machine)
	denied(t, h, err, http.StatusBadRequest, "wrapping token is not valid or does not exist")

	need[*bao.Secret](t)(h.logical().Write("auth/"+name+"-people/users/ann", map[string]any{"password": "correct horse", "token_policies": "default"}))
	person := baoLogin{path: "auth/" + name + "-people/login/ann", data: map[string]any{"password": "correct horse"}}
	nobody = h.as("").client()
	s = need[*bao.Secret](t)(did(t, nobody.Auth().MFALogin)(ctx, person, "method:123456"))
	if s.Auth.Metadata["username"] != "ann" || s.Auth.MFARequirement != nil {
		t.Errorf("logged in as %+v", s.Auth)
	}
	if got := need[*bao.Secret](t)(did(t, nobody.Auth().Token)().LookupSelf()); got.Data["display_name"] != name+"-people-ann" {
		t.Errorf("it is %v", got.Data["display_name"])
	}
	person.data["password"] = "wrong"
	_, err = h.as("").client().Auth().Login(ctx, person)
	denied(t, h, err, http.StatusBadRequest, "invalid username or password")
}
