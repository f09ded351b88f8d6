package server

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/core"
)

// joinServerName is what a joining node asks for in its handshake, to be shown
// the cluster's own certificate even where clients are shown another one.
const joinServerName = "join.conclave"

// credentials is what this node proves itself with. It changes once, when the
// node becomes a member; connections made later use what is there then.
type credentials struct {
	custom *tls.Certificate // for clients, when the operator gave one

	mu        sync.Mutex
	own       *tls.Certificate
	authority *x509.CertPool
	pem       []byte // what clients must trust
}

// newCredentials starts with the node's certificate, or, before it has one,
// with one that it signs itself.
func newCredentials(id *identity, cfg Config) (*credentials, error) {
	c := &credentials{}
	if cfg.API.TLSCertFile != "" {
		custom, err := tls.LoadX509KeyPair(cfg.API.TLSCertFile, cfg.API.TLSKeyFile)
		if err != nil {
			return nil, &SettingError{Key: "api.tls_cert_file", Problem: fmt.Sprintf("and api.tls_key_file must be a certificate and its key: %v", err)}
		}
		c.custom = &custom
	}
	if id.member() {
		return c, c.adopt(id)
	}
	key, err := id.key()
	if err != nil {
		return nil, err
	}
	der, err := selfSign(id.NodeID, key, cfg.API.Address, cfg.API.Advertise)
	if err != nil {
		return nil, err
	}
	c.own = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return c, nil
}

// adopt goes over to the certificate that the cluster's authority signed.
func (c *credentials) adopt(id *identity) error {
	key, err := id.key()
	if err != nil {
		return err
	}
	leaf, _ := pem.Decode(id.CertificatePEM)
	root, _ := pem.Decode(id.AuthorityPEM)
	if leaf == nil || root == nil {
		return errors.New("reading the node's certificate: it is not PEM")
	}
	authority, err := x509.ParseCertificate(root.Bytes)
	if err != nil {
		return fmt.Errorf("reading the authority's certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The authority travels along: a joining node knows its hash only.
	c.own = &tls.Certificate{Certificate: [][]byte{leaf.Bytes, root.Bytes}, PrivateKey: key}
	c.authority = x509.NewCertPool()
	c.authority.AddCert(authority)
	c.pem = id.AuthorityPEM
	return nil
}

func (c *credentials) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own
}

// trusted is the PEM that clients of this node must trust.
func (c *credentials) trusted() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pem
}

// forClients is the configuration of the public listener.
func (c *credentials) forClients() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c.custom != nil && h.ServerName != joinServerName {
				return c.custom, nil
			}
			return c.current(), nil
		},
	}
}

// forPeers is the configuration between members.
func (c *credentials) forPeers() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: c.authority,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// selfSign makes the certificate of a node that belongs to no cluster yet. It is
// good for one thing: to found or join one.
func selfSign(nodeID string, key *ecdsa.PrivateKey, addresses ...string) ([]byte, error) {
	var serial [16]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[1:]), Subject: pkix.Name{CommonName: nodeID},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{core.NodeName(nodeID), "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	core.NameHosts(template, addresses...)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the node's first certificate: %w", err)
	}
	return der, nil
}
