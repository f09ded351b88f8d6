package approle_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/auth/approle"
	"github.com/conclave-secrets/conclave/auth/authtest"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

const (
	roleID   = "11111111-aaaa-4bbb-8ccc-222222222222"
	secretID = "chosen-secret-77aa"
)

func login(role, secret string) authtest.Request {
	return authtest.Write("login", fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, role, secret))
}

// The method keeps the contract of an auth method.
func TestContract(t *testing.T) {
	write, read, del := authtest.Write, authtest.Read, authtest.Delete
	spec := authtest.Spec{
		Backend: approle.Backend{},
		Prepare: []authtest.Request{
			write("role/web", `{"role_id":"`+roleID+`","token_policies":"web","token_ttl":"1h"}`),
			write("role/web/custom-secret-id", `{"secret_id":"`+secretID+`"}`),
			write("role/few", `{"role_id":"few-id","secret_id_num_uses":3,"secret_id_ttl":"1h"}`),
			write("role/few/custom-secret-id", `{"secret_id":"few-secret"}`),
			write("role/open", `{"role_id":"open-id","bind_secret_id":false,"secret_id_bound_cidrs":"192.0.2.0/24"}`),
		},
		Good: login(roleID, secretID),
		Wrong: []authtest.Request{login(roleID, "wrong"), login(roleID, ""), login("few-id", "wrong"), login("few-id", secretID),
			login(roleID, strings.Repeat("x", 5000))},
		Unknown: []authtest.Request{login("no-such-role", "wrong"), login("no-such-role", ""), login("nobody", "few-secret"),
			login("nobody", secretID), login("nobody", strings.Repeat("x", 5000))},
		Secrets: []string{secretID, "few-secret"},
		Requests: []authtest.Request{
			login("few-id", "few-secret"), login("open-id", ""), login("", "x"),
			authtest.List("role"), read("role/web"), read("role/none"), write("role/new", `{"token_policies":["a"],"local_secret_ids":true}`),
			write("role/web", `{"token_max_ttl":"2h","role_id":"other"}`), write("role/few", `{"role_id":"`+roleID+`"}`),
			del("role/web"), del("role/none"), read("role/web/role-id"), write("role/web/role-id", `{"role_id":"mine"}`),
			write("role/web/secret-id", `{"metadata":"{\"k\":\"v\"}","ttl":"5m","num_uses":2,"cidr_list":"10.0.0.0/8","token_bound_cidrs":"10.0.0.1"}`),
			authtest.List("role/web/secret-id"), write("role/web/custom-secret-id", `{"secret_id":"another"}`),
			write("role/web/secret-id/lookup", `{"secret_id":"`+secretID+`"}`), write("role/web/secret-id/lookup", `{"secret_id":"none"}`),
			write("role/web/secret-id/destroy", `{"secret_id":"`+secretID+`"}`), {Verb: engine.VerbDelete, Path: "role/web/secret-id/destroy", Body: `{"secret_id":"none"}`}, del("role/web/secret-id/destroy"),
			write("role/web/secret-id-accessor/lookup", `{"secret_id_accessor":"none"}`),
			write("role/web/secret-id-accessor/destroy", `{"secret_id_accessor":"none"}`), del("role/web/secret-id-accessor/destroy"),
			write("tidy/secret-id", ""),
		},
	}
	for path, body := range map[string]string{
		"policies": `{"token_policies":"a"}`, "bind-secret-id": `{"bind_secret_id":"true"}`, "secret-id-bound-cidrs": `{"secret_id_bound_cidrs":"10.0.0.0/8"}`,
		"bound-cidr-list": `{"bound_cidr_list":["10.0.0.0/8"]}`, "secret-id-num-uses": `{"secret_id_num_uses":"5"}`, "secret-id-ttl": `{"secret_id_ttl":"5m"}`,
		"token-bound-cidrs": `{"token_bound_cidrs":"10.0.0.0/8"}`, "token-num-uses": `{"token_num_uses":5}`, "token-ttl": `{"token_ttl":60}`,
		"token-max-ttl": `{"token_max_ttl":"2h"}`, "period": `{"period":"2h"}`, "local-secret-ids": "",
	} {
		spec.Requests = append(spec.Requests, read("role/web/"+path))
		if body != "" {
			spec.Requests = append(spec.Requests, write("role/web/"+path, body), del("role/web/"+path))
		}
	}
	accessor := accessorOf(t, spec.Prepare)
	spec.Requests = append(spec.Requests, write("role/web/secret-id-accessor/lookup", accessor), write("role/web/secret-id-accessor/destroy", accessor),
		authtest.Request{Verb: engine.VerbDelete, Path: "role/web/secret-id-accessor/destroy", Body: accessor})
	authtest.Test(t, spec)
}

// accessorOf returns a body with the accessor of the secret id of the role web, as
// the same requests make it in the suite.
func accessorOf(t *testing.T, prepare []authtest.Request) string {
	t.Helper()
	m := authtest.NewMount(t, approle.Backend{}, nil)
	m.Must(t, authtest.Dice(1), prepare...)
	keys := authtest.Data(t, m.Must(t, authtest.Dice(2), authtest.List("role/web/secret-id")))["keys"].([]any)
	return fmt.Sprintf(`{"secret_id_accessor":%q}`, keys[0])
}

// What clients see, call by call.
func TestStories(t *testing.T) {
	authtest.Stories(t, "testdata", func() engine.Backend { return approle.Backend{} })
}

func newRole(t *testing.T, role, secret string) *authtest.Mount {
	t.Helper()
	m := authtest.NewMount(t, approle.Backend{}, nil)
	m.Must(t, authtest.Dice(1), authtest.Write("role/web", role), authtest.Write("role/web/custom-secret-id", secret))
	return m
}

// Of many logins at once exactly as many succeed as the secret id has uses, and
// what is left behind is nothing.
func TestUsesAreExact(t *testing.T) {
	for _, uses := range []int{1, 3} {
		m := newRole(t, fmt.Sprintf(`{"role_id":"r","secret_id_num_uses":%d,"secret_id_ttl":"1h"}`, uses), `{"secret_id":"s"}`)
		var group sync.WaitGroup
		results := make(chan error, 16)
		for i := range cap(results) {
			group.Go(func() {
				_, err := m.Do(login("r", "s"), authtest.Dice(byte(i)))
				results <- err
			})
		}
		group.Wait()
		close(results)
		succeeded := 0
		for err := range results {
			var refused *auth.CredentialError
			switch {
			case err == nil:
				succeeded++
			case !errors.As(err, &refused) || refused.Kind != auth.Invalid:
				t.Errorf("refused with %v", err)
			}
		}
		if succeeded != uses {
			t.Errorf("%d logins of %d succeeded", succeeded, uses)
		}
		if _, err := m.Do(authtest.List("role/web/secret-id"), authtest.Dice(9)); err == nil {
			t.Error("the secret id is listed after its last use")
		}
	}
}

// A login with a secret id of unlimited uses stages nothing beside its token.
func TestUnlimitedLoginWritesNothing(t *testing.T) {
	m := newRole(t, `{"role_id":"r"}`, `{"secret_id":"s","ttl":"1h"}`)
	b, err := m.Bind(login("r", "s"))
	if err != nil {
		t.Fatal(err)
	}
	probe := &enginetest.Probe{Tx: m.Store.Begin("mount")}
	answer, err := m.Run(t.Context(), probe, authtest.Dice(1), b)
	if err != nil || answer.Login == nil || len(probe.Staged) > 0 {
		t.Errorf("login %+v, error %v, staged %+v", answer.Login, err, probe.Staged)
	}
	if probe.Calls > 5 {
		t.Errorf("a login takes %d calls of the transaction", probe.Calls)
	}
}

// A secret id ends when its time is over, also when uses of it were counted since.
func TestUsesDoNotProlong(t *testing.T) {
	m := newRole(t, `{"role_id":"r","secret_id_num_uses":9,"secret_id_ttl":"1h"}`, `{"secret_id":"s"}`)
	for range 3 {
		m.Must(t, authtest.Dice(1), login("r", "s"))
		m.Store.Advance(15 * time.Minute)
	}
	m.Store.Advance(15*time.Minute - time.Nanosecond)
	m.Must(t, authtest.Dice(1), login("r", "s"))
	m.Store.Advance(time.Nanosecond)
	if _, err := m.Do(login("r", "s"), authtest.Dice(1)); err == nil {
		t.Error("the secret id outlives its time")
	}
}

// A login that runs while the role is removed, or its secret id destroyed, does
// not commit.
func TestLoginLosesAgainstRevocation(t *testing.T) {
	for _, end := range []authtest.Request{
		authtest.Delete("role/web"), authtest.Write("role/web/secret-id/destroy", `{"secret_id":"s"}`),
		authtest.Write("role/web/role-id", `{"role_id":"other"}`),
	} {
		m := newRole(t, `{"role_id":"r","secret_id_num_uses":2}`, `{"secret_id":"s"}`)
		b, err := m.Bind(login("r", "s"))
		if err != nil {
			t.Fatal(err)
		}
		tx := m.Store.Begin("mount")
		if _, err := m.Run(t.Context(), tx, authtest.Dice(1), b); err != nil {
			t.Fatal(err)
		}
		m.Must(t, authtest.Dice(2), end)
		if err := tx.Commit(); !errors.Is(err, enginetest.ErrConflict) {
			t.Errorf("after %s the login commits: %v", end.Path, err)
		}
	}
}

// A role that is made anew has none of the secret ids of the old one, and tidy
// removes what a large role leaves behind.
func TestRoleMadeAnew(t *testing.T) {
	m := newRole(t, `{"role_id":"r"}`, `{"secret_id":"s"}`)
	const batch = 256 // operations that the state machine takes
	const many = 450
	dice := authtest.Dice(4)
	for range many {
		m.Must(t, dice, authtest.Write("role/web/secret-id", ""))
	}
	for _, r := range []authtest.Request{authtest.Delete("role/web"), authtest.Write("tidy/secret-id", "")} {
		b, err := m.Bind(r)
		if err != nil {
			t.Fatal(err)
		}
		probe := &enginetest.Probe{Tx: m.Store.Begin("mount")}
		if _, err := m.Run(t.Context(), probe, dice, b); err != nil || len(probe.Staged) > batch-10 {
			t.Errorf("%s stages %d changes, %v", r.Path, len(probe.Staged), err)
		}
	}
	if a := m.Must(t, dice, authtest.Delete("role/web")); len(a.Warnings) == 0 {
		t.Error("nobody is told that something is left")
	}
	m.Must(t, dice, authtest.Write("role/web", `{"role_id":"r"}`))
	if _, err := m.Do(login("r", "s"), dice); err == nil {
		t.Error("the secret id of the old role is good for the new one")
	}
	m.Must(t, dice, authtest.Write("role/web/custom-secret-id", `{"secret_id":"s"}`))
	rounds := 1
	for len(m.Must(t, dice, authtest.Write("tidy/secret-id", "")).Warnings) > 0 {
		rounds++
	}
	if rounds != 4 { // 902 records, 200 at a time, of which the deletion took the first
		t.Errorf("tidying took %d requests", rounds)
	}
	for _, dir := range []string{"secret", "accessor"} {
		names, _, err := m.Store.Begin("mount").Records(engine.Path{dir}, "", 10)
		if err != nil || len(names) != 1 {
			t.Errorf("%s: %d roles are left, %v", dir, len(names), err)
		}
	}
	m.Must(t, dice, login("r", "s"))
}

// Whatever is sent to make roles and secret ids, a login with anything but the
// right secret id fails.
func FuzzLogin(f *testing.F) {
	f.Add(`{"role_id":"r"}`, `{"secret_id":"s"}`, "r", "t")
	f.Add(`{"role_id":"r","secret_id_num_uses":1}`, `{"secret_id":"s","metadata":"{}"}`, "r", "s")
	f.Add(`{"role_id":"r","bind_secret_id":false,"token_bound_cidrs":"::/0"}`, `{}`, "r", "")
	f.Fuzz(func(t *testing.T, role, secret, asRole, asSecret string) {
		m := authtest.NewMount(t, approle.Backend{}, nil)
		dice := authtest.Dice(1)
		if _, err := m.Do(authtest.Write("role/web", role), dice); err != nil {
			return
		}
		if _, err := m.Do(authtest.Write("role/web/custom-secret-id", secret), dice); err != nil {
			return
		}
		b, err := m.Bind(authtest.Write("role/web/custom-secret-id", secret))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := m.Do(login(asRole, asSecret), dice)
		if err != nil {
			return
		}
		if given := fmt.Sprintf("%+v", b.In); answer.Login == nil || !strings.Contains(given, asSecret) || asSecret == "" {
			t.Fatalf("role %s, secret %s: admitted %q %q", role, secret, asRole, asSecret)
		}
	})
}

func BenchmarkLogin(b *testing.B) {
	m := authtest.NewMount(b, approle.Backend{}, nil)
	m.Must(b, authtest.Dice(1), authtest.Write("role/web", `{"role_id":"r","token_policies":"a,b"}`),
		authtest.Write("role/web/custom-secret-id", `{"secret_id":"s"}`))
	dice := authtest.Dice(2)
	for b.Loop() {
		m.Must(b, dice, login("r", "s"))
	}
}
