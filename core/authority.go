package core

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// An Authority signs the certificates of a cluster's nodes. Its key lies sealed
// in the ledger, so any unsealed node can sign and a stolen disk cannot.
type Authority struct {
	Certificate *x509.Certificate
	// GossipKey encrypts the gossip between nodes; each member is given it.
	GossipKey []byte

	key  crypto.Signer
	rand io.Reader
}

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	// nodeLife is short enough to matter when a node's key is lost, and long
	// enough that a cluster may stand sealed, or unpowered, for months: a node
	// renews its certificate when two thirds of it are over (RenewalTime).
	nodeLife = 365 * 24 * time.Hour
	// clockSlack lets a certificate be valid on nodes whose clocks are behind.
	clockSlack = time.Hour
)

// authorityKey is the record of the authority: a fixed key in its space, with a
// sealed value.
var authorityKey = fsm.Key{byte(spaceAuthority), 1}

// NodeName is the name in a node's certificate. Other nodes expect it, whatever
// the node's address.
func NodeName(nodeID string) string { return nodeID + nodeSuffix }

const nodeSuffix = ".node.conclave"

// CertifiedNode returns the id of the one node that a certificate names; ok is
// false when it names none, or several. Whether the certificate is genuine is
// for the caller to have verified.
func CertifiedNode(c *x509.Certificate) (nodeID string, ok bool) {
	for _, name := range c.DNSNames {
		id, isNode := strings.CutSuffix(name, nodeSuffix)
		if !isNode {
			continue
		}
		if nodeID != "" || id == "" {
			return "", false
		}
		nodeID = id
	}
	return nodeID, nodeID != ""
}

// RenewalTime is when a node's certificate should be renewed: when two thirds of
// its life are over, so that a third is left to find a node that can.
func RenewalTime(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

func newAuthority(rand io.Reader, cluster seal.ClusterID, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	a := &Authority{key: key, rand: rand, GossipKey: make([]byte, 32)}
	if _, err := io.ReadFull(rand, a.GossipKey); err != nil {
		return nil, fmt.Errorf("drawing the gossip key: %w", err)
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Conclave cluster " + cluster.String()},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority's certificate: %w", err)
	}
	a.Certificate, err = x509.ParseCertificate(der)
	return a, err
}

func newSerial(rand io.Reader) (*big.Int, error) {
	raw := make([]byte, 16)
	if _, err := io.ReadFull(rand, raw); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	raw[0] &= 0x7f // positive, as RFC 5280 wants it
	return new(big.Int).SetBytes(raw), nil
}

// put stages the authority's record.
func (a *Authority) put(t *tx) error {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("encoding the authority's key: %w", err)
	}
	return t.putMessage(authorityKey, &storev1.Authority{CertificateDer: a.Certificate.Raw, PrivateKeyPkcs8: key, GossipKey: a.GossipKey}, nil)
}

// authority reads the cluster's authority.
func (t *tx) authority(rand io.Reader) (*Authority, error) {
	var kept storev1.Authority
	if _, err := t.message(authorityKey, &kept); err != nil { // there is one from the first batch on
		return nil, err
	}
	cert, err := x509.ParseCertificate(kept.CertificateDer)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(kept.PrivateKeyPkcs8)
	if err != nil {
		return nil, errors.New("reading the authority's key: it does not parse")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("reading the authority's key: it cannot sign")
	}
	return &Authority{Certificate: cert, GossipKey: kept.GossipKey, key: key, rand: rand}, nil
}

// PEM returns the authority's certificate for clients and nodes to trust.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// NameHosts adds the hosts of addresses (HOST:PORT) to a certificate's names. An
// address without a host adds none.
func NameHosts(template *x509.Certificate, addresses ...string) {
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			continue
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
}

// Sign returns a certificate, in PEM, for the node with the given id and public
// key: for its peers under its NodeName, for clients under the hosts of the
// addresses that it is reached at.
func (a *Authority) Sign(nodeID string, public crypto.PublicKey, addresses []string, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		DNSNames:    []string{NodeName(nodeID), "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	NameHosts(template, addresses...)
	return a.issue(nodeID, public, template, now)
}

// ErrNotIssued: a certificate to renew is none that this authority issued to a node.
var ErrNotIssued = errors.New("the certificate was not issued to a node by this cluster")

// Renew returns a certificate, in PEM, with the node and the key of an old one.
// Its hosts are those of the addresses, or without any those of the old one: who
// asks for another node's gets no name that it had not.
func (a *Authority) Renew(old *x509.Certificate, addresses []string, now time.Time) ([]byte, error) {
	nodeID, ok := CertifiedNode(old)
	if !ok || old.CheckSignatureFrom(a.Certificate) != nil {
		return nil, ErrNotIssued
	}
	if len(addresses) > 0 {
		return a.Sign(nodeID, old.PublicKey, addresses, now)
	}
	return a.issue(nodeID, old.PublicKey, &x509.Certificate{DNSNames: old.DNSNames, IPAddresses: old.IPAddresses}, now)
}

// issue signs a certificate with the names of template.
func (a *Authority) issue(nodeID string, public crypto.PublicKey, template *x509.Certificate, now time.Time) ([]byte, error) {
	serial, err := newSerial(a.rand)
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.Subject = serial, pkix.Name{CommonName: nodeID}
	template.NotBefore, template.NotAfter = now.Add(-clockSlack), now.Add(nodeLife)
	if end := a.Certificate.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end // nobody would trust it longer
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(a.rand, template, a.Certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of node %s: %w", nodeID, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
