package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

const (
	write = engine.VerbWrite
	read  = engine.VerbRead
)

// door is an auth method that lets in whoever says who they are.
type door struct{}

func (door) Type() string    { return "door" }
func (door) Summary() string { return "a door without a lock" }

type knock struct {
	Name     string          `path:"name"`
	Policies engine.Strings  `json:"policies"`
	Team     string          `json:"team"`
	Type     string          `json:"type"`
	TTL      engine.Duration `json:"ttl"`
	Uses     engine.Int      `json:"uses"`
}

func (door) Routes(map[string]string) ([]engine.Route, error) {
	return []engine.Route{engine.NewRoute(engine.Route{Verb: write, Path: "login/{name}", Open: true, Writes: true, Parallel: true, Summary: "Log in."},
		func(c *engine.Call, q *knock) (*struct{}, error) {
			c.Login(engine.Login{DisplayName: "door-" + q.Name, Alias: q.Name, Metadata: map[string]string{"team": q.Team},
				Token: engine.TokenSettings{Policies: q.Policies, Type: q.Type, TTL: q.TTL, NumUses: q.Uses}})
			return nil, nil
		})}, nil
}

func callerOf(a *core.Auth) core.Caller { return core.Caller{Token: redact.New(a.Text)} }

// data is the data of an answer.
func data(t *testing.T, r *core.Reply) (out map[string]any) {
	t.Helper()
	raw, err := json.Marshal(r.Data)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (o *office) policy(name, text string) {
	o.t.Helper()
	body, err := json.Marshal(map[string]string{"policy": text})
	if err != nil {
		o.t.Fatal(err)
	}
	o.must(o.root, write, "sys/policies/acl/"+name, string(body))
}

func (o *office) single() *core.Single { return o.ledger.Ledger.(*core.Single) }

// A batch token works like any other for as long as it lives, and there is no
// trace of it in the ledger.
func TestBatchTokens(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	o.policy("team", `path "secret/*" { capabilities = ["create", "update", "read"] } path "auth/token/*" { capabilities = ["create", "update", "read", "sudo"] }`)
	before := o.index()
	in := o.must(core.Caller{}, write, "auth/door/login/ann", `{"policies": ["team"], "type": "batch", "ttl": "1h", "team": "red"}`).Auth
	if o.index() != before {
		t.Error("a login with a batch token wrote to the ledger")
	}
	if !strings.HasPrefix(string(in.Text), "hvb.") || in.Token.Type() != "batch" || in.Token.Accessor != "" || in.Renewable || in.TTL != time.Hour {
		t.Errorf("logged in with %+v, %q", in, in.Text)
	}
	ann := callerOf(in)
	o.must(ann, write, "secret/data/x", `{"data": {"k": "v"}}`)
	self := data(t, o.must(ann, read, "auth/token/lookup-self", ""))
	if self["type"] != "batch" || self["ttl"] != float64(3600) || self["display_name"] != "door-ann" || self["renewable"] != false || self["entity_id"] == "" {
		t.Errorf("it looks itself up as %v", self)
	}
	for path, body := range map[string]string{"auth/token/renew-self": "", "auth/token/revoke-self": "", "auth/token/create": "{}",
		"auth/token/create-orphan": "{}", "cubbyhole/x": `{"k": "v"}`, "auth/token/revoke-orphan": `{"token": "` + string(in.Text) + `"}`} {
		_, err := o.do(ann, write, path, body)
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
	for _, text := range []string{"hvb.", "hvb.AAAA", string(in.Text) + "A", strings.Repeat("A", 9000), "hvb." + strings.Repeat("A", 9000),
		string(in.Text[:len(in.Text)-2]), strings.Replace(string(in.Text), "hvb.", "hvs.", 1)} {
		_, err := o.do(core.Caller{Token: redact.New([]byte(text))}, read, "auth/token/lookup-self", "")
		wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	}
	o.single().Advance(59 * time.Minute)
	o.must(ann, read, "secret/data/x", "")
	o.ledger.before = func() { o.single().Advance(2 * time.Minute) } // between the decision and the order
	_, err := o.do(ann, write, "secret/data/x", `{"data": {"k": "late"}}`)
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	_, err = o.do(ann, read, "secret/data/x", "")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	if r := o.must(o.root, read, "secret/metadata/x", ""); !contains(r.Data.(json.RawMessage), `"current_version":1`) {
		t.Error("a write took effect under a token that had expired")
	}
}

// An accessor is the key of its token in other clothes: it takes no row, leads to
// this token alone, and to none once that has ended.
func TestAccessors(t *testing.T) {
	o := newOffice(t)
	_, first := o.token(`{"policies": ["default"], "display_name": "first"}`)
	before := o.rows()
	_, second := o.token(`{"policies": ["default"], "display_name": "second"}`)
	if n := o.rows() - before; n != 1 {
		t.Errorf("a token takes %d records, want its own alone", n)
	}
	look := func(accessor string) (*core.Reply, error) {
		return o.do(o.root, write, "auth/token/lookup-accessor", `{"accessor": "`+accessor+`"}`)
	}
	for _, a := range []*core.Auth{first, second} {
		r, err := look(a.Token.Accessor)
		if err != nil || !contains(r.Data.(json.RawMessage), `"accessor":"`+a.Token.Accessor+`"`) || !contains(r.Data.(json.RawMessage), a.Token.Name) {
			t.Errorf("%s: %v, %v", a.Token.Name, r, err)
		}
	}
	a := first.Token.Accessor
	for _, wrong := range []string{"", a[1:], a + "0", strings.Repeat("0", 22), strings.Repeat("z", 22), strings.ToLower(a) + "x", string(first.Text)} {
		if _, err := look(wrong); err == nil {
			t.Errorf("%q is an accessor", wrong)
		}
	}
	o.must(o.root, write, "auth/token/revoke-accessor", `{"accessor": "`+a+`"}`)
	if _, err := look(a); err == nil {
		t.Error("the accessor outlives its token")
	}
}

// A batch token ends with the token that made it, and with its mount.
func TestBatchTokensEnd(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door", "config": {"token_type": "batch"}}`)
	parent, made := o.token(`{"policies": ["root"], "ttl": "1h"}`)
	child := callerOf(o.must(parent, write, "auth/token/create", `{"policies": ["default"], "type": "batch"}`).Auth)
	orphan := callerOf(o.must(parent, write, "auth/token/create-orphan", `{"policies": ["default"], "type": "batch"}`).Auth)
	guest := callerOf(o.must(core.Caller{}, write, "auth/door/login/ann", `{"policies": ["default"]}`).Auth)
	for _, c := range []core.Caller{child, orphan, guest} {
		o.must(c, read, "auth/token/lookup-self", "")
	}
	o.must(o.root, write, "auth/token/revoke-accessor", `{"accessor": "`+made.Token.Accessor+`"}`)
	o.must(o.root, engine.VerbDelete, "sys/auth/door", "")
	for name, c := range map[string]core.Caller{"child": child, "guest": guest} {
		if _, err := o.do(c, read, "auth/token/lookup-self", ""); err == nil {
			t.Errorf("the %s lives on", name)
		}
	}
	o.must(orphan, read, "auth/token/lookup-self", "")
	for _, body := range []string{`{"type": "batch", "num_uses": 1}`, `{"type": "batch", "period": "1h"}`, `{"type": "batch", "policies": ["root"]}`,
		`{"type": "batch", "id": "mine"}`, `{"type": "other"}`, `{"type": "batch", "meta": {"a": "` + strings.Repeat("x", 5000) + `"}}`} {
		_, err := o.do(o.root, write, "auth/token/create", body)
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
}

// Which type a login's token has is decided between mount and role.
func TestTypeOfLogins(t *testing.T) {
	for _, c := range []struct{ mount, role, want string }{
		{"", "", "service"}, {"", "default", "service"}, {"", "batch", "batch"}, {"default-batch", "", "batch"}, {"default-batch", "default", "batch"},
		{"default-batch", "service", "service"}, {"batch", "service", "batch"}, {"service", "batch", "service"}, {"default-service", "batch", "batch"},
		{"default-batch", "default-service", "service"}, {"default-service", "default-batch", "batch"},
	} {
		o := newOffice(t)
		o.must(o.root, write, "sys/auth/door", fmt.Sprintf(`{"type": "door", "config": {"token_type": %q}}`, c.mount))
		a := o.must(core.Caller{}, write, "auth/door/login/ann", fmt.Sprintf(`{"type": %q}`, c.role)).Auth
		if a.Token.Type() != c.want {
			t.Errorf("mount %q and role %q make a %s token", c.mount, c.role, a.Token.Type())
		}
	}
}

// To revoke a token as an orphan's parent ends it alone.
func TestRevokeOrphan(t *testing.T) {
	o := newOffice(t)
	parent, made := o.token(`{"policies": ["root"]}`)
	child := callerOf(o.must(parent, write, "auth/token/create", `{"policies": ["root"]}`).Auth)
	grandchild := callerOf(o.must(child, write, "auth/token/create", `{"policies": ["default"]}`).Auth)
	o.must(o.root, write, "auth/token/revoke-orphan", `{"token": "`+string(made.Text)+`"}`)
	_, err := o.do(parent, read, "auth/token/lookup-self", "")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	if self := data(t, o.must(child, read, "auth/token/lookup-self", "")); self["orphan"] != true {
		t.Errorf("the child is no orphan: %v", self)
	}
	if self := data(t, o.must(grandchild, read, "auth/token/lookup-self", "")); self["orphan"] != false {
		t.Errorf("the grandchild is an orphan: %v", self)
	}
	_, err = o.do(o.root, write, "auth/token/revoke-orphan", `{"token": "hvs.nosuch"}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
	o.must(child, write, "auth/token/revoke-self", "")
	if _, err = o.do(grandchild, read, "auth/token/lookup-self", ""); err == nil {
		t.Error("the grandchild outlives its parent")
	}
	// It takes sudo.
	o.policy("tokens", `path "auth/token/*" { capabilities = ["update"] }`)
	member, _ := o.token(`{"policies": ["tokens"]}`)
	_, err = o.do(member, write, "auth/token/revoke-orphan", `{"token": "hvs.nosuch"}`)
	wants(t, err, conclavev1.Reason_REASON_DENIED)
}

// A role makes tokens within what it says, for whoever may use it.
func TestTokenRoles(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/create/*" { capabilities = ["update"] }`)
	maker, _ := o.token(`{"policies": ["maker", "own"]}`)
	role := func(name, body string) { o.must(o.root, write, "auth/token/roles/"+name, body) }
	role("deploy", `{"allowed_policies": "web,db", "orphan": true, "token_period": "24h", "path_suffix": "ci", "token_bound_cidrs": "10.0.0.0/8"}`)
	role("glob", `{"allowed_policies_glob": ["team-*"], "disallowed_policies": ["team-admin"], "renewable": false, "token_num_uses": 2, "token_explicit_max_ttl": "1h"}`)
	role("bare", `{"token_no_default_policy": true}`)
	role("no-default", `{"disallowed_policies": "default,secret"}`)
	role("light", `{"token_type": "batch", "allowed_entity_aliases": ["app-*"]}`)
	made := func(path, body string) *core.Auth {
		t.Helper()
		return o.must(maker, write, "auth/token/create/"+path, body).Auth
	}
	for _, c := range []struct {
		role, body string
		policies   []string
	}{
		{"deploy", `{}`, []string{"db", "default", "web"}},
		{"DEPLOY", `{"policies": ["web"], "no_default_policy": true}`, []string{"web"}},
		{"glob", `{"policies": "team-a,team-b"}`, []string{"default", "team-a", "team-b"}},
		{"bare", `{}`, []string{"default", "maker", "own"}}, // the caller's own, default among them
		{"bare", `{"policies": "own"}`, []string{"own"}},
		{"no-default", `{"policies": "own"}`, []string{"own"}},
	} {
		if a := made(c.role, c.body); fmt.Sprint(a.Token.Policies) != fmt.Sprint(c.policies) {
			t.Errorf("%s %s gives %v, want %v", c.role, c.body, a.Token.Policies, c.policies)
		}
	}
	for role, bodies := range map[string][]string{
		"deploy":     {`{"policies": "own"}`, `{"policies": "root"}`, `{"id": "mine"}`, `{"period": "1h"}`, `{"entity_alias": "app-1"}`},
		"glob":       {`{"policies": "team-admin"}`, `{"policies": "other"}`, `{"policies": "root"}`},
		"bare":       {`{"policies": "other"}`, `{"policies": "root"}`},
		"no-default": {`{"policies": "secret"}`, `{"policies": "default"}`, `{}`},
		"light":      {`{"entity_alias": "root"}`},
		"nosuch":     {`{}`},
	} {
		for _, body := range bodies {
			_, err := o.do(maker, write, "auth/token/create/"+role, body)
			wants(t, err, conclavev1.Reason_REASON_INVALID)
		}
	}
	a := made("deploy", `{"ttl": "1h"}`)
	if a.TTL != 24*time.Hour || !a.Token.Orphan || a.Token.Path != "auth/token/create/deploy/ci" || a.Token.Role != "deploy" {
		t.Errorf("by role: %+v %v", a.Token.Token, a.TTL)
	}
	_, err := o.do(callerOf(a), read, "auth/token/lookup-self", "") // from nowhere in 10/8
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	if a := made("glob", `{"policies": "team-a", "ttl": "8h", "num_uses": 5}`); a.TTL != time.Hour || a.Renewable || a.Token.UsesLeft != 2 {
		t.Errorf("by role: %+v %v", a.Token.Token, a.TTL)
	}
	if a := made("light", `{"entity_alias": "app-7"}`); a.Token.Type() != "batch" || a.Token.EntityID == "" {
		t.Errorf("by role: %+v", a.Token.Token)
	}
	if got := data(t, o.must(o.root, read, "auth/token/roles/deploy", "")); got["name"] != "deploy" || got["orphan"] != true || got["token_period"] != float64(86400) ||
		got["period"] != float64(86400) || got["renewable"] != true || got["token_type"] != "default-service" {
		t.Errorf("the role reads %v", got)
	}
	if got := data(t, o.must(o.root, engine.VerbList, "auth/token/roles", "")); len(got["keys"].([]any)) != 5 {
		t.Errorf("the roles are %v", got)
	}
	for _, body := range []string{`{"token_num_uses": -1}`, `{"token_type": "other"}`, `{"token_type": "batch", "token_period": "1h"}`,
		`{"allowed_policies_glob": "["}`, `{"token_bound_cidrs": "here"}`, `{"path_suffix": "../x"}`, `{"token_period": "2h", "token_explicit_max_ttl": "1h"}`} {
		_, err := o.do(o.root, write, "auth/token/roles/bad", body)
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
	o.must(o.root, engine.VerbDelete, "auth/token/roles/deploy", "")
	_, err = o.do(o.root, read, "auth/token/roles/deploy", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// Templates say something else of each bearer, and children are whom their parents are.
func TestTemplates(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	accessor := data(t, o.must(o.root, read, "sys/auth/door", ""))["accessor"].(string)
	o.policy("own", strings.ReplaceAll(`path "secret/data/{{identity.entity.aliases.ACC.name}}/*" { capabilities = ["create", "update", "read"] }
path "secret/data/teams/{{identity.entity.aliases.ACC.metadata.team}}" { capabilities = ["read"] }
path "secret/data/by-id/{{identity.entity.id}}" { capabilities = ["read"] }
path "secret/data/common" { capabilities = ["read"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create-orphan" { capabilities = ["update"] }`, "ACC", accessor))
	in := func(name, team string) (core.Caller, *core.Auth) {
		a := o.must(core.Caller{}, write, "auth/door/login/"+name, fmt.Sprintf(`{"policies": ["own"], "team": %q}`, team)).Auth
		return callerOf(a), a
	}
	may := func(c core.Caller, path string) bool {
		_, err := o.do(c, read, path, "")
		var e *core.Error
		return err == nil || errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_NOT_FOUND
	}
	ann, annAuth := in("ann", "red")
	bob, bobAuth := in("bob", "blue")
	again, againAuth := in("ann", "red")
	if annAuth.Token.EntityID != againAuth.Token.EntityID || annAuth.Token.EntityID == bobAuth.Token.EntityID {
		t.Errorf("entities: %q %q %q", annAuth.Token.EntityID, againAuth.Token.EntityID, bobAuth.Token.EntityID)
	}
	child := callerOf(o.must(ann, write, "auth/token/create", `{"meta": {"team": "blue"}}`).Auth)
	orphan := callerOf(o.must(ann, write, "auth/token/create-orphan", `{}`).Auth)
	star, _ := in("*", "*")
	for _, c := range []struct {
		name   string
		caller core.Caller
		may    []string
		mayNot []string
	}{
		{"ann", ann, []string{"ann/x", "teams/red", "common", "by-id/" + annAuth.Token.EntityID}, []string{"bob/x", "teams/blue", "by-id/" + bobAuth.Token.EntityID}},
		{"bob", bob, []string{"bob/x", "teams/blue", "common"}, []string{"ann/x", "teams/red"}},
		{"ann again", again, []string{"ann/x"}, []string{"bob/x"}},
		{"ann's child", child, []string{"ann/x", "teams/red"}, []string{"teams/blue"}},
		{"ann's orphan", orphan, []string{"common"}, []string{"ann/x", "teams/red"}},
		{"who is called *", star, []string{"common"}, []string{"ann/x", "*/x", "teams/red", "teams/*"}},
	} {
		for _, path := range c.may {
			if !may(c.caller, "secret/data/"+path) {
				t.Errorf("%s may not read %s", c.name, path)
			}
		}
		for _, path := range c.mayNot {
			if may(c.caller, "secret/data/"+path) {
				t.Errorf("%s may read %s", c.name, path)
			}
		}
	}
}

// An explanation decides as a request would, and names the rule.
func TestExplain(t *testing.T) {
	o := newOffice(t)
	o.policy("team", `path "secret/data/team/*" { capabilities = ["read"] }
path "secret/data/team/hidden" { capabilities = ["deny"] }
path "sys/auth/*" { capabilities = ["update"] }
path "secret/data/why" { capabilities = ["read"] required_reason = true }`)
	_, member := o.token(`{"policies": ["team"]}`)
	for _, c := range []struct {
		body    string
		allowed bool
		why     string
	}{
		{`"policies": "team", "capability": "read", "path": "secret/data/team/a"`, true, "granted"},
		{`"accessor": "` + member.Token.Accessor + `", "capability": "read", "path": "/secret/data/team/a"`, true, "granted"},
		{`"token": "` + string(member.Text) + `", "capability": "read", "path": "secret/data/team/hidden"`, false, "denied"},
		{`"policies": "team", "capability": "update", "path": "secret/data/team/a"`, false, "capability-missing"},
		{`"policies": "team,nosuch", "capability": "read", "path": "elsewhere"`, false, "no-rule"},
		{`"policies": "team", "capability": "update", "path": "sys/auth/new"`, false, "capability-missing"}, // sudo
		{`"policies": "team", "capability": "read", "path": "secret/data/why"`, false, "reason-required"},
		{`"policies": "team", "capability": "read", "path": "secret/data/why", "reason": "x"`, true, "granted"},
		{`"capability": "read", "path": "anything"`, true, "granted"}, // root's own
	} {
		e := data(t, o.must(o.root, write, "sys/policies/explain", "{"+c.body+"}"))
		d := e["decision"].(map[string]any)
		if d["allowed"] != c.allowed || d["why"] != c.why {
			t.Errorf("%s: %v", c.body, e)
		}
	}
	for _, body := range []string{`{}`, `{"capability": "read"}`, `{"capability": "own", "path": "a"}`, `{"token": "hvs.no", "capability": "read", "path": "a"}`,
		`{"token": "a", "policies": "b", "capability": "read", "path": "a"}`} {
		_, err := o.do(o.root, write, "sys/policies/explain", body)
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
	_, err := o.do(callerOf(member), write, "sys/policies/explain", `{"capability": "read", "path": "a"}`)
	wants(t, err, conclavev1.Reason_REASON_DENIED)
}

// After a rotation everything old opens, and what is new is sealed anew.
func TestRotation(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "secret/data/old", `{"data": {"k": "1"}}`)
	for term := 1; term < 4; term++ {
		if got := data(t, o.must(o.root, read, "sys/key-status", "")); got["term"] != float64(term) {
			t.Errorf("before rotation %d: %v", term, got)
		}
		batch := callerOf(o.must(o.root, write, "auth/token/create-orphan", `{"policies": ["default"], "type": "batch"}`).Auth)
		o.must(o.root, write, "sys/rotate", "")
		o.must(batch, read, "auth/token/lookup-self", "")
		o.must(o.root, write, "secret/data/new", `{"data": {"k": "2"}}`)
		for _, path := range []string{"secret/data/old", "secret/data/new"} {
			o.must(o.root, read, path, "")
		}
	}
	_, err := o.do(o.root, write, "sys/rotate/config", `{"enabled": true}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
}

// What lay in a mount that is gone is removed, and nothing else.
func TestDisabledMountsAreEmptied(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/mounts/a", `{"type": "kv", "options": {"version": "2"}}`)
	o.must(o.root, write, "sys/mounts/b", `{"type": "kv"}`)
	empty := o.rows()
	for i := range 300 {
		o.must(o.root, write, fmt.Sprintf("a/data/%d", i), `{"data": {"k": "v"}}`)
	}
	o.must(o.root, write, "b/x", `{"k": "v"}`)
	if o.rows() != empty+301 {
		t.Fatalf("%d rows after %d", o.rows(), empty)
	}
	o.must(o.root, engine.VerbDelete, "sys/mounts/a", "")
	for range 5 {
		o.single().Advance(time.Second)
	}
	if o.rows() != empty+1 {
		t.Errorf("%d rows are left, want %d", o.rows(), empty+1)
	}
	o.must(o.root, read, "b/x", "")
}

// A write that turns out to change nothing is no older than a read.
func TestWritesThatChangeNothingAreCurrent(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	old, err := o.single().View()
	if err != nil {
		t.Fatal(err)
	}
	o.must(o.root, engine.VerbDelete, "sys/auth/door", "")
	o.single().Stale(old)
	if r, err := o.do(core.Caller{}, write, "auth/door/login/ann", `{"type": "batch"}`); err == nil {
		t.Errorf("a login at a mount that is gone gives %v", r.Auth.Token.Policies)
	}
}

// A login that cannot be read is a bad request, whoever sends it.
func TestBadLoginsAreBadRequests(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	_, err := o.do(core.Caller{}, write, "auth/door/login/ann", `{"uses": "many"}`)
	wants(t, err, conclavev1.Reason_REASON_INVALID)
}

// The typed methods of secrets work on each kv mount with versions, and on no other.
func TestTypedSecretsOfMounts(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/mounts/team/a", `{"type": "kv", "options": {"version": "2"}}`)
	o.must(o.root, write, "sys/mounts/old", `{"type": "kv"}`)
	engine := &kv.Engine{}
	put := func(mount string) error {
		_, err := core.Call(t.Context(), o.pipeline, o.root, mount, engine.Put(), &conclavev1.PutSecretRequest{Path: "x",
			Data: map[string]*conclavev1.Field{"k": {Kind: &conclavev1.Field_Text{Text: mount}}}})
		return err
	}
	for _, mount := range []string{"secret/", "team/a/"} {
		if err := put(mount); err != nil {
			t.Errorf("%s: %v", mount, err)
		}
		if got := data(t, o.must(o.root, read, mount+"data/x", ""))["data"].(map[string]any); got["k"] != mount {
			t.Errorf("%s holds %v", mount, got)
		}
	}
	for _, mount := range []string{"old/", "cubbyhole/", "sys/", "auth/token/"} {
		wants(t, put(mount), conclavev1.Reason_REASON_INVALID)
	}
	for _, mount := range []string{"nosuch/", "team/", "team/a/b/"} {
		wants(t, put(mount), conclavev1.Reason_REASON_NOT_FOUND)
	}
}
