package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// fetch asks a node over a connection of its own.
func fetch(t *testing.T, n *Node, cfg *tls.Config, path, token string) (code int, text string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+n.HTTPAddress()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	got, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer got.Body.Close()
	raw, err := io.ReadAll(got.Body)
	return got.StatusCode, string(raw), err
}

// A node shows the certificate that its operator gave it, lets in who has one of the
// right authority, and tells its numbers to who may know them.
func TestHTTPWithCertificates(t *testing.T) {
	ours, theirs := newIssuer(t, "ours"), newIssuer(t, "theirs")
	dir := t.TempDir()
	cert, key := ours.issue("node.test")
	for name, text := range map[string][]byte{"cert": cert, "key": key, "ca": ours.pem()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := startNode(t, Config{HTTP: HTTPConfig{TLSCertFile: filepath.Join(dir, "cert"), TLSKeyFile: filepath.Join(dir, "key"), ClientCAFile: filepath.Join(dir, "ca")}})
	with := func(show []tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ours.pool(), ServerName: "node.test", Certificates: show}
	}
	if code, _, err := fetch(t, n, with(ours.pair("app")), "/v1/sys/health", ""); err != nil || code != 501 {
		t.Errorf("with a certificate: %d %v", code, err)
	}
	for name, show := range map[string][]tls.Certificate{"none": nil, "a foreign one": theirs.pair("app")} {
		if code, _, err := fetch(t, n, with(show), "/v1/sys/health", ""); err == nil {
			t.Errorf("with %s: %d", name, code)
		}
	}
	made, err := n.Init(t.Context(), &conclavev1.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Unseal(t.Context(), &conclavev1.UnsealRequest{Share: made.Shares[0]}); err != nil {
		t.Fatal(err)
	}
	code, text, err := fetch(t, n, with(ours.pair("app")), "/v1/sys/metrics?format=prometheus", made.RootToken)
	if err != nil || code != 200 {
		t.Fatalf("metrics: %d %s %v", code, text, err)
	}
	for _, want := range []string{"conclave_raft_role{role=\"leader\"} 1\n", "conclave_raft_members{kind=\"voter\"} 1\n", "conclave_raft_applied_index ",
		"conclave_audit_sink_up{", "conclave_disk_free_bytes ", "conclave_http_requests_total{method=\"GET\",code=\"501\"} 1\n", "conclave_goroutines "} {
		if !strings.Contains(text, want) {
			t.Errorf("the numbers lack %q:\n%s", want, text)
		}
	}
	if code, _, err = fetch(t, n, with(ours.pair("app")), "/v1/sys/metrics", "hvs.000000000000000000000000"); err != nil || code != 403 {
		t.Errorf("metrics for anybody: %d %v", code, err)
	}
}

// Without files of the operator's, a node shows its own certificate, and asks nobody
// for one.
func TestHTTPWithoutCertificates(t *testing.T) {
	n := startNode(t, Config{})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(n.creds.trusted()) {
		t.Fatal("the node tells nobody whom to trust")
	}
	if code, _, err := fetch(t, n, &tls.Config{RootCAs: pool}, "/v1/sys/health", ""); err != nil || code != 501 {
		t.Errorf("%d %v", code, err)
	}
	if _, _, err := fetch(t, n, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}, "/v1/sys/health", ""); err == nil {
		t.Error("it speaks TLS 1.2")
	}
}
