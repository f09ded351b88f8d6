package core_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/auth/approle"
	"github.com/conclave-secrets/conclave/auth/jwt"
	"github.com/conclave-secrets/conclave/auth/userpass"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/cubbyhole"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// whole is an office with everything that this release carries, a person, a machine and
// another system who can log in, and, unless log is nil, a log of its own.
type whole struct {
	*office
	founding         *core.Founding
	catalog          core.Catalog
	roleID, secretID string
	issuer           ed25519.PrivateKey
}

func newWhole(t *testing.T, log func(*seal.Barrier) (core.Recorder, error)) *whole {
	t.Helper()
	o := &office{t: t, ledger: &interposed{Ledger: core.NewSingle(t)}, log: &list{}}
	if log == nil {
		log = func(*seal.Barrier) (core.Recorder, error) { return o.log, nil }
	}
	catalog := core.Catalog{
		Engines: map[string]engine.Backend{"system": sys.Backend{}, "kv": kv.Backend{}, "cubbyhole": cubbyhole.Backend{}},
		Auth:    map[string]engine.Backend{"token": sys.Tokens{}, "approle": approle.Backend{}, "userpass": userpass.New(), "jwt": jwt.New(time.Now)},
	}
	gate := core.NewGate(rand.Reader, catalog, log)
	f, err := core.Found(rand.Reader, time.Unix(1_767_225_600, 0), 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := o.ledger.Propose(t.Context(), f.Batch); err != nil || r.Code != fsm.Applied {
		t.Fatalf("founding: %+v %v", r, err)
	}
	o.pipeline = core.NewPipeline(core.Options{Gate: gate, Ledger: o.ledger, Clock: core.NewHandClock(), Rand: rand.Reader, Writable: func() error { return nil }})
	o.root = core.Caller{Token: f.RootToken}
	if _, err := gate.Submit(f.Config, f.Shares[0]); err != nil {
		t.Fatal(err)
	}
	w := &whole{office: o, founding: f, catalog: catalog}
	w.furnish()
	return w
}

func (w *whole) furnish() {
	w.t.Helper()
	for _, kind := range []string{"userpass", "approle", "jwt"} {
		w.must(w.root, write, "sys/auth/"+kind, `{"type": "`+kind+`"}`)
	}
	w.must(w.root, write, "auth/userpass/users/ann", `{"password": "cAnArY-password", "token_policies": "team"}`)
	w.must(w.root, write, "auth/approle/role/ci", `{"token_policies": "team", "secret_id_num_uses": 3}`)
	w.roleID = data(w.t, w.must(w.root, read, "auth/approle/role/ci/role-id", ""))["role_id"].(string)
	w.secretID = data(w.t, w.must(w.root, write, "auth/approle/role/ci/secret-id", ""))["secret_id"].(string)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		w.t.Fatal(err)
	}
	w.issuer = private
	w.configure(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	w.must(w.root, write, "auth/jwt/role/dev", `{"user_claim": "sub", "bound_audiences": "us", "token_policies": "team", "claim_mappings": {"team": "team"}}`)
}

func (w *whole) configure(key string) {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"jwt_validation_pubkeys": []string{key}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(w.root, write, "auth/jwt/config", string(body))
}

// vouch is what the other system signs.
func (w *whole) vouch(claims map[string]any) string {
	w.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(w.issuer, []byte(text)))
}

func (w *whole) devToken() string {
	return w.vouch(map[string]any{"sub": "dev-1", "aud": "us", "team": "red", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
}

// logins are one of each method.
func (w *whole) logins() map[string][2]string {
	return map[string][2]string{
		"userpass": {"auth/userpass/login/ann", `{"password": "cAnArY-password"}`},
		"approle":  {"auth/approle/login", fmt.Sprintf(`{"role_id": %q, "secret_id": %q}`, w.roleID, w.secretID)},
		"jwt":      {"auth/jwt/login", fmt.Sprintf(`{"role": "dev", "jwt": %q}`, w.devToken())},
	}
}

// A login is ordered only if everything that it rests on is still so: else it fails,
// or says what is true by then.
func TestAttackLoginRaces(t *testing.T) {
	type change struct {
		method, what string
		do           func(w *whole)
		// after tells what is true by then; nil: nobody is let in.
		after func(a *core.Auth) bool
	}
	request := func(verb engine.Verb, path, body string) func(*whole) {
		return func(w *whole) { w.must(w.root, verb, path, body) }
	}
	has := func(policy string) func(a *core.Auth) bool {
		return func(a *core.Auth) bool { return fmt.Sprint(a.Token.Policies) == "[default "+policy+"]" }
	}
	for _, c := range []change{
		{"userpass", "the mount goes", request(engine.VerbDelete, "sys/auth/userpass", ""), nil},
		{"userpass", "the mount moves", request(write, "sys/remount", `{"from": "auth/userpass", "to": "auth/people"}`), nil},
		{"userpass", "the user goes", request(engine.VerbDelete, "auth/userpass/users/ann", ""), nil},
		{"userpass", "the password changes", request(write, "auth/userpass/users/ann/password", `{"password": "other"}`), nil},
		{"userpass", "the policies change", request(write, "auth/userpass/users/ann/policies", `{"policies": "less"}`), has("less")},
		{"userpass", "addresses are bound", request(write, "auth/userpass/users/ann", `{"token_bound_cidrs": "10.0.0.0/8"}`), nil},
		{"userpass", "the name is locked", func(w *whole) {
			for range 5 {
				w.refused(core.Caller{}, write, "auth/userpass/login/ANN", `{"password": "guess"}`)
			}
		}, nil},
		{"approle", "the mount goes", request(engine.VerbDelete, "sys/auth/approle", ""), nil},
		{"approle", "the role goes", request(engine.VerbDelete, "auth/approle/role/ci", ""), nil},
		{"approle", "the role id changes", request(write, "auth/approle/role/ci/role-id", `{"role_id": "other"}`), nil},
		{"approle", "the secret id goes", func(w *whole) {
			w.must(w.root, write, "auth/approle/role/ci/secret-id/destroy", `{"secret_id": "`+w.secretID+`"}`)
		}, nil},
		{"approle", "the secret id is used up", func(w *whole) {
			for range 3 {
				w.must(core.Caller{}, write, "auth/approle/login", w.logins()["approle"][1])
			}
		}, nil},
		{"approle", "the policies change", request(write, "auth/approle/role/ci/policies", `{"policies": "less"}`), has("less")},
		{"approle", "addresses are bound", request(write, "auth/approle/role/ci/secret-id-bound-cidrs", `{"secret_id_bound_cidrs": "10.0.0.0/8"}`), nil},
		{"jwt", "the mount goes", request(engine.VerbDelete, "sys/auth/jwt", ""), nil},
		{"jwt", "the role goes", request(engine.VerbDelete, "auth/jwt/role/dev", ""), nil},
		{"jwt", "the key changes", func(w *whole) {
			public, _, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			w.configure(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		}, nil},
		{"jwt", "the subject is bound", request(write, "auth/jwt/role/dev", `{"bound_subject": "somebody"}`), nil},
		{"jwt", "the policies change", request(write, "auth/jwt/role/dev", `{"token_policies": "less"}`), has("less")},
	} {
		for _, kind := range []string{"default", "batch"} { // a batch token orders nothing but what else the login stages
			t.Run(c.method+": "+c.what+", "+kind, func(t *testing.T) {
				w := newWhole(t, nil)
				w.must(w.root, write, "sys/auth/"+c.method+"/tune", `{"token_type": "`+strings.Replace(kind, "default", "default-service", 1)+`"}`)
				login := w.logins()[c.method]
				raced := false
				stale, err := w.single().View()
				if err != nil {
					t.Fatal(err)
				}
				if kind == "batch" { // there may be no order to come before: the node is behind instead
					c.do(w)
					w.single().Stale(stale)
					raced = true
				} else {
					if err := stale.Close(); err != nil {
						t.Fatal(err)
					}
					w.ledger.before = func() { raced = true; c.do(w) }
				}
				r, err := w.do(core.Caller{}, write, login[0], login[1])
				switch {
				case !raced:
					t.Fatal("nothing was ordered")
				case err == nil && c.after == nil:
					t.Errorf("the login gives %v", r.Auth.Token.Policies)
				case err == nil && !c.after(r.Auth):
					t.Errorf("the login gives %v", r.Auth.Token.Policies)
				case err != nil && c.after != nil:
					t.Errorf("the login ends with %v", err)
				}
			})
		}
	}
}

// A secret id with a number of uses opens so often, whoever comes at once, and on
// whatever view.
func TestAttackSecretIDs(t *testing.T) {
	w := newWhole(t, nil)
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		in   int
	)
	for range 12 {
		stale, err := w.single().View()
		if err != nil {
			t.Fatal(err)
		}
		w.single().Stale(stale)
		wait.Go(func() {
			login := w.logins()["approle"]
			if _, err := w.do(core.Caller{}, write, login[0], login[1]); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if in != 3 {
		t.Errorf("%d logins with 3 uses", in)
	}
}

// A role that is narrowed narrows what its secret ids give.
func TestAttackWideSecretIDs(t *testing.T) {
	w := newWhole(t, nil)
	made := data(t, w.must(w.root, write, "auth/approle/role/ci/secret-id", `{"token_bound_cidrs": "10.0.0.0/8"}`))
	w.must(w.root, write, "auth/approle/role/ci/token-bound-cidrs", `{"token_bound_cidrs": "10.1.0.0/16,192.0.2.0/24"}`)
	inside := core.Caller{Address: netip.MustParseAddr("10.1.2.3")}
	body := fmt.Sprintf(`{"role_id": %q, "secret_id": %q}`, w.roleID, made["secret_id"])
	a := w.must(inside, write, "auth/approle/login", body).Auth
	if got := fmt.Sprint(a.Token.BoundCidrs); got != "[10.1.0.0/16]" {
		t.Errorf("the token can be used from %s", got)
	}
	for _, address := range []string{"10.2.0.1", "192.0.2.1", "::ffff:10.2.0.1"} {
		w.refused(core.Caller{Address: netip.MustParseAddr(address)}, write, "auth/approle/login", body)
	}
	w.must(w.root, write, "auth/approle/role/ci/token-bound-cidrs", `{"token_bound_cidrs": "192.0.2.0/24"}`)
	w.refused(inside, write, "auth/approle/login", body)
}

// A lock holds for a name in every spelling, and for no other name or mount.
func TestAttackLockout(t *testing.T) {
	w := newWhole(t, nil)
	w.must(w.root, write, "auth/userpass/users/bob", `{"password": "b"}`)
	w.must(w.root, write, "sys/auth/second", `{"type": "userpass"}`)
	w.must(w.root, write, "auth/second/users/ann", `{"password": "second"}`)
	for _, name := range []string{"ann", "ANN", "aNn", "Ann", "anN", "AnN"} {
		w.refused(core.Caller{}, write, "auth/userpass/login/"+name, `{"password": "guess"}`)
	}
	for _, name := range []string{"ann", "ANN"} {
		_, err := w.do(core.Caller{}, write, "auth/userpass/login/"+name, `{"password": "cAnArY-password"}`)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	w.must(core.Caller{}, write, "auth/userpass/login/bob", `{"password": "b"}`)
	w.must(core.Caller{}, write, "auth/second/login/ann", `{"password": "second"}`)
	for range 16 {
		w.single().Advance(time.Minute)
	}
	w.must(core.Caller{}, write, "auth/userpass/login/ann", `{"password": "cAnArY-password"}`)
}

// Who may do nothing learns nothing: each path that rules forbid answers alike, whether
// or not there is something, and whatever is wrong with the request.
func TestAttackWhatIsThere(t *testing.T) {
	w := newWhole(t, nil)
	w.must(w.root, write, "secret/data/there", `{"data": {"k": "v"}}`)
	w.must(w.root, write, "sys/mounts/old", `{"type": "kv"}`)
	w.must(w.root, write, "old/there", `{"k": "v"}`)
	w.must(w.root, write, "auth/token/roles/there", `{}`)
	w.policy("there", `path "a" { capabilities = ["read"] }`)
	w.policy("nothing", `path "nowhere" { capabilities = ["read"] }`)
	nothing, _ := w.token(`{"policies": "nothing", "no_default_policy": true}`)
	bodies := []string{"", `{}`, `{"data": 1, "options": [], "ttl": "x", "versions": "x", "policies": {}, "type": 1, "token_num_uses": "x", "meta": 7, "cas": -1, "num_uses": "x"}`,
		`{"role_id": "x", "policy": "path", "password": "p", "user_claim": "sub", "token": "x", "paths": "x", "bound_audiences": "x"}`}
	tried := 0
	for _, m := range append(carried, carried[6]) {
		if m.path == "kv1/" {
			m.path = "old/"
		}
		routes, err := m.backend.Routes(m.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Open {
				continue
			}
			for _, name := range []string{"there", "ann", "ci", "dev", "nosuch", "a..b", "-", strings.Repeat("x", 300)} {
				var segments []string
				for _, s := range strings.Split(r.Path, "/") {
					if strings.HasPrefix(s, "{") {
						s = name
					}
					segments = append(segments, s)
				}
				path := m.path + strings.Join(segments, "/")
				for _, body := range bodies {
					for _, wrap := range []time.Duration{0, time.Hour} {
						q := core.Request{Verb: r.Verb, Path: path, WrapTTL: wrap, Raw: []byte(body)}
						if body != "" {
							if err := json.Unmarshal([]byte(body), &q.Input.Body); err != nil {
								t.Fatal(err)
							}
						}
						for who, c := range map[conclavev1.Reason]core.Caller{conclavev1.Reason_REASON_DENIED: nothing, conclavev1.Reason_REASON_UNAUTHENTICATED: {}} {
							_, err := w.pipeline.Serve(t.Context(), c, q)
							var e *core.Error
							if !errors.As(err, &e) || e.Reason != who || e.RetryAfter != 0 || e.CurrentVersion != 0 ||
								e.Message != "permission denied" && e.Message != "no token was sent" {
								t.Errorf("%v %.80s %s: %v", r.Verb, path, body, err)
							}
							tried++
						}
					}
				}
			}
		}
	}
	if tried < 10_000 {
		t.Errorf("only %d requests were tried", tried)
	}
}

// canary is in every value that the requests below send.
const canary = "cAnArY"

// The log names who asked for what, and shows no value, whatever is asked, whoever
// asks, and however it ends.
func TestAttackCanariesInTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var log *audit.Log
	w := newWhole(t, func(b *seal.Barrier) (_ core.Recorder, err error) {
		hash, err := core.AuditHasher(b)
		if err != nil {
			return nil, err
		}
		log, err = audit.Open(audit.Options{Path: path, Node: "n1", Cluster: "c1", Hash: hash})
		return log, err
	})
	secrets := map[string]bool{canary: true, w.secretID: true, string(w.root.Token.Expose()): true, w.devToken(): true}
	keep := func(r *core.Reply) {
		if r == nil {
			return
		}
		if r.Auth != nil && r.Auth.Text != nil {
			secrets[string(r.Auth.Text)] = true
			if a := r.Auth.Token.Accessor; a != "" {
				secrets[a] = true
			}
		}
		if r.Wrap != nil {
			secrets[string(r.Wrap.Token.Expose())], secrets[r.Wrap.Accessor] = true, true
		}
		if raw, ok := r.Data.(json.RawMessage); ok {
			var d map[string]any
			if json.Unmarshal(raw, &d) == nil {
				for _, name := range []string{"secret_id", "secret_id_accessor", "role_id", "id", "accessor"} {
					if s, ok := d[name].(string); ok && len(s) > 15 {
						secrets[s] = true
					}
				}
			}
		}
	}
	w.must(w.root, write, "sys/mounts/old", `{"type": "kv"}`)
	made := w.must(w.root, write, "auth/token/create", `{"policies": "default"}`).Auth
	powerless := callerOf(made)
	keep(&core.Reply{Auth: made})
	batch := w.must(w.root, write, "auth/token/create-orphan", `{"policies": "default", "type": "batch"}`).Auth
	keep(&core.Reply{Auth: batch})
	v := `"` + canary + `-%d"`
	deep := strings.Repeat(`{"x":`, 30) + `"` + canary + `"` + strings.Repeat(`}`, 30)
	value := 0
	fresh := func(body string) string { // each value is another
		for strings.Contains(body, "VALUE") {
			value++
			body = strings.Replace(body, "VALUE", fmt.Sprintf(v, value), 1)
		}
		return body
	}
	token := fmt.Sprintf("%q", made.Text)
	requests := []struct {
		verb       engine.Verb
		path, body string
	}{
		{write, "secret/data/name", `{"data": {"k": VALUE, "list": [VALUE, {"x": VALUE}], "deep": ` + deep + `}, "options": {"cas": 0}}`},
		{write, "secret/data/name", `{"data": {"k": VALUE}, "options": {"cas": 0}}`}, {write, "secret/data/name", `{"data": VALUE}`}, {write, "secret/data/name", `{"other": VALUE}`},
		{engine.VerbPatch, "secret/data/name", `{"data": {"k": VALUE}}`}, {read, "secret/data/name", ""}, {read, "secret/metadata/name", ""}, {read, "secret/subkeys/name", ""},
		{write, "secret/metadata/name", `{"custom_metadata": {"m": VALUE}}`}, {engine.VerbPatch, "secret/metadata/name", `{"custom_metadata": {"m": VALUE}}`},
		{write, "secret/delete/name", `{"versions": VALUE}`}, {write, "old/name", `{"k": VALUE, "ttl": VALUE}`}, {read, "old/name", ""}, {enumerate, "old", ""},
		{write, "cubbyhole/name", `{"k": VALUE}`}, {read, "cubbyhole/name", ""}, {write, "sys/wrapping/wrap", `{"k": VALUE}`},
		{write, "auth/userpass/users/bob", `{"password": VALUE, "token_ttl": VALUE}`}, {write, "auth/userpass/users/bob", `{"password": VALUE}`},
		{write, "auth/userpass/users/bob/password", `{"password": VALUE}`}, {write, "auth/userpass/login/bob", `{"password": VALUE}`}, {write, "auth/userpass/login/nosuch", `{"password": VALUE}`},
		{write, "auth/approle/role/ci/custom-secret-id", `{"secret_id": VALUE, "metadata": {"m": VALUE}}`}, {write, "auth/approle/role/ci/secret-id", `{"metadata": {"m": VALUE}}`},
		{write, "auth/approle/role/ci/role-id", `{"role_id": VALUE}`}, {read, "auth/approle/role/ci/role-id", ""}, {write, "auth/approle/login", `{"role_id": VALUE, "secret_id": VALUE}`},
		{write, "auth/approle/role/ci/secret-id/lookup", `{"secret_id": VALUE}`}, {write, "auth/approle/role/ci/secret-id-accessor/lookup", `{"secret_id_accessor": VALUE}`},
		{write, "auth/jwt/login", `{"role": "dev", "jwt": VALUE}`}, {write, "auth/jwt/login", `{"role": "dev", "jwt": "` + w.devToken() + `"}`}, {write, "auth/jwt/config", `{"jwt_validation_pubkeys": VALUE}`},
		{write, "auth/jwt/role/other", `{"user_claim": VALUE, "bound_claims": {"c": VALUE}, "token_ttl": VALUE}`},
		{write, "auth/token/create", `{"policies": "default", "meta": {"m": VALUE}}`}, {write, "auth/token/create", `{"id": VALUE}`}, {write, "auth/token/create", `{"ttl": VALUE, "policies": VALUE}`},
		{write, "auth/token/lookup", `{"token": ` + token + `}`}, {write, "auth/token/lookup", `{"token": VALUE}`}, {write, "auth/token/renew", `{"token": ` + token + `}`},
		{write, "auth/token/lookup-accessor", `{"accessor": "` + made.Token.Accessor + `"}`}, {read, "auth/token/lookup-self", ""}, {enumerate, "auth/token/accessors", ""},
		{write, "sys/capabilities", `{"token": ` + token + `, "paths": "secret/data/name"}`}, {write, "sys/policies/explain", `{"token": ` + token + `, "capability": "read", "path": "secret/data/name"}`},
		{write, "sys/policies/explain", `{"policies": "default", "capability": "read", "path": "secret/data/name", "parameters": {"p": VALUE}, "reason": VALUE}`},
		{write, "sys/leases/renew", `{"lease_id": VALUE}`}, {write, "sys/wrapping/unwrap", `{"token": VALUE}`}, {write, "sys/wrapping/lookup", `{"token": VALUE}`},
		{write, "sys/mounts/x", `{"type": "kv", "options": {"version": VALUE}}`}, {write, "sys/auth/userpass/tune", `{"token_type": VALUE}`}, {write, "nosuch/x", `{"k": VALUE}`},
		{write, "auth/token/revoke", `{"token": VALUE}`},
	}
	for _, r := range requests {
		for _, c := range []core.Caller{w.root, powerless, callerOf(batch), {}, {Token: redact.New([]byte(canary + "-token"))}} {
			for _, wrap := range []time.Duration{0, time.Hour} {
				body := fresh(r.body)
				q := core.Request{Verb: r.verb, Path: r.path, Raw: []byte(body), WrapTTL: wrap, Input: engine.Input{Query: url.Values{"extra": {canary + "-query"}}}}
				if body != "" {
					if err := json.Unmarshal([]byte(body), &q.Input.Body); err != nil {
						t.Fatal(r, err)
					}
				}
				reply, err := w.pipeline.Serve(t.Context(), c, q)
				if err != nil && strings.Contains(err.Error(), canary) {
					t.Errorf("%s: the error shows a value: %v", r.path, err)
				}
				keep(reply)
				if reply != nil && reply.Wrap != nil {
					opened, err := w.do(core.Caller{Token: reply.Wrap.Token}, write, "sys/wrapping/unwrap", "")
					if err != nil {
						t.Fatal(err)
					}
					keep(opened)
				}
			}
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 50 {
		t.Fatalf("only %d secrets were seen", len(secrets))
	}
	for line := range strings.Lines(string(text)) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("a line is no record: %v", err)
		}
		for secret := range secrets {
			for _, spelled := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
				if i := strings.Index(line, spelled); i >= 0 {
					t.Errorf("%v %v shows a secret: …%s…", record["operation"], record["path"], line[max(0, i-60):min(len(line), i+40)])
				}
			}
		}
	}
	for _, name := range []string{`"path":"secret/data/name"`, `"custom_metadata"`, `"password"`, `"role_id"`, `"jwt"`} {
		if !strings.Contains(string(text), name) {
			t.Errorf("the log does not name %s", name)
		}
	}
}

// What a caller chooses ends up in one record, in one line, and in its own field.
func TestAttackForgedRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var log *audit.Log
	w := newWhole(t, func(b *seal.Barrier) (_ core.Recorder, err error) {
		hash, err := core.AuditHasher(b)
		if err != nil {
			return nil, err
		}
		log, err = audit.Open(audit.Options{Path: path, Node: "n1", Cluster: "c1", Hash: hash})
		return log, err
	})
	w.must(w.root, write, "auth/jwt/role/dev", `{"user_claim": "sub", "bound_audiences": "us"}`)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	evil := "x\"}\n{\"seq\":1,\"type\":\"access\",\"path\":\"forged\"}\r\n\u2028\u202e\x1b[2J"
	c := core.Caller{Token: w.root.Token, Reason: evil}
	requests := 0
	for _, path := range []string{"secret/data/" + evil, evil, "secret/data/x"} {
		for _, caller := range []core.Caller{c, w.root, {}} {
			for _, verb := range []engine.Verb{read, write, enumerate, engine.VerbDelete} {
				_, _ = w.pipeline.Serve(t.Context(), caller, core.Request{Verb: verb, Path: path, Input: engine.Input{Body: engine.Object{evil: json.RawMessage(`{}`)}}, Raw: []byte("{" + fmt.Sprintf("%q", "k") + ":1}")})
				requests++
			}
		}
	}
	said, err := json.Marshal(map[string]string{"role": "dev", "jwt": w.vouch(map[string]any{"sub": evil, "aud": "us", "iat": time.Now().Unix()})})
	if err != nil {
		t.Fatal(err)
	}
	in := w.must(core.Caller{}, write, "auth/jwt/login", string(said)).Auth
	w.must(callerOf(in), read, "auth/token/lookup-self", "")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for line := range strings.Lines(string(after[len(before):])) {
		var r struct {
			Path string `json:"path"`
			Seq  uint64 `json:"seq"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Path == "forged" {
			t.Errorf("a line is no record, or forged: %q", line)
		}
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\x1b\u2028\u202e") {
			t.Errorf("a line has what moves a cursor: %q", line)
		}
		records++
	}
	if records < requests {
		t.Errorf("%d requests have %d records", requests, records)
	}
}

// A node that was told of the seal before a rotation opens after it: whoever may rotate
// and seal cannot lock a node for good.
func TestAttackRotationAndSeal(t *testing.T) {
	var log *audit.Log
	w := newWhole(t, func(b *seal.Barrier) (_ core.Recorder, err error) {
		hash, err := core.AuditHasher(b)
		if err != nil {
			return nil, err
		}
		log, err = audit.Open(audit.Options{Path: filepath.Join(t.TempDir(), "audit.log"), Node: "n1", Cluster: "c1", Hash: hash})
		return log, err
	})
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	w.must(w.root, write, "sys/rotate", "")
	w.must(w.root, write, "secret/data/x", `{"data": {"k": "v"}}`)
	if err := core.NewAnchors(w.pipeline, "n1", time.Now).Note(t.Context()); err != nil {
		t.Fatal(err)
	}
	var found audit.Head
	gate := core.NewGate(rand.Reader, w.catalog, func(b *seal.Barrier) (_ core.Recorder, err error) {
		view, err := w.ledger.View()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, view.Close()) }()
		found, err = core.LastAnchor(view, b, "n1")
		return w.log, err
	})
	if _, err := gate.Submit(w.founding.Config, w.founding.Shares[0]); err != nil || gate.Sealed() { // the configuration as it was
		t.Fatalf("the node stays sealed: %v", err)
	}
	if found == (audit.Head{}) {
		t.Error("the anchor was not found")
	}
}

// A batch token is handed out on what is true now, though nothing is ordered for it:
// however old a view the caller would put up with, and whatever the node knows yet.
func TestAttackStaleBatchLogin(t *testing.T) {
	w := newWhole(t, nil)
	w.must(w.root, write, "sys/auth/approle/tune", `{"token_type": "batch"}`)
	w.must(w.root, write, "auth/approle/role/ci/secret-id-num-uses", `{"secret_id_num_uses": 0}`)
	id := data(t, w.must(w.root, write, "auth/approle/role/ci/secret-id", ""))["secret_id"]
	login := core.Request{Verb: write, Path: "auth/approle/login", Read: &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_LOCAL}}
	body, err := json.Marshal(map[string]any{"role_id": w.roleID, "secret_id": id})
	if err != nil {
		t.Fatal(err)
	}
	if login.Input.Body, err = engine.ParseBody(body); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pipeline.Serve(t.Context(), core.Caller{}, login); err != nil {
		t.Fatal(err)
	}
	old := func() *fsm.View {
		view, err := w.ledger.View()
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	views := []*fsm.View{old(), old()}
	w.must(w.root, write, "auth/approle/role/ci/secret-id/destroy", fmt.Sprintf(`{"secret_id": %q}`, id))
	gate := core.NewGate(rand.Reader, w.catalog, func(*seal.Barrier) (core.Recorder, error) { return w.log, nil })
	if _, err := gate.Submit(w.founding.Config, w.founding.Shares[0]); err != nil {
		t.Fatal(err)
	}
	// This one has seen no mount yet, so it takes the login for a read.
	cold := core.NewPipeline(core.Options{Gate: gate, Ledger: w.ledger, Clock: core.NewHandClock(), Rand: rand.Reader, Writable: func() error { return nil }})
	for i, p := range []*core.Pipeline{w.pipeline, cold} {
		w.single().Stale(views[i])
		if r, err := p.Serve(t.Context(), core.Caller{}, login); err == nil {
			t.Errorf("a secret id that was destroyed gives a token that lives: %v", w.lives(callerOf(r.Auth)))
		}
	}
}

// Names that are folded are folded for rules, too, in whatever script they are spelled.
func TestAttackSpellings(t *testing.T) {
	w := newWhole(t, nil)
	w.must(w.root, write, "auth/token/roles/kim", `{"allowed_policies": "web"}`)
	w.must(w.root, write, "auth/userpass/users/kin", `{"password": "x"}`)
	w.policy("kpi", `path "a" { capabilities = ["read"] }`)
	w.policy("wide", `path "auth/*" { capabilities = ["create", "read", "update", "delete", "sudo"] }
path "sys/*" { capabilities = ["create", "read", "update", "delete", "sudo"] }
path "auth/token/create/kim" { capabilities = ["deny"] }
path "auth/userpass/users/kin" { capabilities = ["deny"] }
path "sys/policies/acl/kpi" { capabilities = ["deny"] }
path "sys/auth/userpass/tune" { capabilities = ["deny"] }
path "sys/rotate/keyring" { capabilities = ["deny"] }`)
	wide, _ := w.token(`{"policies": "wide"}`)
	body := `{"policy": "path \"b\" { capabilities = [\"read\"] }", "password": "y"}`
	for _, path := range []string{"auth/token/create/kim", "auth/token/create/\u212Aim", "auth/token/create/K\u0130M", "auth/token/create/kim/", "auth/userpass/users/KIN",
		"auth/userpass/users/\u212A\u0130n", "auth/userpass/users/kin/", "sys/policies/acl/\u212AP\u0130", "sys/policy/\u212Api", "sys/policies/acl/kpi/",
		"sys/mounts/auth/userpass/tune", "sys/rotate"} {
		_, err := w.do(wide, write, path, body)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	w.must(wide, write, "auth/userpass/users/other", body)
}

// A token that is revoked while it makes another has made none.
func TestAttackMakingTokensTooLate(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/*" { capabilities = ["update", "read"] }`)
	for _, body := range []string{`{}`, `{"type": "batch"}`} {
		for _, path := range []string{"create", "create-orphan"} {
			c, a := o.token(`{"policies": "maker"}`)
			stale, err := o.single().View()
			if err != nil {
				t.Fatal(err)
			}
			o.must(o.root, write, "auth/token/revoke-accessor", `{"accessor": "`+a.Token.Accessor+`"}`)
			o.single().Stale(stale)
			if r, err := o.do(c, write, "auth/token/"+path, body); err == nil {
				t.Errorf("%s %s makes a token that lives: %v", path, body, o.lives(callerOf(r.Auth)))
			}
		}
	}
}
