package jwt

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/auth"
)

const (
	fetchTimeout  = 5 * time.Second
	maxSetBytes   = 1 << 20
	maxSources    = 64
	freshFor      = 10 * time.Minute // then the set is fetched again
	usableFor     = time.Hour        // how long an old set does while fetching fails
	betweenTries  = 10 * time.Second // however many tokens name unknown keys
	retryLogin    = 10 * time.Second // what a login is told that finds no keys
	maxHeaderSize = 64 << 10
)

// sources are the sets of keys that this node has fetched, by where they are.
type sources struct {
	now func() time.Time

	mu sync.Mutex
	at map[[sha256.Size]byte]*source // guarded by mu
}

func newSources(now func() time.Time) *sources {
	return &sources{now: now, at: map[[sha256.Size]byte]*source{}}
}

// open returns the source at an address, trusted through the certificates in ca
// (PEM; "": those of the system).
func (s *sources) open(url, ca string) (*source, error) {
	id := sha256.Sum256([]byte(url + "\x00" + ca))
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.at[id]; found != nil {
		return found, nil
	}
	client, err := newClient(ca)
	if err != nil {
		return nil, err
	}
	if len(s.at) >= maxSources {
		clear(s.at) // configurations change rarely; to fetch anew is cheap
	}
	s.at[id] = &source{url: url, client: client, now: s.now}
	return s.at[id], nil
}

func newClient(ca string) (*http.Client, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("reading jwks_ca_pem: it holds no certificate")
		}
	}
	return &http.Client{
		Timeout: fetchTimeout,
		// One connection in ten minutes is not worth to be kept.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, DisableKeepAlives: true,
			MaxResponseHeaderBytes: maxHeaderSize},
		// Who may say where keys are is who configured it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// source is a set of keys at an address. Fetching is not part of any request's
// transaction: it runs by itself, one at a time, and requests wait for it.
type source struct {
	url    string
	client *http.Client
	now    func() time.Time

	// Guarded by mu.
	mu      sync.Mutex
	keys    []publicKey // replaced whole, never changed
	fetched time.Time   // when; zero: never
	tried   time.Time
	failure error         // of the last try; nil: it went well
	flight  chan struct{} // closed when the fetch under way ends; nil: there is none
}

// find returns the keys of the given name, all keys for "". again says that the
// keys known so far did not do: unless it was tried just now, they are fetched.
func (s *source) find(ctx context.Context, kid string, again bool) ([]publicKey, error) {
	s.mu.Lock()
	found := keysNamed(s.keys, kid)
	now := s.now()
	if !again && len(found) > 0 && within(now, s.fetched, freshFor) {
		s.mu.Unlock()
		return found, nil
	}
	if s.flight == nil && !within(now, s.tried, betweenTries) {
		s.tried, s.flight = now, make(chan struct{})
		go s.fetch(s.flight)
	}
	flight := s.flight
	s.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !within(s.now(), s.fetched, usableFor) {
		return nil, &auth.UnavailableError{What: "the keys that would prove the token cannot be fetched now", Retry: retryLogin, Cause: s.failure}
	}
	return keysNamed(s.keys, kid), nil
}

// within tells whether now is less than d after t. A clock that was set back past
// t does not make it so for long.
func within(now, t time.Time, d time.Duration) bool {
	age := now.Sub(t)
	return !t.IsZero() && age >= 0 && age < d
}

// fetch replaces the keys, if it can.
func (s *source) fetch(done chan struct{}) {
	keys, err := s.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.keys, s.fetched = keys, s.now()
	}
	s.flight, s.failure = nil, err
	close(done)
}

func (s *source) get() ([]publicKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching keys: %w", err)
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching keys: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching keys: the answer has status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("fetching keys: %w", err)
	}
	if len(body) > maxSetBytes {
		return nil, errors.New("fetching keys: the answer is larger than 1 MiB")
	}
	return parseJWKS(body)
}

// keysNamed returns the keys of a name; all of them for "".
func keysNamed(keys []publicKey, kid string) (found []publicKey) {
	for _, k := range keys {
		if kid == "" || k.kid == kid {
			found = append(found, k)
		}
	}
	return found
}
