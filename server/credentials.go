package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/core"
)

// joinServerName is what a joining node asks for in its handshake, to be shown
// the cluster's own certificate even where clients are shown another one.
const joinServerName = "join.conclave"

// credentials is what this node proves itself with. It changes when the node
// becomes a member, and when its certificate is renewed; connections made later
// use what is there then. What was made before goes on: an old certificate is
// not wrong before its end.
type credentials struct {
	custom *tlsFiles // for clients, when the operator gave a certificate; else nil

	mu        sync.Mutex
	own       *tls.Certificate  // with Leaf set
	standIn   *tls.Certificate  // for clients, in place of an own that has expired; or nil
	root      *x509.Certificate // the authority; nil before the node is a member
	authority *x509.CertPool
	pem       []byte // what clients must trust
}

// newCredentials starts with the node's certificate, or, before it has one,
// with one that it signs itself.
func newCredentials(id *identity, cfg Config, logger *slog.Logger) (*credentials, error) {
	c := &credentials{}
	if cfg.API.TLSCertFile != "" {
		var err error
		if c.custom, err = openTLSFiles(tlsNames{listener: "api", cert: cfg.API.TLSCertFile, key: cfg.API.TLSKeyFile}, os.ReadFile, time.Now, logger); err != nil {
			return nil, err
		}
	}
	if id.member() {
		if err := c.adopt(id); err != nil {
			return nil, err
		}
		if time.Now().Before(c.own.Leaf.NotAfter) {
			return c, nil
		}
	}
	first, err := selfSigned(id, cfg)
	if err != nil {
		return nil, err
	}
	if id.member() {
		c.standIn = first
	} else {
		c.own = first
	}
	c.pem = encodeCertificate(first.Leaf.Raw)
	return c, nil
}

// selfSigned is the certificate of a node that has none to show: it is not born
// into a cluster yet, or it was down for so long that its own has expired. Then
// clients must be able to reach it all the same, for once it is unsealed it can
// renew its own. They trust it by its ca.pem, as they do a new one.
func selfSigned(id *identity, cfg Config) (*tls.Certificate, error) {
	key, err := id.key()
	if err != nil {
		return nil, err
	}
	der, err := selfSign(id.NodeID, key, cfg.API.Address, cfg.API.Advertise)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the node's first certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// adopt goes over to the certificate that the cluster's authority signed.
func (c *credentials) adopt(id *identity) error {
	key, err := id.key()
	if err != nil {
		return err
	}
	leaf, err := parseCertificate(id.CertificatePEM)
	if err != nil {
		return fmt.Errorf("reading the node's certificate: %w", err)
	}
	root, err := parseCertificate(id.AuthorityPEM)
	if err != nil {
		return fmt.Errorf("reading the authority's certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.show(leaf, root, key)
	return nil
}

// show has connections from now on see leaf. The caller holds mu.
func (c *credentials) show(leaf, root *x509.Certificate, key crypto.PrivateKey) {
	// The authority travels along: a joining node knows its hash only.
	c.own = &tls.Certificate{Certificate: [][]byte{leaf.Raw, root.Raw}, PrivateKey: key, Leaf: leaf}
	c.root, c.authority, c.standIn = root, x509.NewCertPool(), nil
	c.authority.AddCert(root)
	c.pem = encodeCertificate(root.Raw)
}

// errCertificate: a certificate is not what this node can prove itself with.
var errCertificate = errors.New("the certificate is not this node's")

// renewed checks a new certificate of this node against the one it has, and
// goes over to it.
func (c *credentials) renewed(leaf *x509.Certificate) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := sameNode(c.own.Leaf, leaf, c.root); err != nil {
		return err
	}
	c.show(leaf, c.root, c.own.PrivateKey)
	return nil
}

// sameNode refuses a certificate with another node or key than old, or of
// another authority.
func sameNode(old, leaf, root *x509.Certificate) error {
	key, ok := old.PublicKey.(*ecdsa.PublicKey)
	before, named := core.CertifiedNode(old)
	now, namedNow := core.CertifiedNode(leaf)
	if !ok || !key.Equal(leaf.PublicKey) || !named || !namedNow || before != now {
		return errCertificate
	}
	if err := leaf.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("%w: %w", errCertificate, err)
	}
	return nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
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

// forClients is the configuration of the public listener. Who asks for
// joinServerName is a node: it is shown the cluster's own certificate, and may
// show that it is a member by its own. Nobody else is asked for a certificate.
func (c *credentials) forClients() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if h.ServerName == joinServerName {
				return c.forNodes(), nil
			}
			return nil, nil // this very configuration
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c.custom != nil {
				return c.custom.current().cert, nil
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.standIn != nil {
				return c.standIn, nil
			}
			return c.own, nil
		},
	}
}

func (c *credentials) forNodes() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*c.own}, NextProtos: []string{"h2"},
	}
	if c.authority != nil { // without one the system's would vouch
		cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, c.authority
	}
	return cfg
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
