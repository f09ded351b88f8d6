package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// The values of http.client_certs.
const (
	clientCertsRequired = "required"
	clientCertsOptional = "optional"
)

// validateTLS checks the settings of an operator's own certificates.
func (c HTTPConfig) validateTLS(wrong complaint) {
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		wrong("http.tls_cert_file", "and http.tls_key_file must be set together")
	}
	if c.ClientCerts != "" && !oneOf(c.ClientCerts, clientCertsRequired, clientCertsOptional) {
		wrong("http.client_certs", "must be %s or %s, not %q", clientCertsRequired, clientCertsOptional, c.ClientCerts)
	}
	if c.ClientCerts != "" && c.ClientCAFile == "" {
		wrong("http.client_ca_file", "must be set when http.client_certs is: the authorities that vouch for clients")
	}
	if c.TLSDisable && (c.ClientCAFile != "" || c.TLSCertFile != "") {
		wrong("http.tls_disable", "must not be set together with certificates")
	}
}

// tlsLookEvery is how often the files of certificates are looked at while clients
// connect: who replaces them waits no longer than that, and restarts nothing.
const tlsLookEvery = 2 * time.Second

// tlsFiles are the certificates of an operator's own: what a listener for clients
// shows, and whom it believes. They are read again while the node runs. What cannot be
// read, or does not fit together, as in the middle of a change, leaves what was
// there before at work.
type tlsFiles struct {
	tlsNames
	read   func(name string) ([]byte, error)
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	looked time.Time
	texts  [3][]byte // of the certificate, its key and the authorities, as last tried
	good   tlsMaterial
}

// tlsNames are where a listener's certificates are, if anywhere.
type tlsNames struct {
	listener            string // of the settings: "api" or "http"
	cert, key, clientCA string // files; "": none
	optional            bool   // clients may come without a certificate
}

func (c HTTPConfig) tlsNames() tlsNames {
	return tlsNames{"http", c.TLSCertFile, c.TLSKeyFile, c.ClientCAFile, c.ClientCerts == clientCertsOptional}
}

// tlsMaterial is immutable.
type tlsMaterial struct {
	cert        *tls.Certificate // nil: the node's own
	authorities *x509.CertPool   // nil: clients need no certificate
}

// openTLSFiles reads the files for the first time. The error is a *SettingError.
func openTLSFiles(names tlsNames, read func(string) ([]byte, error), now func() time.Time, logger *slog.Logger) (*tlsFiles, error) {
	f := &tlsFiles{tlsNames: names, read: read, now: now, logger: logger, looked: now()}
	texts, err := f.readAll()
	if err != nil {
		return nil, err
	}
	f.texts = texts
	f.good, err = f.parse(texts)
	return f, err
}

func (f *tlsFiles) readAll() (texts [3][]byte, err error) {
	for i, name := range []string{f.cert, f.key, f.clientCA} {
		if name == "" {
			continue
		}
		if texts[i], err = f.read(name); err != nil {
			key := [...]string{".tls_cert_file", ".tls_key_file", ".client_ca_file"}[i]
			return texts, &SettingError{Key: f.listener + key, Problem: fmt.Sprintf("cannot be read: %v", err)}
		}
	}
	return texts, nil
}

func (f *tlsFiles) parse(texts [3][]byte) (m tlsMaterial, err error) {
	if f.cert != "" {
		cert, err := tls.X509KeyPair(texts[0], texts[1])
		if err != nil {
			return m, &SettingError{Key: f.listener + ".tls_cert_file", Problem: fmt.Sprintf("and %s.tls_key_file must be a certificate and its key: %v", f.listener, err)}
		}
		m.cert = &cert
	}
	if f.clientCA != "" {
		m.authorities = x509.NewCertPool()
		if !m.authorities.AppendCertsFromPEM(texts[2]) {
			return m, &SettingError{Key: f.listener + ".client_ca_file", Problem: "holds no certificate in PEM"}
		}
	}
	return m, nil
}

// current is what to use for a connection that begins now.
func (f *tlsFiles) current() tlsMaterial {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.looked) < tlsLookEvery {
		return f.good
	}
	f.looked = now
	texts, err := f.readAll()
	if err == nil {
		changed := false
		for i := range texts {
			changed = changed || !bytes.Equal(texts[i], f.texts[i])
		}
		if !changed {
			return f.good
		}
		f.texts = texts
		var next tlsMaterial
		if next, err = f.parse(texts); err == nil {
			f.good = next
			f.logger.Info("a listener's certificates were read anew", "listener", f.listener)
			return f.good
		}
	}
	f.logger.Error("a listener's certificates cannot be used; those from before stay at work", "listener", f.listener, "error", err)
	return f.good
}

// config is the configuration of the HTTP listener. own shows the node's own
// certificate where the operator has given none.
func (f *tlsFiles) config(own func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, GetCertificate: own,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := f.current()
			cfg := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, GetCertificate: own}
			if now.cert != nil {
				cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.cert, nil }
			}
			if now.authorities == nil {
				return cfg, nil
			}
			// A ticket would let a client in again whose authority has gone since.
			cfg.ClientCAs, cfg.SessionTicketsDisabled = now.authorities, true
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
			if f.optional {
				cfg.ClientAuth = tls.VerifyClientCertIfGiven
			}
			return cfg, nil
		},
	}
}
