package testforeign

import (
	"net/http"
	"slices"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

// A token is made, looked up and renewed in each way that there is, and the client
// reads from each answer what it knows of it.
func TestVaultTokens(t *testing.T) {
	h := newVaultHand(t)
	name := unique(t)
	done(t, h.sys().PutPolicy(name, `path "auth/token/*" { capabilities = ["update"] }`))
	renewable := true
	made := need[*vault.Secret](t)(did(t, h.tokens().Create)(&vault.TokenCreateRequest{Policies: []string{name}, TTL: "1h", ExplicitMaxTTL: "3h",
		Metadata: map[string]string{"who": "me"}, DisplayName: "for tests", NumUses: 100, Renewable: &renewable}))
	a := made.Auth
	if len(a.ClientToken) != 28 || a.LeaseDuration != 3600 || !a.Renewable || a.Orphan || !slices.Equal(a.Policies, []string{"default", name}) || a.Metadata["who"] != "me" {
		t.Fatalf("made %+v", a)
	}
	own := h.as(a.ClientToken)
	looks := map[string]*vault.Secret{
		"lookup":          need[*vault.Secret](t)(did(t, h.tokens().Lookup)(a.ClientToken)),
		"lookup-self":     need[*vault.Secret](t)(did(t, own.tokens().LookupSelf)()),
		"lookup-accessor": need[*vault.Secret](t)(did(t, h.tokens().LookupAccessor)(a.Accessor)),
		"create":          made,
	}
	for how, s := range looks {
		wantID := a.ClientToken
		if how == "lookup-accessor" {
			wantID = ""
		}
		if id := need[string](t)(did(t, s.TokenID)()); id != wantID {
			t.Errorf("%s: another token's", how)
		}
		if got := need[string](t)(did(t, s.TokenAccessor)()); got != a.Accessor {
			t.Errorf("%s: accessor %q", how, got)
		}
		if got := need[[]string](t)(did(t, s.TokenPolicies)()); !slices.Equal(got, a.Policies) {
			t.Errorf("%s: policies %v", how, got)
		}
		if got := need[map[string]string](t)(did(t, s.TokenMetadata)()); got["who"] != "me" {
			t.Errorf("%s: metadata %v", how, got)
		}
		if got := need[time.Duration](t)(did(t, s.TokenTTL)()); got > time.Hour || got < 59*time.Minute {
			t.Errorf("%s: time to live %v", how, got)
		}
		if !need[bool](t)(did(t, s.TokenIsRenewable)()) {
			t.Errorf("%s: not renewable", how)
		}
		if got := need[int](t)(did(t, s.TokenRemainingUses)()); (got > 100 || got < 98) && how != "create" {
			t.Errorf("%s: %d uses left", how, got)
		}
		if how != "create" && (s.Data["display_name"] != "token-for-tests" || s.Data["type"] != "service" || number(s.Data["explicit_max_ttl"]) != "10800" || s.Data["expire_time"] == nil) {
			t.Errorf("%s: %v", how, s.Data)
		}
	}
	for how, renew := range map[string]func(seconds int) (*vault.Secret, error){
		"renew":          func(n int) (*vault.Secret, error) { return did(t, h.tokens().Renew)(a.ClientToken, n) },
		"renew-self":     func(n int) (*vault.Secret, error) { return did(t, own.tokens().RenewSelf)(n) },
		"renew as self":  func(n int) (*vault.Secret, error) { return did(t, h.tokens().RenewTokenAsSelf)(a.ClientToken, n) },
		"renew-accessor": func(n int) (*vault.Secret, error) { return did(t, h.tokens().RenewAccessor)(a.Accessor, n) },
	} {
		s := need[*vault.Secret](t)(renew(7200))
		if s.Auth == nil || s.Auth.LeaseDuration != 7200 || !s.Auth.Renewable || (how == "renew-accessor") != (s.Auth.ClientToken == "") {
			t.Errorf("%s: %+v", how, s.Auth)
		}
		// What is above the maximum is cut, and said to be.
		s = need[*vault.Secret](t)(renew(36000))
		if s.Auth.LeaseDuration > 10800 || s.Auth.LeaseDuration < 10700 || len(s.Warnings) != 1 {
			t.Errorf("%s for too long: %+v, %v", how, s.Auth, s.Warnings)
		}
	}
	fixed := false
	made = need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "1h", Renewable: &fixed}))
	_, err := h.tokens().Renew(made.Auth.ClientToken, 10)
	denied(t, h, err, http.StatusBadRequest, "lease is not renewable")
	_, err = h.tokens().Lookup("hvs.nosuchtokennosuchtoken99")
	denied(t, h, err, http.StatusForbidden, "bad token")
	_, err = h.tokens().LookupAccessor("nosuchaccessor")
	denied(t, h, err, http.StatusBadRequest, "invalid accessor")
	_, err = h.tokens().RenewAccessor("nosuchaccessor", 10)
	denied(t, h, err, http.StatusBadRequest, "invalid accessor")
}

// Who is revoked takes its children along, unless they are cut loose; orphans have
// no parent from the first.
func TestVaultRevocation(t *testing.T) {
	h := newVaultHand(t)
	create := func(by *vaultHand) *vault.SecretAuth {
		t.Helper()
		return need[*vault.Secret](t)(by.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"root"}, TTL: "1h"})).Auth
	}
	lives := func(want bool, tokens ...string) {
		t.Helper()
		for i, token := range tokens {
			_, err := h.as(token).tokens().LookupSelf()
			if want {
				done(t, err)
			} else if denied(t, h, err, http.StatusForbidden, "permission denied"); err == nil {
				t.Errorf("token %d lives on", i)
			}
		}
	}
	for how, revoke := range map[string]func(a *vault.SecretAuth) error{
		"revoke":          func(a *vault.SecretAuth) error { return did(t, h.tokens().RevokeTree)(a.ClientToken) },
		"revoke-accessor": func(a *vault.SecretAuth) error { return did(t, h.tokens().RevokeAccessor)(a.Accessor) },
		"revoke-self":     func(a *vault.SecretAuth) error { return did(t, h.as(a.ClientToken).tokens().RevokeSelf)("") },
	} {
		parent := create(h)
		child := create(h.as(parent.ClientToken))
		grandchild := create(h.as(child.ClientToken))
		orphan := need[*vault.Secret](t)(did(t, h.as(child.ClientToken).tokens().CreateOrphan)(&vault.TokenCreateRequest{Policies: []string{"default"}})).Auth
		other := need[*vault.Secret](t)(h.as(child.ClientToken).tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, NoParent: true})).Auth
		if child.Orphan || !orphan.Orphan || !other.Orphan {
			t.Errorf("%s: orphans %v %v %v", how, child.Orphan, orphan.Orphan, other.Orphan)
		}
		lives(true, parent.ClientToken, child.ClientToken, grandchild.ClientToken, orphan.ClientToken, other.ClientToken)
		done(t, revoke(parent))
		lives(false, parent.ClientToken, child.ClientToken, grandchild.ClientToken)
		lives(true, orphan.ClientToken, other.ClientToken)
	}
	parent := create(h)
	child := create(h.as(parent.ClientToken))
	done(t, did(t, h.tokens().RevokeOrphan)(parent.ClientToken))
	lives(false, parent.ClientToken)
	lives(true, child.ClientToken)
	if s := need[*vault.Secret](t)(h.tokens().Lookup(child.ClientToken)); s.Data["orphan"] != true {
		t.Errorf("cut loose, it is %v", s.Data)
	}
	done(t, h.tokens().RevokeTree("hvs.nosuchtokennosuchtoken99")) // it has ended already
	done(t, h.tokens().RevokeAccessor("nosuchaccessor"))
}

// A role makes tokens that its caller could not make: orphans, periodic, of few uses,
// for some addresses.
func TestVaultTokenRoles(t *testing.T) {
	h := newVaultHand(t)
	byRole := func(settings map[string]any, r *vault.TokenCreateRequest) *vault.Secret {
		t.Helper()
		role := unique(t)
		need[*vault.Secret](t)(h.logical().Write("auth/token/roles/"+role, settings))
		return need[*vault.Secret](t)(did(t, h.tokens().CreateWithRole)(r, role))
	}
	made := byRole(map[string]any{"allowed_policies": "default", "orphan": true, "token_period": "10m", "path_suffix": "here"}, &vault.TokenCreateRequest{})
	own := h.as(made.Auth.ClientToken)
	s := need[*vault.Secret](t)(own.tokens().LookupSelf())
	if !made.Auth.Orphan || made.Auth.LeaseDuration != 600 || number(s.Data["period"]) != "600" || s.Data["role"] == nil {
		t.Errorf("made %+v, %v", made.Auth, s.Data)
	}
	// Renewing sets the period again, whatever is asked for, and there is no maximum.
	if s = need[*vault.Secret](t)(own.tokens().RenewSelf(3600)); s.Auth.LeaseDuration != 600 || len(s.Warnings) != 0 {
		t.Errorf("renewed %+v %v", s.Auth, s.Warnings)
	}
	made = byRole(map[string]any{"token_num_uses": 2}, &vault.TokenCreateRequest{Policies: []string{"default"}})
	own = h.as(made.Auth.ClientToken)
	for left := 2; left > 0; left-- { // the use that asks is among them
		if s = need[*vault.Secret](t)(own.tokens().LookupSelf()); need[int](t)(s.TokenRemainingUses()) != left {
			t.Errorf("%v uses left, want %d", s.Data["num_uses"], left)
		}
	}
	_, err := own.tokens().LookupSelf()
	denied(t, h, err, http.StatusForbidden, "permission denied")

	// Requests come from loopback here.
	for ranges, works := range map[string]bool{"10.0.0.0/8": false, "127.0.0.0/8,::1/128": true, "192.0.2.7": false} {
		made = byRole(map[string]any{"token_bound_cidrs": ranges}, &vault.TokenCreateRequest{Policies: []string{"default"}})
		_, err := h.as(made.Auth.ClientToken).tokens().LookupSelf()
		if works {
			done(t, err)
		} else {
			denied(t, h, err, http.StatusForbidden, "permission denied")
		}
	}
	_, err = h.tokens().CreateWithRole(&vault.TokenCreateRequest{}, "nosuch")
	denied(t, h, err, http.StatusBadRequest, "unknown role nosuch")
}

// A batch token is stored nowhere: it can neither be renewed nor revoked, and has no
// accessor; with its parent it ends.
func TestVaultBatchTokens(t *testing.T) {
	h := newVaultHand(t)
	parent := need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"root"}, TTL: "1h"})).Auth.ClientToken
	made := need[*vault.Secret](t)(h.as(parent).tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "30m", Type: "batch"})).Auth
	if made.Renewable || made.Accessor != "" || made.LeaseDuration != 1800 {
		t.Errorf("made %+v", made)
	}
	own := h.as(made.ClientToken)
	if s := need[*vault.Secret](t)(own.tokens().LookupSelf()); s.Data["type"] != "batch" {
		t.Errorf("it is %v", s.Data)
	}
	_, err := h.tokens().Renew(made.ClientToken, 10)
	denied(t, h, err, http.StatusBadRequest, "batch tokens cannot be renewed")
	denied(t, h, h.tokens().RevokeTree(made.ClientToken), http.StatusBadRequest, "batch tokens cannot be revoked")
	done(t, h.tokens().RevokeTree(parent))
	_, err = own.tokens().LookupSelf()
	denied(t, h, err, http.StatusForbidden, "permission denied")
}
