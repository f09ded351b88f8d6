package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/conclave-secrets/conclave/core"
	vaulthttp "github.com/conclave-secrets/conclave/transport/http"
)

// An HTTPConfig is the API in Vault's shape. Default 127.0.0.1:8200; the address
// "off" means that there is none.
type HTTPConfig struct {
	Address string
	// TLSDisable serves in plain text: tokens and secrets are readable on the
	// way. It is refused on any address but loopback unless
	// TLSDisableAnywhere is set, too.
	TLSDisable         bool
	TLSDisableAnywhere bool
	// TLSCertFile and TLSKeyFile replace the node's own certificate here. Both or
	// none. Like ClientCAFile they are read again when they change.
	TLSCertFile string
	TLSKeyFile  string
	// ClientCAFile has the authorities, in PEM, that vouch for clients. Empty: no
	// client is asked for a certificate. A token is needed beside it in any case.
	ClientCAFile string
	// ClientCerts is "required", the default, or "optional": a client without a
	// certificate is let in, one with a wrong one is not.
	ClientCerts string
	// ReportedVersion is what clients are told, who compare it with Vault's.
	// Empty: one that none of them stumbles over.
	ReportedVersion string
}

const (
	httpOff = "off"
	// reportedVersion is of the Vault whose API this is, marked as not being it.
	reportedVersion = "1.17.0+conclave"
)

// validate checks the settings after Defaults.
func (c HTTPConfig) validate(wrong complaint) {
	if c.Address == httpOff {
		return
	}
	c.validateTLS(wrong)
	host, ok := hostPort(c.Address, true)
	if !ok {
		wrong("http.address", "must be HOST:PORT or off, not %q", c.Address)
		return
	}
	if c.TLSDisable && !c.TLSDisableAnywhere && !loopbackHost(host) {
		wrong("http.tls_disable", "is for loopback addresses, and %q is none: tokens and secrets would cross the network in clear; http.tls_disable_anywhere allows it all the same", c.Address)
	}
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// httpServer is the listener of the API in Vault's shape.
type httpServer struct {
	listener net.Listener
	files    *tlsFiles
	server   *http.Server
}

// openHTTP takes the port. Nil: there shall be none.
func (n *Node) openHTTP() error {
	if n.cfg.HTTP.Address == httpOff {
		return nil
	}
	files, err := openTLSFiles(n.cfg.HTTP.tlsNames(), os.ReadFile, time.Now, n.logger.With("part", "http"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", n.cfg.HTTP.Address)
	if err != nil {
		return &PortError{"http.address", n.cfg.HTTP.Address, errors.Unwrap(err)}
	}
	n.http = &httpServer{listener: l, files: files}
	return nil
}

// serveHTTP starts to answer.
func (n *Node) serveHTTP() {
	if n.http == nil {
		return
	}
	logger := n.logger.With("part", "http")
	s := &http.Server{Handler: vaulthttp.Handler(vaulthttp.Options{Node: n, Logger: logger,
		Version: n.cfg.HTTP.ReportedVersion, MaxInFlight: n.cfg.Limits.MaxInFlight})}
	vaulthttp.Harden(s)
	n.http.server = s
	l := n.http.listener
	if n.cfg.HTTP.TLSDisable {
		n.logger.Warn("the HTTP API is served WITHOUT TLS: tokens and secrets are readable on the way", "address", l.Addr().String())
	} else {
		secure := n.http.files.config(n.creds.forClients().GetCertificate)
		l = tls.NewListener(l, secure)
		s.TLSConfig = secure
	}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(err)
		}
	}()
}

// close lets requests in flight finish until ctx ends.
func (s *httpServer) close(ctx context.Context) error {
	if s == nil {
		return nil
	}
	if s.server == nil {
		return ignoreClosed(s.listener.Close())
	}
	if err := s.server.Shutdown(ctx); err != nil {
		return s.server.Close()
	}
	return nil
}

// HTTPAddress is the address that the API in Vault's shape listens on; "" if
// there is none.
func (n *Node) HTTPAddress() string {
	if n.http == nil {
		return ""
	}
	return n.http.listener.Addr().String()
}

// Serve implements the Node of transport/http.
func (n *Node) Serve(ctx context.Context, c core.Caller, q core.Request) (*core.Reply, error) {
	rooms, err := n.Rooms()
	if err != nil {
		return nil, err
	}
	return rooms.Pipeline.Serve(ctx, c, q)
}

// ClusterID implements the Node of transport/http.
func (n *Node) ClusterID() string {
	id, _ := n.current()
	return id.Cluster
}

// Vouch implements the Node of transport/http.
func (n *Node) Vouch(text string) ([]byte, error) {
	rooms, err := n.Rooms()
	if err != nil {
		return nil, err
	}
	return rooms.Pipeline.Vouch("index", text)
}
