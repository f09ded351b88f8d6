package jwt

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/auth/authtest"
	"github.com/conclave-secrets/conclave/engine"
)

var issuedByUs = signer{"EdDSA", "", ed25519Key}

func login(role, token string) authtest.Request {
	return authtest.Write("login", fmt.Sprintf(`{"role":%q,"jwt":%q}`, role, token))
}

func frozen() *Backend { return New(func() time.Time { return clockAt }) }

func configuration() string {
	return string(must(json.Marshal(map[string]any{"jwt_validation_pubkeys": []string{pemOf(ed25519Key.Public())}, "bound_issuer": "us"})))
}

// valid returns claims of a token that is valid, changed as said.
func valid(changes ...any) map[string]any {
	c := map[string]any{"iss": "us", "sub": "ann", "aud": "conclave", "exp": clockAt.Unix() + 60, "iat": clockAt.Unix()}
	for i := 0; i < len(changes); i += 2 {
		c[changes[i].(string)] = changes[i+1]
	}
	return c
}

// The method keeps the contract of an auth method.
func TestContract(t *testing.T) {
	write := authtest.Write
	good, late := issuedByUs.token(t, valid()), issuedByUs.token(t, valid("exp", clockAt.Unix()-100))
	forged := signer{"ES256", "", ecKeys()["ES256"]}.token(t, valid())
	foreign := issuedByUs.token(t, valid("aud", "others"))
	authtest.Test(t, authtest.Spec{
		Backend: frozen(),
		Prepare: []authtest.Request{
			write("config", configuration()),
			write("role/dev", `{"bound_audiences":"conclave","user_claim":"sub","token_policies":"dev"}`),
		},
		Good:    login("dev", good),
		Wrong:   []authtest.Request{login("dev", late), login("dev", forged), login("dev", foreign), login("dev", "x.y.z")},
		Unknown: []authtest.Request{login("ops", late), login("ops", forged), login("ops", good), login("ops", "x.y.z")},
		Secrets: []string{good, late, foreign},
		Requests: []authtest.Request{
			authtest.Read("config"), write("config", `{"jwks_url":"https://issuer.test/keys","default_role":"Dev"}`), write("config", `{}`),
			authtest.List("role"), authtest.Read("role/dev"), authtest.Read("role/ops"), authtest.Delete("role/dev"), authtest.Delete("role/ops"),
			write("role/ops", `{"user_claim":"sub","bound_subject":"x","bound_claims":{"a":["b",1,true]},"bound_claims_type":"glob","claim_mappings":{"a":"b"},
				"groups_claim":"groups","group_policies":{"g":["p"]},"expiration_leeway":"1m","not_before_leeway":60,"clock_skew_leeway":-1,"role_type":"jwt",
				"user_claim_json_pointer":false,"bound_audiences":["a"]}`),
			login("", good), login("dev", ""),
		},
	})
}

// What clients see, call by call.
func TestStories(t *testing.T) {
	authtest.Stories(t, "testdata", func() engine.Backend { return frozen() })
}

// What a login says of who logs in, and which tokens it refuses.
func TestLogin(t *testing.T) {
	m := authtest.NewMount(t, frozen(), nil)
	dice := authtest.Dice(1)
	m.Must(t, dice, authtest.Write("config", configuration()), authtest.Write("role/dev", `{
		"bound_audiences":["conclave"],"user_claim":"/who/mail","user_claim_json_pointer":true,"token_policies":["base"],
		"claim_mappings":{"/who/team":"team","level":"level","missing":"missing"},
		"groups_claim":"groups","group_policies":{"admins":"ops","readers":["read","base"]}}`))
	who := map[string]any{"mail": "ann@x.test", "team": "red"}
	answer := m.Must(t, dice, login("DEV", issuedByUs.token(t, valid("who", who, "level", 3, "groups", []string{"readers", "admins", "others", "admins"}))))
	got := fmt.Sprintf("%v %v %v %v", answer.Login.Alias, answer.Login.DisplayName, answer.Login.Metadata, answer.Login.Token.Policies)
	if want := "ann@x.test jwt-ann@x.test map[groups:admins,readers level:3 role:dev team:red] [base ops read]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	answer = m.Must(t, dice, login("dev", issuedByUs.token(t, valid("who", who))))
	if p := answer.Login.Token.Policies; len(p) != 1 {
		t.Errorf("without groups: %v", p)
	}
	for name, token := range map[string]string{
		"no user":           issuedByUs.token(t, valid()),
		"a number for user": issuedByUs.token(t, valid("who", map[string]any{"mail": 7})),
		"a long user":       issuedByUs.token(t, valid("who", map[string]any{"mail": strings.Repeat("x", 513)})),
		"a long claim":      issuedByUs.token(t, valid("who", map[string]any{"mail": "a", "team": strings.Repeat("x", 513)})),
		"another issuer":    issuedByUs.token(t, valid("who", who, "iss", "them")),
		"no issuer":         issuedByUs.token(t, valid("who", who, "iss", nil)),
		"no object":         issuedByUs.token(t, []string{"x"}),
		"a tail":            issuedByUs.sign(t, map[string]any{"alg": "EdDSA"}, append(must(json.Marshal(valid("who", who))), " {}"...)),
	} {
		if _, err := m.Do(login("dev", token), dice); !isDenied(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Only the algorithms that are configured are accepted.
func TestConfiguredAlgorithms(t *testing.T) {
	m := authtest.NewMount(t, frozen(), nil)
	dice := authtest.Dice(1)
	body := must(json.Marshal(map[string]any{"jwt_validation_pubkeys": []string{pemOf(rsaKey().Public())}, "jwt_supported_algs": "PS256,ES256"}))
	m.Must(t, dice, authtest.Write("config", string(body)), authtest.Write("role/dev", `{"bound_audiences":"conclave","user_claim":"sub"}`))
	m.Must(t, dice, login("dev", signer{"PS256", "", rsaKey()}.token(t, valid())))
	if _, err := m.Do(login("dev", signer{"RS256", "", rsaKey()}.token(t, valid())), dice); !isDenied(err) {
		t.Errorf("an algorithm that is not configured: %v", err)
	}
}

// A role that is bound to addresses admits none but them.
func TestAddresses(t *testing.T) {
	m := authtest.NewMount(t, frozen(), nil)
	dice := authtest.Dice(1)
	m.Must(t, dice, authtest.Write("config", configuration()),
		authtest.Write("role/dev", `{"bound_audiences":"conclave","user_claim":"sub","token_bound_cidrs":"198.51.100.0/24"}`))
	if _, err := m.Do(login("dev", issuedByUs.token(t, valid())), dice); !isDenied(err) {
		t.Errorf("from elsewhere: %v", err)
	}
}
