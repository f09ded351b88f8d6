package core_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The tests named TestAttack are what a hostile insider or outsider would try. Each
// that found a fault stays.

const enumerate = engine.VerbList

// lives tells whether a token is worth anything.
func (o *office) lives(c core.Caller) bool {
	o.t.Helper()
	_, err := o.do(c, read, "auth/token/lookup-self", "")
	var e *core.Error
	if err != nil && (!errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_UNAUTHENTICATED && e.Reason != conclavev1.Reason_REASON_DENIED) {
		o.t.Fatal(err)
	}
	return err == nil || e.Reason == conclavev1.Reason_REASON_DENIED
}

func (o *office) refused(c core.Caller, verb engine.Verb, path, body string) {
	o.t.Helper()
	if r, err := o.do(c, verb, path, body); err == nil {
		o.t.Errorf("%v %s %.200s succeeds: %+v", verb, path, body, r.Answer)
	}
}

// Compiled access lists are shared by name. No list of names passes for another.
func TestAttackAccessListsOfOthers(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/create/*" { capabilities = ["update"] }`)
	o.policy("prod-admin", `path "secret/*" { capabilities = ["read"] }`)
	o.policy("dev-a", `path "cubbyhole/x" { capabilities = ["read"] }`)
	o.must(o.root, write, "auth/token/roles/dev", `{"allowed_policies_glob": ["dev-*"]}`)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	o.must(o.root, write, "secret/data/prod", `{"data": {"k": "v"}}`)
	victim, _ := o.token(`{"policies": ["dev-a", "prod-admin"]}`)
	o.must(victim, read, "secret/data/prod", "")
	maker, _ := o.token(`{"policies": ["maker"]}`)
	for _, name := range []string{`dev-a\u0000prod-admin`, `dev-a:10:prod-admin`, `dev-a\u0000`, "dev-a\\n", "dev-\u00ad/../root"} {
		if r, err := o.do(maker, write, "auth/token/create/dev", `{"policies": ["`+name+`"]}`); err == nil {
			o.refused(callerOf(r.Auth), read, "secret/data/prod", "")
		}
		// A method that does not look at what it says is no way around it.
		body, err := json.Marshal(map[string]any{"policies": []string{strings.ReplaceAll(name, `\u0000`, "\x00")}})
		if err != nil {
			t.Fatal(err)
		}
		in := o.must(core.Caller{}, write, "auth/door/login/eve", string(body)).Auth
		o.refused(callerOf(in), read, "secret/data/prod", "")
	}
}

// The administration answers under its own path alone, where rules speak of it.
func TestAttackShadowMounts(t *testing.T) {
	o := newOffice(t)
	o.policy("team", `path "sys/mounts/team-x" { capabilities = ["update"] }
path "sys/auth/*" { capabilities = ["update", "sudo"] }
path "team-x/*" { capabilities = ["create", "update", "read"] }`)
	c, _ := o.token(`{"policies": ["team"]}`)
	for _, kind := range []string{"system", "cubbyhole", "token"} {
		o.refused(c, write, "sys/mounts/team-x", `{"type": "`+kind+`"}`)
		o.refused(c, write, "sys/auth/team-x", `{"type": "`+kind+`"}`)
		o.refused(c, write, "team-x/policies/acl/team", `{"policy": "path \"*\" { capabilities = [\"sudo\", \"update\"] }"}`)
	}
	for _, path := range []string{"sys", "sys/", "sys/x", "auth", "auth/x", "secret", "secret/data", "cubbyhole", "cubbyhole/x", "auth/token", "*", "+", "a*", "a/+/b",
		"a\u202eb", "a\u200bb", "..", "x/..", "x//y", "a\x00"} {
		o.refused(o.root, write, "sys/mounts/"+path, `{"type": "kv"}`)
	}
	for _, path := range []string{"token", "token/x", "+", "a*", "..", "x\u202e"} {
		o.refused(o.root, write, "sys/auth/"+path, `{"type": "door"}`)
	}
	o.must(o.root, write, "sys/auth/x/y", `{"type": "door"}`)
	o.refused(o.root, write, "sys/auth/x", `{"type": "door"}`)
	o.refused(o.root, write, "sys/auth/x/y/z", `{"type": "door"}`)
	for _, m := range [][2]string{{"secret", "sys/x"}, {"secret", "auth/x"}, {"secret", "cubbyhole/x"}, {"auth/x/y", "auth/token/y"}, {"sys", "foo"}, {"/sys/", "foo"},
		{"sys//", "foo"}, {"auth/token", "auth/t"}, {"cubbyhole", "c"}, {"secret", "a*"}, {"secret", "+"}, {"auth/x/y", "auth/"}, {"auth/x/y", "x"}, {"nosuch", "y"}} {
		o.refused(o.root, write, "sys/remount", fmt.Sprintf(`{"from": %q, "to": %q}`, m[0], m[1]))
	}
}

// When a mount is disabled its tokens are worth nothing at once, however many, and
// those that they made, stored or not.
func TestAttackTokensOfADisabledMount(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	o.policy("maker", `path "auth/token/*" { capabilities = ["update", "read"] }`)
	var all []core.Caller
	for i := range 600 { // more than one entry ends
		in := callerOf(o.must(core.Caller{}, write, fmt.Sprintf("auth/door/login/u%d", i), `{"policies": "maker"}`).Auth)
		all = append(all, in)
		if i > 590 {
			child := callerOf(o.must(in, write, "auth/token/create", `{}`).Auth)
			all = append(all, child, callerOf(o.must(child, write, "auth/token/create", `{}`).Auth),
				callerOf(o.must(child, write, "auth/token/create", `{"type": "batch"}`).Auth))
		}
	}
	orphan := callerOf(o.must(all[599], write, "auth/token/create-orphan", `{}`).Auth)
	for _, c := range all {
		if !o.lives(c) {
			t.Fatal("a token is dead before its mount is disabled")
		}
	}
	o.ledger.before = func() { o.must(o.root, engine.VerbDelete, "sys/auth/door", "") }
	o.refused(all[0], write, "auth/token/create", `{}`) // the mount goes between its decision and its order
	alive := 0
	for _, c := range all {
		if o.lives(c) {
			alive++
		}
	}
	if alive > 0 || !o.lives(orphan) {
		t.Errorf("%d of %d tokens outlive their mount; the orphan lives: %v", alive, len(all), o.lives(orphan))
	}
}

// What is listed is a directory: rules that end in a slash speak of it, however the
// request spells it.
func TestAttackListings(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "secret/data/team/x", `{"data": {"k": "v"}}`)
	for policy, may := range map[string]bool{
		`path "secret/metadata/*" { capabilities = ["list"] } path "secret/metadata/team/" { capabilities = ["deny"] }`:  false,
		`path "secret/metadata/*" { capabilities = ["list"] } path "secret/metadata/team" { capabilities = ["deny"] }`:   false,
		`path "secret/metadata/+/" { capabilities = ["list"] } path "secret/metadata/team/" { capabilities = ["deny"] }`: false,
		`path "secret/metadata/team/x" { capabilities = ["list"] }`:                                                      false,
		`path "secret/metadata/team/" { capabilities = ["read"] } path "secret/metadata/*" { capabilities = ["list"] }`:  false,
		`path "secret/metadata/team/" { capabilities = ["list"] }`:                                                       true,
		`path "secret/metadata/team" { capabilities = ["list"] }`:                                                        true,
		`path "secret/metadata/team/*" { capabilities = ["list"] }`:                                                      true,
		`path "secret/metadata/+/" { capabilities = ["list"] }`:                                                          true,
		`path "secret/metadata/te*" { capabilities = ["list"] }`:                                                         true,
	} {
		o.policy("p", policy)
		c, _ := o.token(`{"policies": "p"}`)
		_, err := o.do(c, enumerate, "secret/metadata/team", "")
		if (err == nil) != may {
			t.Errorf("%s: a listing ends with %v", policy, err)
		}
		e := data(t, o.must(o.root, write, "sys/policies/explain", `{"policies": "p", "capability": "list", "path": "secret/metadata/team"}`))
		if e["decision"].(map[string]any)["allowed"] != may {
			t.Errorf("%s: explained as %v", policy, e)
		}
	}
}

// A token with a number of uses makes no others: they would have none.
func TestAttackUses(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/*" { capabilities = ["create", "update", "read", "sudo"] }
path "cubbyhole/*" { capabilities = ["create", "read"] }`)
	o.must(o.root, write, "auth/token/roles/any", `{"orphan": true}`)
	for _, path := range []string{"create", "create-orphan", "create/any"} {
		for _, body := range []string{`{}`, `{"type": "batch"}`, `{"no_parent": true}`, `{"num_uses": 1}`} {
			c, _ := o.token(`{"policies": "maker", "num_uses": 3}`)
			o.refused(c, write, "auth/token/"+path, body)
		}
	}
	for uses := 1; uses < 4; uses++ { // to end oneself is a use, too
		for _, end := range []string{"revoke-self", "revoke-orphan"} {
			c, a := o.token(fmt.Sprintf(`{"policies": "maker", "num_uses": %d}`, uses))
			o.must(c, write, "auth/token/"+end, `{"token": "`+string(a.Text)+`"}`)
			if o.lives(c) {
				t.Errorf("a token with %d uses outlives %s", uses, end)
			}
		}
	}
	// At once, no more than there are succeed.
	c, _ := o.token(`{"policies": "maker", "num_uses": 7}`)
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		done int
	)
	for i := range 40 {
		wait.Go(func() {
			verb, path, body := read, "auth/token/lookup-self", ""
			if i%2 == 0 {
				verb, path, body = write, fmt.Sprintf("cubbyhole/%d", i), `{"k": "v"}`
			}
			if _, err := o.do(c, verb, path, body); err == nil {
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if done != 7 || o.lives(c) {
		t.Errorf("%d requests succeed with 7 uses", done)
	}
}

// A root token that ends makes none that does not.
func TestAttackRootForEver(t *testing.T) {
	o := newOffice(t)
	temporary, _ := o.token(`{"policies": "root", "ttl": "1h"}`)
	for _, path := range []string{"create", "create-orphan"} {
		o.refused(temporary, write, "auth/token/"+path, `{"policies": "root"}`)
		o.refused(temporary, write, "auth/token/"+path, `{}`)
		if a := o.must(temporary, write, "auth/token/"+path, `{"policies": "root", "ttl": "2h"}`).Auth; a.TTL != 2*time.Hour {
			t.Errorf("%s makes a root token for %v", path, a.TTL)
		}
	}
}

// Who may log in and make tokens from some addresses makes none for others.
func TestAttackAddresses(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/*" { capabilities = ["update", "read"] }`)
	o.must(o.root, write, "auth/token/roles/bound", `{"token_bound_cidrs": "10.0.0.0/8", "allowed_policies": "maker"}`)
	o.must(o.root, write, "auth/token/roles/free", `{"orphan": true}`)
	from := func(a *core.Auth, address string) core.Caller {
		c := callerOf(a)
		if address != "" {
			c.Address = netip.MustParseAddr(address)
		}
		return c
	}
	bound := o.must(o.root, write, "auth/token/create/bound", `{}`).Auth
	for _, address := range []string{"", "11.0.0.1", "::1", "::a00:1"} {
		if o.lives(from(bound, address)) {
			t.Errorf("the token can be used from %q", address)
		}
	}
	inside := from(bound, "::ffff:10.1.1.1") // the same address, spelled otherwise
	for _, path := range []string{"create", "create-orphan", "create/free"} {
		for _, kind := range []string{"service", "batch"} {
			made := o.must(inside, write, "auth/token/"+path, `{"type": "`+kind+`"}`).Auth
			if o.lives(from(made, "11.0.0.1")) || o.lives(from(made, "")) || !o.lives(from(made, "10.9.9.9")) {
				t.Errorf("%s makes a %s token for %v", path, kind, made.Token.BoundCidrs)
			}
		}
	}
}

// A batch token is what this cluster sealed as one, in one spelling.
func TestAttackBatchTokens(t *testing.T) {
	o, other := newOffice(t), newOffice(t)
	o.policy("maker", `path "auth/token/*" { capabilities = ["update", "read"] }`)
	a := o.must(o.root, write, "auth/token/create-orphan", `{"policies": "maker", "type": "batch"}`).Auth
	b := o.must(o.root, write, "auth/token/create-orphan", `{"policies": "default", "type": "batch"}`).Auth
	try := func(what, text string) {
		t.Helper()
		if o.lives(core.Caller{Token: redact.New([]byte(text))}) {
			t.Errorf("%s is a token: %.40s…", what, text)
		}
	}
	text := string(a.Text)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "hvb."))
	if err != nil {
		t.Fatal(err)
	}
	spell := func(raw []byte) string { return "hvb." + base64.RawURLEncoding.EncodeToString(raw) }
	if !o.lives(callerOf(a)) || spell(raw) != text {
		t.Fatal("the token itself is none")
	}
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			flipped := slices.Clone(raw)
			flipped[i] ^= bit
			try(fmt.Sprintf("the token with bit %d of byte %d flipped", bit, i), spell(flipped))
		}
		try("a part of the token", spell(raw[:i]))
	}
	rawB, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(string(b.Text), "hvb."))
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < min(len(raw), len(rawB)); cut++ {
		if !slices.Equal(raw[:cut], rawB[:cut]) { // the format's number and that of the key
			try("half of one token and half of another", spell(append(slices.Clone(raw[:cut]), rawB[cut:]...)))
		}
	}
	for _, odd := range []string{text + "=", text + "\n", text[:20] + "\r\n" + text[20:], "hvb." + base64.RawStdEncoding.EncodeToString(raw) + "=", " " + text, strings.ToUpper(text)} {
		try("another spelling", odd)
	}
	if last := len(text) - 1; len(raw)%3 != 0 { // bits of the last letter that say nothing
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		for _, l := range letters {
			if byte(l) != text[last] {
				try("another last letter", text[:last]+string(l))
			}
		}
	}
	try("a token of another cluster", string(other.must(other.root, write, "auth/token/create-orphan", `{"policies": "default", "type": "batch"}`).Auth.Text))
	// What lies in the ledger is sealed to where it lies.
	view, err := o.ledger.View()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := view.Keys(fsm.Records, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for keys.Next() {
		r, err := view.Record(keys.Key())
		if err != nil {
			t.Fatal(err)
		}
		if r != nil && len(r.Value) < 2<<10 {
			try("a row of the ledger", spell(r.Value))
			rows++
		}
	}
	if err := errors.Join(keys.Close(), view.Close()); err != nil || rows < 5 {
		t.Fatalf("%d rows, %v", rows, err)
	}
}

// Wrapping tokens and tokens are no use in each other's place, and what one opens
// once stays opened.
func TestAttackWrapping(t *testing.T) {
	o := newOffice(t)
	wrapped := func(c core.Caller, verb engine.Verb, path, body string) *core.WrapInfo {
		t.Helper()
		q := core.Request{Verb: verb, Path: path, WrapTTL: time.Hour, Raw: []byte(body)}
		if body != "" {
			if err := json.Unmarshal([]byte(body), &q.Input.Body); err != nil {
				t.Fatal(err)
			}
		}
		r, err := o.pipeline.Serve(t.Context(), c, q)
		if err != nil {
			t.Fatal(err)
		}
		if r.Data != nil || r.Auth != nil || r.Wrap == nil {
			t.Fatalf("a wrapped answer shows %+v", r)
		}
		return r.Wrap
	}
	powerless, none := o.token(`{"policies": "default"}`)
	w := wrapped(o.root, write, "auth/token/create", `{"policies": "root"}`)
	as := core.Caller{Token: w.Token}
	for _, path := range []string{"auth/token/lookup-self", "sys/mounts", "cubbyhole/x"} {
		_, err := o.do(as, read, path, "")
		wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	}
	o.refused(o.root, write, "auth/token/lookup", fmt.Sprintf(`{"token": %q}`, w.Token.Expose()))
	o.refused(o.root, write, "auth/token/lookup-accessor", `{"accessor": "`+w.Accessor+`"}`)
	o.refused(o.root, write, "sys/capabilities", fmt.Sprintf(`{"token": %q, "paths": "sys/mounts"}`, w.Token.Expose()))
	for _, no := range []string{string(none.Text), w.Accessor, string(o.root.Token.Expose()), "", "hvs.", strings.Repeat("x", 5000)} {
		for _, path := range []string{"unwrap", "rewrap", "lookup"} {
			o.refused(core.Caller{}, write, "sys/wrapping/"+path, fmt.Sprintf(`{"token": %q}`, no))
		}
	}
	o.refused(powerless, write, "sys/wrapping/unwrap", "") // its own token wraps nothing
	// Only one of those who open it at once has it.
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		got  []*core.Reply
	)
	for i := range 20 {
		wait.Go(func() {
			path := "sys/wrapping/unwrap"
			if i%4 == 0 {
				path = "sys/wrapping/rewrap"
			}
			if r, err := o.do(as, write, path, ""); err == nil {
				mu.Lock()
				got = append(got, r)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(got) != 1 {
		t.Fatalf("%d opened it", len(got))
	}
	if again := got[0].Wrap; again != nil {
		got[0] = o.must(core.Caller{Token: again.Token}, write, "sys/wrapping/unwrap", "")
	}
	if made := got[0].Auth; made == nil || made.Token.Accessor == "" {
		t.Errorf("what was unwrapped is not the whole token: %+v", got[0])
	} else {
		o.must(o.root, write, "auth/token/lookup-accessor", `{"accessor": "`+made.Token.Accessor+`"}`)
	}
	if made := got[0].Auth; made == nil || !o.lives(callerOf(made)) {
		t.Errorf("it held %+v", got[0])
	}
	// What is too large to wrap is told so.
	large := engine.Object{"k": json.RawMessage(`"` + strings.Repeat("x", 5<<20) + `"`)}
	_, err := o.pipeline.Serve(t.Context(), o.root, core.Request{Verb: write, Path: "sys/wrapping/wrap", WrapTTL: time.Hour, Input: engine.Input{Body: large}})
	wants(t, err, conclavev1.Reason_REASON_TOO_LARGE)
}

// A cubbyhole is one token's: not its parent's, its child's, root's, nor that of a
// later token with the same text.
func TestAttackCubbyholes(t *testing.T) {
	o := newOffice(t)
	parent, _ := o.token(`{"policies": "root", "id": "chosen"}`)
	child := callerOf(o.must(parent, write, "auth/token/create", `{"policies": "root"}`).Auth)
	for i := range 300 { // more than one entry removes
		o.must(parent, write, fmt.Sprintf("cubbyhole/a/%d", i), `{"k": "v"}`)
	}
	for _, c := range []core.Caller{child, o.root} {
		_, err := o.do(c, read, "cubbyhole/a/0", "")
		wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
		_, err = o.do(c, enumerate, "cubbyhole", "")
		wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
		_, err = o.do(c, read, "cubbyhole/../a/0", "")
		wants(t, err, conclavev1.Reason_REASON_INVALID)
	}
	o.must(parent, write, "auth/token/revoke-self", "")
	var again core.Caller
	for range 10 { // the name is free when all of the earlier holder is gone
		r, err := o.do(o.root, write, "auth/token/create", `{"policies": "root", "id": "chosen"}`)
		if err == nil {
			again = callerOf(r.Auth)
			break
		}
		o.single().Advance(time.Second)
	}
	_, err := o.do(again, enumerate, "cubbyhole/a", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
	_, err = o.do(again, read, "cubbyhole/a/299", "")
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// An accessor is no capability: it takes the right to the path that it is sent to.
func TestAttackAccessors(t *testing.T) {
	o := newOffice(t)
	root := o.must(o.root, read, "auth/token/lookup-self", "")
	accessor := data(t, root)["accessor"].(string)
	powerless, _ := o.token(`{"policies": "default"}`)
	for _, path := range []string{"auth/token/lookup-accessor", "auth/token/renew-accessor", "auth/token/revoke-accessor", "sys/capabilities-accessor", "sys/policies/explain"} {
		_, err := o.do(powerless, write, path, `{"accessor": "`+accessor+`", "paths": "x", "path": "x", "capability": "read"}`)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	_, err := o.do(core.Caller{Token: redact.New([]byte(accessor))}, read, "auth/token/lookup-self", "")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	shown := data(t, o.must(o.root, write, "auth/token/lookup-accessor", `{"accessor": "`+accessor+`"}`))
	if shown["id"] != "" {
		t.Errorf("an accessor leads to the token: %v", shown)
	}
}

// What is read before anybody is known costs in proportion to what was sent.
func TestAttackBodies(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, write, "sys/auth/door", `{"type": "door"}`)
	var fields strings.Builder
	fields.WriteString(`{"a":1`)
	for i := 0; fields.Len() < 8<<20; i++ {
		fmt.Fprintf(&fields, `,"%x":1`, i)
	}
	fields.WriteString("}")
	many := strings.Repeat("1,", 4<<20)
	for name, c := range map[string][2]string{
		"text of a list":    {"auth/token/create", `{"policies": "` + many + `"}`},
		"list":              {"auth/token/create", `{"policies": [` + many + `1]}`},
		"list in the open":  {"auth/door/login/x", `{"policies": [` + many + `1]}`},
		"fields":            {"secret/data/x", fields.String()},
		"fields of a field": {"secret/data/x", `{"data": ` + fields.String() + `}`},
		"map":               {"auth/token/create", `{"meta": ` + fields.String() + `}`},
		"pairs":             {"auth/token/create", `{"meta": "` + strings.Repeat("a=1,", 2<<20) + `"}`},
		"numbers":           {"secret/delete/x", `{"versions": [` + many + `1]}`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		body, err := engine.ParseBody([]byte(c[1]))
		if err == nil {
			_, err = o.pipeline.Serve(t.Context(), core.Caller{}, core.Request{Verb: write, Path: c[0], Input: engine.Input{Body: body}})
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 12*uint64(len(c[1])) {
			t.Errorf("%s: %d bytes take %d MiB, and end with %v", name, len(c[1]), took>>20, err)
		}
	}
}

// An oracle for what a token may be, by the rules of package sys's documentation.
type wish struct {
	Policies        []string `json:"policies,omitempty"`
	NoParent        bool     `json:"no_parent,omitempty"`
	NoDefaultPolicy bool     `json:"no_default_policy,omitempty"`
	ID              string   `json:"id,omitempty"`
	TTL             int      `json:"ttl,omitempty"`
	ExplicitMaxTTL  int      `json:"explicit_max_ttl,omitempty"`
	Period          int      `json:"period,omitempty"`
	NumUses         int      `json:"num_uses,omitempty"`
	Type            string   `json:"type,omitempty"`
	EntityAlias     string   `json:"entity_alias,omitempty"`
	Renewable       *bool    `json:"renewable,omitempty"`
	Lease           int      `json:"lease,omitempty"`
}

type roleRow struct {
	Allowed    []string `json:"allowed_policies,omitempty"`
	Disallowed []string `json:"disallowed_policies,omitempty"`
	Glob       []string `json:"allowed_policies_glob,omitempty"`
	NotGlob    []string `json:"disallowed_policies_glob,omitempty"`
	Aliases    []string `json:"allowed_entity_aliases,omitempty"`
	Orphan     bool     `json:"orphan,omitempty"`
	Renewable  bool     `json:"renewable"`
	Period     int      `json:"token_period,omitempty"`
	Explicit   int      `json:"token_explicit_max_ttl,omitempty"`
	Uses       int      `json:"token_num_uses,omitempty"`
	NoDefault  bool     `json:"token_no_default_policy,omitempty"`
	Type       string   `json:"token_type,omitempty"`
}

// Whatever a caller asks for, no token has more than the caller, or the role, allows.
func TestAttackTokenCreation(t *testing.T) {
	o := newOffice(t)
	o.policy("create", `path "auth/token/create" { capabilities = ["update"] } path "auth/token/create/*" { capabilities = ["update"] }`)
	o.policy("orphan", `path "auth/token/create-orphan" { capabilities = ["update"] }`)
	o.policy("sudo", `path "auth/token/create" { capabilities = ["update", "sudo"] }`)
	callers := []struct {
		name         string
		caller       core.Caller
		policies     []string
		sudo, orphan bool
	}{{name: "root", caller: o.root, policies: []string{"root"}, sudo: true, orphan: true}}
	for _, names := range [][]string{{"create"}, {"create", "default"}, {"create", "orphan", "web"}, {"create", "default", "sudo"}, {"create", "orphan", "sudo", "web"}} {
		body, err := json.Marshal(map[string]any{"policies": names, "no_default_policy": true})
		if err != nil {
			t.Fatal(err)
		}
		c, a := o.token(string(body))
		if !slices.Equal(a.Token.Policies, names) {
			t.Fatalf("asked for %v, got %v", names, a.Token.Policies)
		}
		callers = append(callers, struct {
			name         string
			caller       core.Caller
			policies     []string
			sudo, orphan bool
		}{strings.Join(names, "+"), c, names, slices.Contains(names, "sudo"), slices.Contains(names, "orphan")})
	}
	dice := rand.New(rand.NewPCG(3, 141))
	pick := func(from ...string) string { return from[dice.IntN(len(from))] }
	some := func(from ...string) (out []string) {
		for range dice.IntN(3) {
			out = append(out, pick(from...))
		}
		return out
	}
	seconds := func() int { return []int{0, 0, 0, 60, 3600, 40 * 24 * 3600, 400 * 24 * 3600}[dice.IntN(7)] }
	names := []string{"root", "ROOT", "Root ", "default", "web", "Web", "team-a", "team-admin", "create", "sudo", "orphan", "\u212a", "x\x00default", "a/../root", "nosuch"}
	mountMax, made := core.SystemTTL, map[string]int{}
	for i := range 4000 {
		c := callers[dice.IntN(len(callers))]
		w := wish{Policies: some(names...), NoParent: dice.IntN(6) == 0, NoDefaultPolicy: dice.IntN(3) == 0, TTL: seconds(), ExplicitMaxTTL: seconds(),
			NumUses: []int{0, 0, 0, 1, 5, -1}[dice.IntN(6)], Type: pick("", "", "", "service", "batch", "default", "BATCH"), Lease: seconds()}
		if dice.IntN(6) == 0 {
			w.Period = seconds()
		}
		if dice.IntN(12) == 0 {
			w.ID = fmt.Sprintf("chosen-%d", i)
		}
		if dice.IntN(12) == 0 {
			w.EntityAlias = pick("app-1", "App-2", "other")
		}
		if dice.IntN(4) == 0 {
			yes := dice.IntN(2) == 0
			w.Renewable = &yes
		}
		path, role := pick("auth/token/create", "auth/token/create", "auth/token/create-orphan", "auth/token/create/role"), (*roleRow)(nil)
		if path == "auth/token/create/role" {
			role = &roleRow{Allowed: some("web", "team-a", "default", "Create", "root"), Disallowed: some("web", "default", "sudo"), Glob: some("team-*", "*", "w?b"), NotGlob: some("*-admin", "s*"),
				Aliases: some("app-*"), Orphan: dice.IntN(2) == 0, Renewable: dice.IntN(2) == 0, NoDefault: dice.IntN(3) == 0, Type: pick("", "service", "batch", "default-batch"),
				Period: []int{0, 0, 600, 400 * 24 * 3600}[dice.IntN(4)], Explicit: []int{0, 0, 900, 7200}[dice.IntN(4)], Uses: []int{0, 0, 3}[dice.IntN(3)]}
			body, err := json.Marshal(role)
			if err != nil {
				t.Fatal(err)
			}
			o.must(o.root, engine.VerbDelete, "auth/token/roles/role", "")
			if _, err := o.do(o.root, write, "auth/token/roles/role", string(body)); err != nil {
				continue // it contradicts itself
			}
		}
		body, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		r, err := o.do(c.caller, write, path, string(body))
		if err != nil {
			var e *core.Error
			if !errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_INVALID && e.Reason != conclavev1.Reason_REASON_DENIED {
				t.Errorf("%s %s %s %+v: %v", c.name, path, body, role, err)
			}
			continue
		}
		made[path]++
		self := callerOf(r.Auth)
		shown := r.Auth.Token
		for _, wrong := range judge(c.policies, c.sudo, c.orphan, path, w, role, r.Auth, mountMax) {
			t.Errorf("%s %s %s %+v\nmakes %v\nwhich %s", c.name, path, body, role, shown, wrong)
		}
		if shown.UsesLeft == 0 && !o.lives(self) {
			t.Errorf("%s %s %s makes a token that is none", c.name, path, body)
		}
	}
	for _, path := range []string{"auth/token/create", "auth/token/create-orphan", "auth/token/create/role"} {
		if made[path] < 100 {
			t.Errorf("only %d tokens were made by %s", made[path], path)
		}
	}
}

// judge lists what a token has that it may not have.
func judge(own []string, sudo, mayOrphan bool, path string, w wish, role *roleRow, a *core.Auth, mountMax time.Duration) (wrong []string) {
	not := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	isRoot := slices.Contains(own, "root")
	k := a.Token
	for _, p := range k.Policies {
		allowed := slices.Contains(own, p) || sudo && p != "root"
		if role != nil {
			limited := len(role.Allowed)+len(role.Glob) > 0
			matches := func(patterns []string) bool {
				return slices.ContainsFunc(patterns, func(g string) bool {
					head, tail, _ := strings.Cut(g, "*")
					if g == "w?b" {
						return len(p) == 3 && p[0] == 'w' && p[2] == 'b'
					}
					return len(p) >= len(head)+len(tail) && strings.HasPrefix(p, head) && strings.HasSuffix(p, tail) && !strings.Contains(p, "/")
				})
			}
			folded := func(list []string) bool {
				return slices.ContainsFunc(list, func(n string) bool { return strings.ToLower(n) == p })
			}
			allowed = slices.Contains(own, p) || isRoot
			if limited {
				allowed = folded(role.Allowed) || matches(role.Glob)
			}
			allowed = allowed || p == "default" && !role.NoDefault && !w.NoDefaultPolicy
			allowed = allowed && !folded(role.Disallowed) && !matches(role.NotGlob) && p != "root"
		}
		not(!allowed, "has the policy %q", p)
	}
	not(k.Root != slices.Contains(k.Policies, "root"), "is root: %v", k.Root)
	not(role != nil && k.Root, "is a root token by a role")
	if role == nil {
		not(k.Orphan && !sudo && !(path == "auth/token/create-orphan" && mayOrphan), "is an orphan")
		not(k.Period.AsDuration() > 0 && !sudo, "has the period %v", k.Period.AsDuration())
	} else {
		not(k.Orphan && !role.Orphan, "is an orphan")
		not(k.Period.AsDuration() > time.Duration(role.Period)*time.Second, "has the period %v", k.Period.AsDuration())
		not(k.Renewable && !role.Renewable, "can be renewed")
		not(role.Uses > 0 && a.Token.Type() == "service" && (k.UsesLeft == 0 || k.UsesLeft > uint64(role.Uses)), "has %d uses", k.UsesLeft)
		not(role.Explicit > 0 && a.TTL > time.Duration(role.Explicit)*time.Second, "lives for %v", a.TTL)
		not(role.Type == "batch" != (a.Token.Type() == "batch") && (role.Type == "batch" || role.Type == "service"), "is a %s token", a.Token.Type())
	}
	not(w.NumUses > 0 && (k.UsesLeft == 0 || k.UsesLeft > uint64(w.NumUses)), "has %d uses", k.UsesLeft)
	not(w.ID != "" && !sudo, "has a chosen text")
	not(w.Renewable != nil && !*w.Renewable && k.Renewable, "can be renewed")
	not(k.EntityID != "" && (role == nil || w.EntityAlias == "" || len(role.Aliases) == 0 || !strings.HasPrefix(strings.ToLower(w.EntityAlias), "app-")), "belongs to somebody")
	not(a.TTL > mountMax || a.TTL == 0 && !k.Root, "lives for %v", a.TTL)
	not(w.ExplicitMaxTTL > 0 && (a.TTL == 0 || a.TTL > time.Duration(w.ExplicitMaxTTL)*time.Second), "lives for %v", a.TTL)
	not(a.Token.Type() == "batch" && (k.Root || k.Period.AsDuration() > 0 || k.UsesLeft > 0 || k.Renewable || k.Accessor != ""), "is a batch token")
	return wrong
}

// However often it is renewed, a token does not outlive its maximum, nor its parent.
func TestAttackRenewals(t *testing.T) {
	o := newOffice(t)
	o.policy("maker", `path "auth/token/*" { capabilities = ["update", "read"] }`)
	o.must(o.root, write, "sys/auth/token/tune", `{"max_lease_ttl": "10h"}`)
	o.must(o.root, write, "auth/token/roles/p", `{"token_period": "100h", "token_explicit_max_ttl": "100h", "allowed_policies": "maker"}`)
	for name, c := range map[string]struct {
		path, body string
		life       time.Duration
	}{
		"mount":    {"create", `{"policies": "maker", "ttl": "8h"}`, 10 * time.Hour},
		"explicit": {"create", `{"policies": "maker", "ttl": "1h", "explicit_max_ttl": "3h"}`, 3 * time.Hour},
		"long":     {"create", `{"policies": "maker", "ttl": "900h", "explicit_max_ttl": "800h"}`, 10 * time.Hour},
		"period":   {"create/p", `{}`, 100 * time.Hour},
	} {
		made := o.must(o.root, write, "auth/token/"+c.path, c.body).Auth
		token, began, life := callerOf(made), o.now(), time.Duration(0)
		child := callerOf(o.must(token, write, "auth/token/create", `{"ttl": "9h"}`).Auth)
		for o.lives(token) && life < 200*time.Hour {
			if _, err := o.do(token, write, "auth/token/renew-self", `{"increment": "99999h"}`); err != nil {
				t.Fatal(name, err)
			}
			if o.lives(child) {
				if _, err := o.do(child, write, "auth/token/renew-self", `{"increment": "99999h"}`); err != nil {
					t.Fatal(name, err)
				}
			}
			o.single().Advance(30 * time.Minute)
			life = o.now().Sub(began)
		}
		if life > c.life || life < c.life-time.Hour || o.lives(child) {
			t.Errorf("%s: it lived for %v, want %v; its child lives: %v", name, life, c.life, o.lives(child))
		}
	}
}

// now is the log time.
func (o *office) now() time.Time {
	o.t.Helper()
	view, err := o.ledger.View()
	if err != nil {
		o.t.Fatal(err)
	}
	now := view.Time().Time()
	if err := view.Close(); err != nil {
		o.t.Fatal(err)
	}
	return now
}
