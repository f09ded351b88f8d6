package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// issuer is an authority of a test.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, cert, key}
}

func (i *issuer) pem() []byte { return encodeCertificate(i.cert.Raw) }

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

// issue returns a certificate and its key, in PEM.
func (i *issuer) issue(name string) (cert, key []byte) {
	i.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, k.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		i.t.Fatal(err)
	}
	return encodeCertificate(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func (i *issuer) pair(name string) []tls.Certificate {
	i.t.Helper()
	pair, err := tls.X509KeyPair(i.issue(name))
	if err != nil {
		i.t.Fatal(err)
	}
	return []tls.Certificate{pair}
}

// shelf is the files and the clock of a test.
type shelf struct {
	files map[string][]byte
	clock time.Time
	log   bytes.Buffer
}

func (s *shelf) read(name string) ([]byte, error) {
	if text, ok := s.files[name]; ok {
		return text, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (s *shelf) open(cfg HTTPConfig) (*tlsFiles, error) {
	return openTLSFiles(cfg.tlsNames(), s.read, func() time.Time { return s.clock }, slog.New(slog.NewTextHandler(&s.log, nil)))
}

func (s *shelf) put(name string, text []byte) {
	s.files[name] = text
	s.clock = s.clock.Add(tlsLookEvery)
}

// greet shakes hands, exchanges a byte each way, and returns what the client sees
// and who the server takes it for.
func greet(server, client *tls.Config) (shown string, who string, err error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			if peers := s.ConnectionState().PeerCertificates; len(peers) > 0 {
				who = peers[0].Subject.CommonName
			}
			_, err = s.Write([]byte("x"))
		} else {
			a.Close()
		}
		done <- err
	}()
	// In TLS 1.3 a client learns from its first read whether its certificate will do.
	_, err = c.Read(make([]byte, 1))
	if err != nil {
		b.Close()
	}
	if serr := <-done; err == nil {
		err = serr
	}
	if peers := c.ConnectionState().PeerCertificates; len(peers) > 0 {
		shown = peers[0].Subject.CommonName
	}
	return shown, who, err
}

// Who must show a certificate must show one that the operator's authority vouches
// for; who may, may show none, but not a wrong one.
func TestClientCertificates(t *testing.T) {
	ours, theirs := newIssuer(t, "ours"), newIssuer(t, "theirs")
	node := ours.pair("node.test")
	own := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &node[0], nil }
	for _, c := range []struct {
		mode string
		show []tls.Certificate
		who  string
		ok   bool
	}{
		{"", nil, "", false},
		{"", ours.pair("app"), "app", true},
		{"", theirs.pair("app"), "", false},
		{"required", nil, "", false},
		{"optional", nil, "", true},
		{"optional", ours.pair("app"), "app", true},
		{"optional", theirs.pair("app"), "", false},
	} {
		s := &shelf{files: map[string][]byte{"ca": ours.pem()}}
		f, err := s.open(HTTPConfig{ClientCAFile: "ca", ClientCerts: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		client := &tls.Config{RootCAs: ours.pool(), ServerName: "node.test",
			// As a client that is not told which authorities would do.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if c.show == nil {
					return &tls.Certificate{}, nil
				}
				return &c.show[0], nil
			}}
		_, who, err := greet(f.config(own), client)
		if (err == nil) != c.ok || who != c.who {
			t.Errorf("%+v: taken for %q, %v", c.mode, who, err)
		}
		// The name by which nodes join is none of the HTTP listener's.
		client.ServerName = joinServerName
		client.InsecureSkipVerify = true
		if _, _, err := greet(f.config(own), client); (err == nil) != c.ok {
			t.Errorf("%+v, asking for %s: %v", c.mode, joinServerName, err)
		}
	}
}

// A certificate, its key and the authorities are replaced while the node runs. In
// the middle of a change, what was there before stays at work.
func TestCertificatesAreReadAgain(t *testing.T) {
	ours, theirs := newIssuer(t, "ours"), newIssuer(t, "theirs")
	s := &shelf{files: map[string][]byte{"ca": ours.pem()}, clock: time.Unix(1, 0)}
	s.files["cert"], s.files["key"] = ours.issue("first.test")
	f, err := s.open(HTTPConfig{TLSCertFile: "cert", TLSKeyFile: "key", ClientCAFile: "ca"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := f.config(nil)
	sees := func(name string, show []tls.Certificate, let bool) {
		t.Helper()
		shown, _, err := greet(cfg, &tls.Config{InsecureSkipVerify: true, ServerName: "x", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &show[0], nil }})
		if shown != name || (err == nil) != let {
			t.Errorf("shown %q, %v; want %s, let in %v", shown, err, name, let)
		}
	}
	app, other := ours.pair("app"), theirs.pair("app")
	sees("first.test", app, true)
	cert, key := ours.issue("second.test")
	s.put("cert", cert) // and not yet the key
	sees("first.test", app, true)
	if !strings.Contains(s.log.String(), "cannot be used") {
		t.Errorf("log: %s", &s.log)
	}
	s.put("key", key)
	sees("second.test", app, true)
	s.files["ca"] = theirs.pem() // but nobody has looked yet
	sees("second.test", app, true)
	s.put("ca", theirs.pem())
	sees("second.test", app, false)
	sees("second.test", other, true)
	s.put("ca", []byte("garbage"))
	sees("second.test", other, true)
	delete(s.files, "cert")
	s.put("ca", ours.pem())
	sees("second.test", other, true)
	s.put("cert", cert)
	sees("second.test", app, true)
}

// The gRPC listener's certificate is replaced alike. Who joins sees the cluster's.
func TestGRPCCertificateIsReadAgain(t *testing.T) {
	ours := newIssuer(t, "ours")
	s := &shelf{files: map[string][]byte{}, clock: time.Unix(1, 0)}
	s.files["cert"], s.files["key"] = ours.issue("first.test")
	custom, err := openTLSFiles(tlsNames{listener: "api", cert: "cert", key: "key"}, s.read, func() time.Time { return s.clock }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	node := ours.pair("node.test")
	creds := &credentials{custom: custom, own: &node[0]}
	cfg := creds.forClients()
	for _, name := range []string{"first.test", "second.test"} {
		var key []byte
		s.files["key"] = nil // the key is there a moment before its certificate, or after
		s.files["cert"], key = ours.issue(name)
		s.put("key", key)
		if shown, _, err := greet(cfg, &tls.Config{RootCAs: ours.pool(), ServerName: name}); err != nil || shown != name {
			t.Errorf("asked for %s, shown %q: %v", name, shown, err)
		}
		if shown, _, _ := greet(cfg, &tls.Config{InsecureSkipVerify: true, ServerName: joinServerName}); shown != "node.test" {
			t.Errorf("who joins is shown %q", shown)
		}
	}
}

// What cannot work is refused by the name of its setting, at the start.
func TestWrongTLSSettings(t *testing.T) {
	ours := newIssuer(t, "ours")
	cert, key := ours.issue("x")
	_, foreign := ours.issue("y")
	s := &shelf{files: map[string][]byte{"cert": cert, "key": key, "foreign": foreign, "empty": nil}}
	for want, cfg := range map[string]HTTPConfig{
		"http.tls_cert_file cannot be read":        {TLSCertFile: "none", TLSKeyFile: "key"},
		"http.tls_key_file cannot be read":         {TLSCertFile: "cert", TLSKeyFile: "none"},
		"http.tls_cert_file and http.tls_key_file": {TLSCertFile: "cert", TLSKeyFile: "foreign"},
		"http.client_ca_file cannot be read":       {ClientCAFile: "none"},
		"http.client_ca_file holds no certificate": {ClientCAFile: "empty"},
	} {
		_, err := s.open(cfg)
		var setting *SettingError
		if !errors.As(err, &setting) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
	for want, cfg := range map[string]HTTPConfig{
		"http.tls_cert_file and":  {TLSKeyFile: "k"},
		"http.client_certs must":  {ClientCAFile: "c", ClientCerts: "sometimes"},
		"http.client_ca_file":     {ClientCerts: "optional"},
		"http.tls_disable must":   {TLSDisable: true, ClientCAFile: "c"},
		"http.tls_disable must n": {TLSDisable: true, TLSCertFile: "c", TLSKeyFile: "k"},
	} {
		cfg.Address = "127.0.0.1:0"
		var told []string
		cfg.validate(func(key, format string, args ...any) { told = append(told, key+" "+fmt.Sprintf(format, args...)) })
		if len(told) != 1 || !strings.HasPrefix(told[0], want) {
			t.Errorf("%+v: %q, want %s", cfg, told, want)
		}
	}
}
