package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"time"
)

// DefaultPort is the port of the gRPC API, used for addresses without one.
const DefaultPort = "8210"

// Defaults of the durations in Config.
const (
	DefaultTimeout        = 30 * time.Second
	DefaultAttemptTimeout = 5 * time.Second
	DefaultDialTimeout    = 2 * time.Second
	DefaultRetryFor       = 10 * time.Second
)

// A Config says how to reach a cluster. Zero means the stated default; only
// Addresses must be given. New copies what it keeps.
type Config struct {
	// Addresses of nodes, HOST or HOST:PORT. The first that serves is used and
	// remembered, so the order is a preference.
	Addresses []string

	// CAFile and CAPEM name the authority that signs the nodes' certificates:
	// a file, or the PEM text itself. Both empty: the roots of the system.
	CAFile string
	CAPEM  []byte

	// TLS replaces CAFile and CAPEM when it is set. There is no way to speak
	// without TLS, because each call carries a token.
	TLS *tls.Config

	// Token is the credential. The zero Token sends none, which is enough for
	// Status, Init and Unseal.
	Token Token

	// Reason says why: it is recorded with each access, and a policy can require
	// one. One line of at most 512 bytes, not secret. Empty: none is given.
	Reason string

	// Consistency of reads that do not ask for one. Zero: linearizable.
	Consistency Consistency

	// Timeout bounds each call with all its repetitions, in addition to the
	// context of the call. Zero: 30 s. Negative: only the context counts.
	Timeout time.Duration
	// AttemptTimeout bounds one attempt at one node, so that a node which
	// accepts and never answers is left for another. Zero: 5 s.
	AttemptTimeout time.Duration
	// DialTimeout bounds the making of one connection. Zero: 2 s.
	DialTimeout time.Duration
	// RetryFor bounds how long a call is repeated while no node serves it and
	// nothing was done. A write of unknown outcome is not bound by it: that one
	// is repeated until the context ends. Zero: 10 s. Negative: one round.
	RetryFor time.Duration

	// Clock, Entropy, Jitter and Dial are seams for tests. Nil means the
	// machine's clock, crypto/rand, math/rand and TCP. Jitter returns numbers
	// in [0, 1).
	Clock   Clock
	Entropy io.Reader
	Jitter  func() float64
	Dial    func(ctx context.Context, address string) (net.Conn, error)
}

// A Clock tells time and waits.
type Clock interface {
	Now() time.Time
	// Wait returns nil after d, or the cause of ctx when that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c Config) withDefaults() Config {
	setDefault(&c.Timeout, DefaultTimeout)
	setDefault(&c.AttemptTimeout, DefaultAttemptTimeout)
	setDefault(&c.DialTimeout, DefaultDialTimeout)
	setDefault(&c.RetryFor, DefaultRetryFor)
	if c.Clock == nil {
		c.Clock = machineClock{}
	}
	if c.Entropy == nil {
		c.Entropy = rand.Reader
	}
	if c.Jitter == nil {
		c.Jitter = mathrand.Float64
	}
	if c.Dial == nil {
		dialer := &net.Dialer{Timeout: c.DialTimeout}
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	return c
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// addresses returns the addresses with their ports, without repetitions.
func (c Config) addresses() ([]string, error) {
	if len(c.Addresses) == 0 {
		return nil, errors.New("configuring client: no address of a node given")
	}
	var out []string
	seen := map[string]bool{}
	for _, a := range c.Addresses {
		full, err := withPort(a)
		if err != nil {
			return nil, err
		}
		if !seen[full] {
			seen[full] = true
			out = append(out, full)
		}
	}
	return out, nil
}

func withPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	var form *net.AddrError
	switch {
	case err == nil && host != "" && port != "":
		return address, nil
	case err == nil:
		return "", fmt.Errorf("configuring client: address %q is not HOST:PORT", address)
	case address == "" || !errors.As(err, &form):
		return "", fmt.Errorf("configuring client: address %q is not HOST:PORT", address)
	}
	// The address has no port, or is malformed: it is the former exactly when
	// a port makes it well-formed.
	full := address + ":" + DefaultPort
	if ip := net.ParseIP(address); ip != nil {
		full = net.JoinHostPort(address, DefaultPort)
	}
	if host, _, err := net.SplitHostPort(full); err != nil || host == "" {
		return "", fmt.Errorf("configuring client: address %q is not HOST:PORT", address)
	}
	return full, nil
}

// tlsConfig returns the settings for connections to nodes.
func (c Config) tlsConfig() (*tls.Config, error) {
	if c.TLS != nil {
		return c.TLS.Clone(), nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13}
	pem := c.CAPEM
	if c.CAFile != "" {
		read, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the authority's certificate: %w", err)
		}
		pem = append(append([]byte{}, pem...), read...)
	}
	if len(pem) == 0 {
		return out, nil // the roots of the system
	}
	out.RootCAs = x509.NewCertPool()
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the authority's certificate: no PEM certificate in %s", caName(c.CAFile))
	}
	return out, nil
}

func caName(file string) string {
	if file == "" {
		return "the given text"
	}
	return file
}
