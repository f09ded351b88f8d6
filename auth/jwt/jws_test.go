package jwt

import (
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
)

// The signed examples of the RFCs are found to be signed.
func TestPublishedVectors(t *testing.T) {
	for name, v := range map[string]struct{ keys, token string }{
		"RFC 7515, A.3": {
			`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
			"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ." +
				"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
		"RFC 8037, A.4": {
			`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc." +
				"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"},
	} {
		keys, err := parseJWKS([]byte(v.keys))
		if err != nil {
			t.Fatal(name, err)
		}
		token, err := parseJWS(v.token)
		if err != nil {
			t.Fatal(name, err)
		}
		if !token.verifies(keys) {
			t.Errorf("%s: the signature is not found good", name)
		}
		token.signed[len(token.signed)-1] ^= 1
		if token.verifies(keys) {
			t.Errorf("%s: a changed token is found good", name)
		}
	}
}

// Each algorithm accepts its own signatures under its own kind of key, and no
// other pair of the two, whether the key comes as PEM or in a set.
func TestAlgorithmsTakeTheirKeysOnly(t *testing.T) {
	for alg := range algorithms {
		token, err := parseJWS(signer{alg: alg, key: keyFor(alg)}.token(t, map[string]any{"sub": "x"}))
		if err != nil {
			t.Fatal(err)
		}
		for of := range algorithms {
			key := keyFor(of).Public()
			fits := alg == of || strings.Contains("RP", alg[:1]) && strings.Contains("RP", of[:1])
			parsed, err := parsePEM(pemOf(key))
			if err != nil {
				t.Fatal(of, err)
			}
			set, err := parseJWKS(setOf(jwkOf("k", key)))
			if err != nil || len(set) != 1 {
				t.Fatal(of, err)
			}
			for _, keys := range [][]publicKey{{{key: parsed}}, set} {
				if token.verifies(keys) != fits {
					t.Errorf("%s under the key of %s: %v", alg, of, !fits)
				}
				if token.verifies([]publicKey{{alg: "RS257", key: keys[0].key}}) {
					t.Errorf("%s: a key for another algorithm is used", alg)
				}
			}
			named := token.alg
			token.alg = of // the same signature under another name
			if token.verifies([]publicKey{{key: keyFor(alg).Public()}}) != (of == alg) {
				t.Errorf("a signature by %s passes as %s", alg, of)
			}
			token.alg = named
		}
	}
}

// The ways that tokens have been forged.
func TestForgeries(t *testing.T) {
	keys := []publicKey{{key: rsaKey().Public()}, {key: ed25519Key.Public()}}
	payload := []byte(`{"sub":"x"}`)
	good := signer{alg: "RS256", key: rsaKey()}.sign(t, map[string]any{"alg": "RS256"}, payload)
	parts := strings.Split(good, ".")
	forge := func(header string, signature []byte) string {
		return encode([]byte(header)) + "." + parts[1] + "." + encode(signature)
	}
	hs := encode([]byte(`{"alg":"HS256"}`)) + "." + parts[1]
	for name, token := range map[string]string{
		"none":                   forge(`{"alg":"none"}`, []byte("x")),
		"none without signature": encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"None":                   forge(`{"alg":"None"}`, nil),
		"HMAC with the key":      hs + "." + encode(hmacOf([]byte(pemOf(rsaKey().Public())), []byte(hs))),
		"ALG":                    forge(`{"ALG":"RS256"}`, []byte("x")),
		"no algorithm":           forge(`{}`, []byte("x")),
		"a list of algorithms":   forge(`{"alg":["RS256"]}`, []byte("x")),
		"critical":               signer{alg: "RS256", key: rsaKey()}.sign(t, map[string]any{"alg": "RS256", "crit": []string{"exp"}}, payload),
		"padding":                good + "==",
		"a line break":           parts[0] + "." + parts[1][:4] + "\n" + parts[1][4:] + "." + parts[2],
		"four parts":             good + ".x",
		"two parts":              parts[0] + "." + parts[1],
		"another payload":        parts[0] + "." + encode([]byte(`{"sub":"y"}`)) + "." + parts[2],
		"a short signature":      parts[0] + "." + parts[1] + "." + parts[2][:40],
		"too long":               parts[0] + "." + strings.Repeat("x", maxTokenBytes) + "." + parts[2],
	} {
		if parsed, err := parseJWS(token); err == nil && parsed.verifies(keys) {
			t.Errorf("%s: accepted", name)
		}
	}
	own := signer{alg: "EdDSA", key: keyFor("EdDSA")}
	brought := own.sign(t, map[string]any{"alg": "EdDSA", "jwk": jwkOf("", own.key.Public()), "jku": "https://evil.test"}, payload)
	if parsed, err := parseJWS(brought); err != nil || parsed.verifies(keys[:1]) {
		t.Errorf("a key that the token brings is used: %v", err)
	}
	if parsed, err := parseJWS(good); err != nil || !parsed.verifies(keys) {
		t.Errorf("the honest token is refused: %v", err)
	}
}

// Keys that are too weak, of other kinds or for other uses are left out.
func TestKeysThatAreNotTaken(t *testing.T) {
	good := func() map[string]any { return jwkOf("k", ecKeys()["ES256"].Public()) }
	with := func(name string, value any) map[string]any {
		k := good()
		k[name] = value
		return k
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	if _, err := parsePEM(pemOf(weak.Public())); err == nil {
		t.Error("a weak key is taken from PEM")
	}
	for _, text := range []string{"", "key", pemOf(rsaKey().Public()) + "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := parsePEM(text); err == nil {
			t.Errorf("taken as PEM: %q", text)
		}
	}
	for name, k := range map[string]map[string]any{
		"weak": jwkOf("k", weak.Public()), "encryption": with("use", "enc"), "signing only": with("key_ops", []string{"sign"}),
		"another curve": with("crv", "P-384"), "off the curve": with("y", encode(make([]byte, 32))), "short": with("x", "AA"),
		"a symmetric key": {"kty": "oct", "k": "AAAA"}, "no type": with("kty", ""), "huge": {"kty": "RSA", "e": "AQAB", "n": encode(make([]byte, 5000))},
		"an even exponent": {"kty": "RSA", "e": "Ag", "n": encode(rsaKey().N.Bytes())}, "a number for a text": with("x", 7),
	} {
		keys, err := parseJWKS(setOf(k, good()))
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"keys":7}`, `{"keys":null}`, string(setOf(manyKeys(maxKeys + 1)...))} {
		if keys, err := parseJWKS([]byte(bad)); err == nil {
			t.Errorf("%.40s: read as %d keys", bad, len(keys))
		}
	}
}

func manyKeys(n int) (keys []map[string]any) {
	for range n {
		keys = append(keys, jwkOf("k", ed25519Key.Public()))
	}
	return keys
}

// Whatever is shown, nothing panics, and what is taken apart has one spelling.
func FuzzParseJWS(f *testing.F) {
	f.Add(signer{alg: "EdDSA", key: ed25519Key}.token(f, map[string]any{"sub": "x"}))
	f.Add("e30.e30.e30")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseJWS(text)
		if err != nil {
			return
		}
		header, rest, _ := strings.Cut(text, ".")
		if spelt := header + "." + encode(token.payload) + "." + encode(token.signature); spelt != text || !strings.HasSuffix(string(token.signed), "."+encode(token.payload)) {
			t.Fatalf("%q is taken apart as %q, %q", text, spelt, rest)
		}
		token.verifies([]publicKey{{key: ed25519Key.Public()}, {key: rsaKey().Public()}, {key: ecKeys()["ES256"].Public()}})
		if said, err := object(token.payload); err == nil {
			claims(said).timely(&role{}, clockAt)
			claims(said).admitted(&role{Audiences: []string{"a"}}, "i")
		}
	})
}

// Whatever a set of keys holds, nothing panics, and every key of it is strong.
func FuzzParseJWKS(f *testing.F) {
	f.Add(setOf(jwkOf("a", ed25519Key.Public()), jwkOf("b", ecKeys()["ES384"].Public()), jwkOf("c", rsaKey().Public())))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""},7,null,{}]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		keys, err := parseJWKS(p)
		if err != nil {
			return
		}
		for _, k := range keys {
			if !strong(k.key) {
				t.Fatalf("a weak key of %s", p)
			}
		}
		token := &jws{alg: "ES256", signed: []byte("x"), signature: make([]byte, 64)}
		if token.verifies(keys) {
			t.Fatalf("a signature of nothing is found good under %s", p)
		}
	})
}
