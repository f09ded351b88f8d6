package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// nameSuffix completes a node's id to the DNS name in its certificate.
const nameSuffix = ".node.conclave"

const (
	protocolRaft = "conclave-raft/1"
	protocolNode = "conclave-node/1"
)

var (
	// ErrNotAllowed: the other end is no member of this cluster.
	ErrNotAllowed = errors.New("peer is not allowed")
	// ErrNoIdentity: the other end's certificate names no node, or several.
	ErrNoIdentity = errors.New("certificate names no single node")
)

// CertificateName is the DNS name that the certificate of the node id must have.
func CertificateName(id string) string { return id + nameSuffix }

// nodeID is the id of the one node that a verified certificate names.
func nodeID(c *x509.Certificate) (string, error) {
	found := ""
	for _, name := range c.DNSNames {
		id, ok := strings.CutSuffix(name, nameSuffix)
		if !ok || id == "" {
			continue
		}
		if found != "" {
			return "", ErrNoIdentity
		}
		found = id
	}
	if found == "" {
		return "", ErrNoIdentity
	}
	return found, nil
}

// admit checks the other end of a finished handshake and returns who it is.
func admit(s tls.ConnectionState, allowed func(string) bool) (string, error) {
	if len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return "", ErrNoIdentity
	}
	id, err := nodeID(s.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	if !allowed(id) {
		return "", fmt.Errorf("node %s: %w", id, ErrNotAllowed)
	}
	return id, nil
}

// serverTLS is base for connections that others open.
func serverTLS(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	c.NextProtos = []string{protocolRaft, protocolNode}
	return c
}

// clientTLS is base for a connection to the node id.
func clientTLS(base *tls.Config, id, protocol string) *tls.Config {
	c := base.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ServerName = CertificateName(id)
	c.InsecureSkipVerify = false
	c.NextProtos = []string{protocol}
	return c
}
