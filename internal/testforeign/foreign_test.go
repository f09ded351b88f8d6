package testforeign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
)

// must is the answer of a call that cannot fail.
func must(t *testing.T) func(*secret, error) *secret {
	return func(s *secret, err error) *secret {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// refused checks that a call failed with a status, and with words that clients match.
func refused(t *testing.T, h hand, status int, words string) func(*secret, error) {
	return func(_ *secret, err error) {
		t.Helper()
		if err == nil || h.Status(err) != status || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want status %d and %q", err, status, words)
		}
	}
}

func at(s *secret, path ...string) any {
	if s == nil {
		return nil
	}
	var v any = s.Data
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func number(v any) string {
	n, ok := v.(json.Number)
	if !ok {
		return fmt.Sprintf("%T", v)
	}
	return n.String()
}

// Versions, check-and-set, soft delete, destruction and metadata, each call on
// another node: any node serves, and reads see what was written a moment ago.
func TestVersionedSecrets(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		path := "app/" + unique(t)
		data, metadata := "secret/data/"+path, "secret/metadata/"+path
		if s := must(t)(h.Read(data, nil)); s != nil {
			t.Errorf("a secret that was never written reads as %+v", s)
		}
		s := must(t)(h.Write(data, map[string]any{"data": map[string]any{"k": "v1", "n": json.Number("12345678901234567890")}}))
		if number(at(s, "version")) != "1" || at(s, "deletion_time") != "" || at(s, "destroyed") != false {
			t.Errorf("a write answers %v", s.Data)
		}
		s = must(t)(h.Read(data, nil))
		if at(s, "data", "k") != "v1" || number(at(s, "data", "n")) != "12345678901234567890" {
			t.Errorf("read %v", s.Data)
		}
		refused(t, h, 400, "check-and-set parameter did not match the current version")(
			h.Write(data, map[string]any{"data": map[string]any{"k": "x"}, "options": map[string]any{"cas": 0}}))
		must(t)(h.Write(data, map[string]any{"data": map[string]any{"k": "v2"}, "options": map[string]any{"cas": "1"}}))
		must(t)(h.Patch(data, map[string]any{"data": map[string]any{"more": "x"}}))
		s = must(t)(h.Read(data, nil))
		if number(at(s, "metadata", "version")) != "3" || at(s, "data", "k") != "v2" || at(s, "data", "more") != "x" {
			t.Errorf("after a patch: %v", s.Data)
		}
		s = must(t)(h.Read(data, map[string][]string{"version": {"1"}}))
		if at(s, "data", "k") != "v1" {
			t.Errorf("version 1 reads %v", s.Data)
		}
		must(t)(h.Delete(data))
		s = must(t)(h.Read(data, nil)) // 404 with data, which clients hand on
		if at(s, "data") != nil || at(s, "metadata", "deletion_time") == "" {
			t.Errorf("a deleted version reads %+v", s)
		}
		must(t)(h.Write("secret/undelete/"+path, map[string]any{"versions": []string{"3"}}))
		if s = must(t)(h.Read(data, nil)); at(s, "data", "k") != "v2" {
			t.Errorf("undeleted, it reads %v", s.Data)
		}
		must(t)(h.Write("secret/destroy/"+path, map[string]any{"versions": []int{1}}))
		if s = must(t)(h.Read(data, map[string][]string{"version": {"1"}})); at(s, "metadata", "destroyed") != true {
			t.Errorf("a destroyed version reads %v", s.Data)
		}
		must(t)(h.Write(metadata, map[string]any{"custom_metadata": map[string]any{"owner": "me"}, "max_versions": 5}))
		s = must(t)(h.Read(metadata, nil))
		if at(s, "custom_metadata", "owner") != "me" || number(at(s, "current_version")) != "3" || number(at(s, "max_versions")) != "5" {
			t.Errorf("metadata %v", s.Data)
		}
		s = must(t)(h.List("secret/metadata/app"))
		if keys, _ := at(s, "keys").([]any); !slices.Contains(keys, any(strings.TrimPrefix(path, "app/"))) {
			t.Errorf("listed %v", s.Data)
		}
		must(t)(h.Delete(metadata))
		if s = must(t)(h.Read(metadata, nil)); s != nil {
			t.Errorf("what is gone reads %+v", s)
		}
	})
}

// A token does what its policy says and no more, dies with its parent, and is
// known on every node at once.
func TestTokensAndPolicies(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		root := rootToken(t)
		policy := "p-" + unique(t)
		must(t)(h.Write("sys/policies/acl/"+policy, map[string]any{"policy": `
			path "secret/data/` + policy + `/*" { capabilities = ["create", "read"] }
			path "auth/token/create" { capabilities = ["update"] }`}))
		refused(t, h, 400, "line 1, column")(h.Write("sys/policies/acl/bad", map[string]any{"policy": `path "x" {`}))
		s := must(t)(h.Read("sys/policies/acl/"+policy, nil))
		if text, _ := at(s, "policy").(string); !strings.Contains(text, policy) {
			t.Errorf("policy reads %v", s.Data)
		}

		made := must(t)(h.Write("auth/token/create", map[string]any{"policies": []string{policy}, "ttl": "1h", "meta": map[string]any{"who": "me"}}))
		if made.LeaseDuration != 3600 || !made.Renewable || !slices.Equal(made.Policies, []string{"default", policy}) || len(made.Token) != 28 {
			t.Errorf("made %+v", made)
		}
		h.SetToken(made.Token)
		must(t)(h.Write("secret/data/"+policy+"/a", map[string]any{"data": map[string]any{"k": "v"}}))
		refused(t, h, 403, "permission denied")(h.Write("secret/data/"+policy+"/a", map[string]any{"data": map[string]any{"k": "again"}}))
		refused(t, h, 403, "permission denied")(h.Read("secret/data/elsewhere", nil))
		refused(t, h, 400, "child policies must be subset of parent")(h.Write("auth/token/create", map[string]any{"policies": "root2"}))
		s = must(t)(h.Read("auth/token/lookup-self", nil))
		if at(s, "type") != "service" || at(s, "renewable") != true || at(s, "expire_time") == nil || at(s, "meta", "who") != "me" {
			t.Errorf("lookup-self %v", s.Data)
		}
		renewed := must(t)(h.Write("auth/token/renew-self", map[string]any{"increment": 1800}))
		if renewed.LeaseDuration != 1800 || renewed.Token != made.Token {
			t.Errorf("renewed %+v", renewed)
		}
		child := must(t)(h.Write("auth/token/create", nil))

		h.SetToken(root)
		s = must(t)(h.Write("sys/capabilities", map[string]any{"token": child.Token, "paths": "secret/data/" + policy + "/a,secret/data/x"}))
		if fmt.Sprint(at(s, "secret/data/"+policy+"/a"), at(s, "secret/data/x")) != "[create read] [deny]" {
			t.Errorf("capabilities %v", s.Data)
		}
		must(t)(h.Write("auth/token/revoke-accessor", map[string]any{"accessor": made.Accessor}))
		for _, token := range []string{made.Token, child.Token} {
			h.SetToken(token)
			refused(t, h, 403, "permission denied")(h.Read("auth/token/lookup-self", nil))
		}
		h.SetToken(root)
		refused(t, h, 403, "bad token")(h.Write("auth/token/lookup", map[string]any{"token": child.Token}))
	})
}

// A token of n uses is used n times, whoever uses it where and at once.
func TestUseLimit(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		const uses, tries = 5, 24
		made := must(t)(h.Write("auth/token/create", map[string]any{"num_uses": uses, "policies": "default"}))
		var group sync.WaitGroup
		var mu sync.Mutex
		worked := 0
		for range tries {
			group.Go(func() {
				var own hand
				if _, ok := h.(*vaultHand); ok {
					own = newVaultHand(t)
				} else {
					own = newBaoHand(t)
				}
				own.SetToken(made.Token)
				if _, err := own.Read("auth/token/lookup-self", nil); err == nil {
					mu.Lock()
					defer mu.Unlock()
					worked++
				}
			})
		}
		group.Wait()
		if worked != uses {
			t.Errorf("%d of %d uses worked, want %d", worked, tries, uses)
		}
	})
}

// A wrapped answer has one reader, of many who try at once on all nodes.
func TestWrapping(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		path := "secret/data/wrapped-" + unique(t)
		must(t)(h.Write(path, map[string]any{"data": map[string]any{"k": "v"}}))
		h.SetWrapTTL("60")
		wrapped := must(t)(h.Read(path, nil))
		h.SetWrapTTL("")
		if wrapped.WrapToken == "" || wrapped.WrapPath != path || wrapped.Data != nil {
			t.Fatalf("wrapped %+v", wrapped)
		}
		s := must(t)(h.Write("sys/wrapping/lookup", map[string]any{"token": wrapped.WrapToken}))
		if at(s, "creation_path") != path || number(at(s, "creation_ttl")) != "60" {
			t.Errorf("lookup %v", s.Data)
		}
		var group sync.WaitGroup
		var mu sync.Mutex
		readers := 0
		for range 9 {
			group.Go(func() {
				mu.Lock()
				node := h
				mu.Unlock()
				var own hand
				if _, ok := node.(*vaultHand); ok {
					own = newVaultHand(t)
				} else {
					own = newBaoHand(t)
				}
				s, err := own.Unwrap(wrapped.WrapToken)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && at(s, "data", "k") == "v" {
					readers++
				}
			})
		}
		group.Wait()
		if readers != 1 {
			t.Errorf("%d read a wrapped answer, want 1", readers)
		}
		refused(t, h, 400, "wrapping token is not valid or does not exist")(h.Unwrap(wrapped.WrapToken))
	})
}

// Engines are mounted, tuned, moved and ended.
func TestMounts(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		name := "m-" + unique(t)
		must(t)(h.Write("sys/mounts/"+name, map[string]any{"type": "kv-v2", "description": "mine", "config": map[string]any{"max_lease_ttl": "2h"}}))
		refused(t, h, 400, "path is already in use at "+name+"/")(h.Write("sys/mounts/"+name, map[string]any{"type": "kv"}))
		refused(t, h, 400, "plugin not found in the catalog")(h.Write("sys/mounts/other"+name, map[string]any{"type": "nosuch"}))
		s := must(t)(h.Read("sys/internal/ui/mounts/"+name+"/some/path", nil))
		if at(s, "path") != name+"/" || at(s, "options", "version") != "2" {
			t.Errorf("preflight %v", s.Data)
		}
		s = must(t)(h.Read("sys/mounts", nil))
		if at(s, name+"/", "type") != "kv" {
			t.Errorf("mounts %v", s.Data[name+"/"])
		}
		must(t)(h.Write("sys/mounts/"+name+"/tune", map[string]any{"default_lease_ttl": "1h"}))
		s = must(t)(h.Read("sys/mounts/"+name+"/tune", nil))
		if number(at(s, "default_lease_ttl")) != "3600" || number(at(s, "max_lease_ttl")) != "7200" {
			t.Errorf("tuning %v", s.Data)
		}
		must(t)(h.Write(name+"/data/x", map[string]any{"data": map[string]any{"k": "v"}}))
		must(t)(h.Write("sys/remount", map[string]any{"from": name, "to": name + "-moved"}))
		if s = must(t)(h.Read(name+"-moved/data/x", nil)); at(s, "data", "k") != "v" {
			t.Errorf("moved, it reads %+v", s)
		}
		must(t)(h.Delete("sys/mounts/" + name + "-moved"))
		refused(t, h, 400, "No secret engine mount at")(h.Read("sys/mounts/"+name+"-moved", nil))
		must(t)(h.Delete("sys/mounts/" + name + "-moved")) // it has ended already
	})
}

// Values of a cubbyhole belong to a token and go with it.
func TestCubbyhole(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		made := must(t)(h.Write("auth/token/create", map[string]any{"policies": "default"}))
		h.SetToken(made.Token)
		must(t)(h.Write("cubbyhole/mine", map[string]any{"k": "v"}))
		if s := must(t)(h.Read("cubbyhole/mine", nil)); at(s, "k") != "v" {
			t.Errorf("read %+v", s)
		}
		h.SetToken(rootToken(t))
		if s := must(t)(h.Read("cubbyhole/mine", nil)); s != nil {
			t.Errorf("another token reads %+v", s)
		}
	})
}

// Machines log in with a role and a secret id, people with a password; who is
// wrong is told no more than that.
func TestLogins(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		at1 := "approle-" + unique(t)
		must(t)(h.Write("sys/auth/"+at1, map[string]any{"type": "approle"}))
		role := "auth/" + at1 + "/role/web"
		must(t)(h.Write(role, map[string]any{"token_policies": "default", "token_ttl": "20m", "secret_id_num_uses": 1}))
		roleID := at(must(t)(h.Read(role+"/role-id", nil)), "role_id")
		secretID := at(must(t)(h.Write(role+"/secret-id", nil)), "secret_id")
		login := map[string]any{"role_id": roleID, "secret_id": secretID}
		made := must(t)(h.Write("auth/"+at1+"/login", login))
		if made.Token == "" || made.LeaseDuration != 1200 || !made.Renewable {
			t.Errorf("logged in as %+v", made)
		}
		refused(t, h, 400, "invalid role or secret ID")(h.Write("auth/"+at1+"/login", login)) // its one use is gone
		h.SetToken(made.Token)
		if s := must(t)(h.Read("auth/token/lookup-self", nil)); at(s, "path") != "auth/"+at1+"/login" || at(s, "meta", "role_name") != "web" {
			t.Errorf("lookup-self %v", s.Data)
		}
		h.SetToken(rootToken(t))
		must(t)(h.Delete("sys/auth/" + at1)) // with its tokens
		h.SetToken(made.Token)
		refused(t, h, 403, "permission denied")(h.Read("auth/token/lookup-self", nil))
		h.SetToken(rootToken(t))

		at2 := "userpass-" + unique(t)
		must(t)(h.Write("sys/auth/"+at2, map[string]any{"type": "userpass"}))
		must(t)(h.Write("auth/"+at2+"/users/ann", map[string]any{"password": "correct horse", "token_policies": "default"}))
		person := must(t)(h.Write("auth/"+at2+"/login/ann", map[string]any{"password": "correct horse"}))
		if !slices.Equal(person.Policies, []string{"default"}) {
			t.Errorf("logged in as %+v", person)
		}
		for _, name := range []string{"ann", "nobody"} {
			refused(t, h, 400, "invalid username or password")(h.Write("auth/"+at2+"/login/"+name, map[string]any{"password": "wrong"}))
		}
	})
}

// A workload shows a signed statement of who it is; a forged or foreign one, or
// one of somebody else, is denied.
func TestSignedLogins(t *testing.T) {
	byEach(t, func(t *testing.T, h hand) {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		mount := "auth/jwt-" + unique(t)
		must(t)(h.Write("sys/"+mount, map[string]any{"type": "jwt"}))
		must(t)(h.Write(mount+"/config", map[string]any{"bound_issuer": "us",
			"jwt_validation_pubkeys": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}))
		must(t)(h.Write(mount+"/role/build", map[string]any{"bound_audiences": "conclave", "user_claim": "sub", "token_policies": "default", "token_ttl": "5m"}))
		sign := func(claims map[string]any) string {
			body, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
			return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
		}
		claims := map[string]any{"iss": "us", "aud": "conclave", "sub": "pipeline-7", "exp": time.Now().Add(time.Minute).Unix()}
		good := sign(claims)
		made := must(t)(h.Write(mount+"/login", map[string]any{"role": "build", "jwt": good}))
		if made.LeaseDuration != 300 || !slices.Equal(made.Policies, []string{"default"}) {
			t.Errorf("logged in as %+v", made)
		}
		claims["aud"] = "somebody else"
		for name, bad := range map[string]string{"altered": good[:len(good)-4] + "AAAA", "for another": sign(claims)} {
			_, err := h.Write(mount+"/login", map[string]any{"role": "build", "jwt": bad})
			if status := h.Status(err); status != 403 && status != 400 {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Leases are looked up, renewed, listed and revoked by their ids, which are paths.
func TestLeases(t *testing.T) {
	c, err := cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	byEach(t, func(t *testing.T, h hand) {
		prefix := "leases/" + unique(t)
		granted, err := c.Leases.Grant(t.Context(), client.LeaseRequest{Prefix: prefix, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		s := must(t)(h.Write("sys/leases/lookup", map[string]any{"lease_id": granted.ID}))
		if at(s, "id") != granted.ID || at(s, "last_renewal") != nil || at(s, "renewable") != true {
			t.Errorf("lookup %v", s.Data)
		}
		for _, path := range []string{"sys/leases/renew", "sys/renew"} {
			if s = must(t)(h.Write(path, map[string]any{"lease_id": granted.ID, "increment": 600})); s.LeaseDuration != 600 || !s.Renewable {
				t.Errorf("%s: %+v", path, s)
			}
		}
		s = must(t)(h.List("sys/leases/lookup/" + prefix))
		if keys, _ := at(s, "keys").([]any); len(keys) != 1 || prefix+"/"+fmt.Sprint(keys[0]) != granted.ID {
			t.Errorf("listed %v", s.Data)
		}
		must(t)(h.Write("sys/leases/revoke/"+granted.ID, nil))
		must(t)(h.Write("sys/leases/revoke", map[string]any{"lease_id": granted.ID})) // it has ended already
		refused(t, h, 400, "lease not found")(h.Write("sys/leases/lookup", map[string]any{"lease_id": granted.ID}))
		if s = must(t)(h.List("sys/leases/lookup/" + prefix)); s != nil {
			t.Errorf("listed %v", s.Data)
		}
	})
}
