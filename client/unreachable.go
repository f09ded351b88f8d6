package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
)

// hintConnection says what to do about a connection that could not be made,
// by the type of its failure.
func hintConnection(err error) string {
	var (
		unknownAuthority x509.UnknownAuthorityError
		wrongHost        x509.HostnameError
		invalid          x509.CertificateInvalidError
		notTLS           tls.RecordHeaderError
		noSuchHost       *net.DNSError
	)
	switch {
	case errors.As(err, &unknownAuthority):
		return "The node's certificate is not from the authority given; use the ca.pem of this cluster (it changes once, at init)."
	case errors.As(err, &wrongHost):
		return "The node's certificate does not name this host; use the address that the node advertises."
	case errors.As(err, &invalid):
		return "The node's certificate is not valid now; check the clocks of both machines. If it has expired, start the node again, read its ca.pem anew and unseal it: then it renews it."
	case errors.As(err, &notTLS):
		return "Something else than Conclave's gRPC API listens there; check the port (8210 unless configured otherwise)."
	case errors.As(err, &noSuchHost):
		return "Check the name of the host."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Check that the node runs and that the address is that of its gRPC API (port 8210 unless configured otherwise)."
	}
	return "Check the address, the network and that the node runs."
}
