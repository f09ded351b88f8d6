package jwt

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/auth/authtest"
)

// wall is a clock that tests set.
type wall struct{ ahead atomic.Int64 }

func (w *wall) now() time.Time          { return clockAt.Add(time.Duration(w.ahead.Load())) }
func (w *wall) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// issuer publishes keys over TLS.
type issuer struct {
	server  *httptest.Server
	asked   atomic.Int64
	mu      sync.Mutex
	respond http.HandlerFunc // guarded by mu
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		respond := i.respond
		i.mu.Unlock()
		respond(w, r)
	}))
	i.server.Config.ErrorLog = nil
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) serve(respond http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.respond = respond
}

func (i *issuer) publish(keys ...map[string]any) {
	i.serve(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(setOf(keys...)); err != nil {
			panic(err)
		}
	})
}

func (i *issuer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw}))
}

// house is a mount that trusts an issuer.
func house(t *testing.T, i *issuer, w *wall) *authtest.Mount {
	t.Helper()
	m := authtest.NewMount(t, New(w.now), nil)
	m.Must(t, authtest.Dice(1),
		authtest.Write("config", fmt.Sprintf(`{"jwks_url":%q,"jwks_ca_pem":%q}`, i.server.URL, i.ca())),
		authtest.Write("role/dev", `{"bound_subject":"ann","user_claim":"sub","clock_skew_leeway":"24h"}`))
	return m
}

func attempt(t *testing.T, m *authtest.Mount, s signer) error {
	t.Helper()
	token := s.token(t, map[string]any{"sub": "ann", "exp": clockAt.Unix() + 100, "nbf": clockAt.Unix()})
	_, err := m.Do(authtest.Write("login", fmt.Sprintf(`{"role":"dev","jwt":%q}`, token)), authtest.Dice(1))
	return err
}

func isDenied(err error) bool {
	var c *auth.CredentialError
	return errors.As(err, &c) && c.Kind == auth.Denied
}

func isUnavailable(err error) bool {
	var u *auth.UnavailableError
	return errors.As(err, &u) && u.RetryAfterHint() > 0 && u.Unwrap() != nil
}

// Keys are fetched once for many logins, again when a token names one that is not
// known, and then not for a while, however many tokens do.
func TestRotation(t *testing.T) {
	i, w := newIssuer(t), &wall{}
	m := house(t, i, w)
	first, second := signer{"EdDSA", "one", ed25519Key}, signer{"ES256", "two", ecKeys()["ES256"]}
	i.publish(jwkOf("one", first.key.Public()))
	for range 5 {
		if err := attempt(t, m, first); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("five logins fetched %d times", n)
	}
	i.publish(jwkOf("two", second.key.Public()))
	if err := attempt(t, m, second); !isDenied(err) { // it was fetched just now
		t.Errorf("within the limit: %v", err)
	}
	w.advance(betweenTries)
	if err := attempt(t, m, second); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	for range 20 {
		if err := attempt(t, m, signer{"EdDSA", "unknown", ed25519Key}); !isDenied(err) {
			t.Fatal(err)
		}
	}
	if err := attempt(t, m, first); !isDenied(err) {
		t.Errorf("a key that was withdrawn: %v", err)
	}
	if n := i.asked.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	w.advance(freshFor)
	if err := attempt(t, m, second); err != nil || i.asked.Load() != 3 {
		t.Errorf("what is not fresh any more is fetched again: %v, %d fetches", err, i.asked.Load())
	}
}

// A token without the name of its key is tried with all keys, and with new ones
// if none did.
func TestRotationWithoutNames(t *testing.T) {
	i, w := newIssuer(t), &wall{}
	m := house(t, i, w)
	i.publish(jwkOf("", rsaKey().Public()), jwkOf("", ed25519Key.Public()))
	if err := attempt(t, m, signer{"EdDSA", "", ed25519Key}); err != nil {
		t.Fatal(err)
	}
	i.publish(jwkOf("", ecKeys()["ES256"].Public()))
	w.advance(betweenTries)
	if err := attempt(t, m, signer{"ES256", "", ecKeys()["ES256"]}); err != nil {
		t.Error(err)
	}
}

// gate is a network on which answers wait until they are let through.
type gate struct {
	open  chan struct{}
	asked atomic.Int64
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	g.asked.Add(1)
	select {
	case <-g.open:
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(setOf(jwkOf("one", ed25519Key.Public()))))}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func behind(g *gate) *source {
	return &source{url: "https://issuer.test/", client: &http.Client{Transport: g}, now: time.Now}
}

// Logins that arrive together share one fetch; who gives up meanwhile does not end it.
func TestOneFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := behind(g)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp, results := make(chan error, 1), make(chan error, 8)
		go func() { _, err := s.find(ctx, "one", false); gaveUp <- err }()
		synctest.Wait()
		for range cap(results) {
			go func() {
				keys, err := s.find(t.Context(), "one", false)
				if err == nil && len(keys) != 1 {
					err = errKeySet
				}
				results <- err
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up is told %v", err)
		}
		close(g.open)
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := g.asked.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// An issuer that never answers holds a login for a bounded time.
func TestIssuerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := behind(&gate{open: make(chan struct{})}).find(t.Context(), "one", false)
		if !isUnavailable(err) || time.Since(start) > fetchTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// While keys cannot be fetched, old ones do for a while; without any, a login is
// told to come back, and not that it is wrong.
func TestIssuerFails(t *testing.T) {
	for name, respond := range map[string]http.HandlerFunc{
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
		"no keys":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"an endless": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat(" ", maxSetBytes), `{"keys":[]}`)
		},
		"a hanging up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			i, w := newIssuer(t), &wall{}
			m := house(t, i, w)
			good := signer{"EdDSA", "one", ed25519Key}
			i.serve(respond)
			if err := attempt(t, m, good); !isUnavailable(err) {
				t.Fatalf("without keys: %v", err)
			}
			i.publish(jwkOf("one", ed25519Key.Public()))
			if err := attempt(t, m, good); !isUnavailable(err) {
				t.Errorf("just after a failure: %v", err)
			}
			w.advance(betweenTries)
			if err := attempt(t, m, good); err != nil {
				t.Fatal(err)
			}
			i.serve(respond)
			w.advance(usableFor - time.Second)
			if err := attempt(t, m, good); err != nil {
				t.Errorf("with old keys: %v", err)
			}
			w.advance(time.Minute)
			if err := attempt(t, m, good); !isUnavailable(err) {
				t.Errorf("with keys that are too old: %v", err)
			}
		})
	}
}

// An issuer is trusted through the configured certificates and no others.
func TestIssuerIsTrustedByItsCertificate(t *testing.T) {
	i, w := newIssuer(t), &wall{}
	i.publish(jwkOf("one", ed25519Key.Public()))
	m := house(t, i, w)
	m.Must(t, authtest.Dice(1), authtest.Write("config", fmt.Sprintf(`{"jwks_url":%q}`, i.server.URL)))
	if err := attempt(t, m, signer{"EdDSA", "one", ed25519Key}); !isUnavailable(err) {
		t.Errorf("through the system's certificates: %v", err)
	}
}

// The sources that are kept are few, whatever is configured.
func TestSourcesAreBounded(t *testing.T) {
	s := newSources(time.Now)
	for n := range 3 * maxSources {
		if _, err := s.open(fmt.Sprintf("https://issuer%d.test", n), ""); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.at) > maxSources {
		t.Errorf("%d sources are kept", len(s.at))
	}
}
