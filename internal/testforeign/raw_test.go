package testforeign

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// answer is one of a node, as it came over the wire.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// send makes one request of a node, over a connection of its own: a new cluster has
// another authority than its node before it.
func send(ctx context.Context, n *testprocess.Node, method, path string, headers map[string]string, body string) (*answer, error) {
	pool, err := authority(n)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+n.HTTP+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	got, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	return &answer{got.StatusCode, got.Header, text}, err
}

// authority is what vouches for a node.
func authority(n *testprocess.Node) (*x509.CertPool, error) {
	ca, err := os.ReadFile(caFile(n))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	return pool, nil
}

// emptyNode is a node that belongs to no cluster, and answers.
func emptyNode(t *testing.T) *testprocess.Node {
	t.Helper()
	c, err := testprocess.Empty(testprocess.Options{Binary: *binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	n := c.Nodes[0]
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node answers", func() error {
		a, err := send(t.Context(), n, http.MethodGet, "/v1/sys/init", nil, "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("it answers %d", a.code)
		}
		return err
	})
	return n
}

// wire is a client that we spell ourselves, request by request, each to the next node:
// in the words of clients that are written in other languages.
type wire struct {
	*testing.T
	token string
	next  int
}

func newWire(t *testing.T) *wire { return &wire{T: t, token: rootToken(t)} }

// with is the same client with another token.
func (w *wire) with(token string) *wire { return &wire{T: w.T, token: token, next: w.next} }

// do makes a request and checks what every answer has. Headers are pairs of a name and
// a value.
func (w *wire) do(method, path, body string, headers ...string) *said {
	w.Helper()
	h := map[string]string{"X-Vault-Request": "true"}
	if w.token != "" {
		h["X-Vault-Token"] = w.token
	}
	for i := 0; i+1 < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	w.next++
	a, err := send(w.Context(), cluster.Nodes[w.next%len(cluster.Nodes)], method, "/v1/"+path, h, body)
	if err != nil {
		w.Fatalf("%s %s: %v", method, path, err)
	}
	s := &said{T: w.T, answer: a, asked: method + " " + path}
	// Clients take it for JSON only if this is the whole of it, and keep only what
	// says when it was made.
	if kind := a.header.Get("Content-Type"); kind != "application/json" {
		w.Errorf("%s: Content-Type %q", s.asked, kind)
	}
	if _, err := http.ParseTime(a.header.Get("Date")); err != nil || a.header.Get("Cache-Control") != "no-store" {
		w.Errorf("%s: headers %v", s.asked, a.header)
	}
	if len(a.body) > 0 {
		if s.json, err = decode(string(a.body)); err != nil {
			w.Fatalf("%s: %d %s", s.asked, a.code, a.body)
		}
	}
	return s
}

// said is what a node said to a wire.
type said struct {
	*testing.T
	*answer
	asked string
	json  any // numbers as they were written
}

// is checks the code.
func (s *said) is(code int) *said {
	s.Helper()
	if s.code != code {
		s.Fatalf("%s: %d %s, want %d", s.asked, s.code, s.body, code)
	}
	return s
}

// says checks the code of a refusal, and words in its first error; "": there is none.
func (s *said) says(code int, words string) {
	s.Helper()
	s.is(code)
	errors, _ := s.at("errors").([]any)
	first := ""
	if len(errors) > 0 {
		first, _ = errors[0].(string)
	}
	if (words == "") != (len(errors) == 0) || !strings.Contains(first, words) {
		s.Errorf("%s: %s, want %q", s.asked, s.body, words)
	}
}

// at is what lies below names in the answer.
func (s *said) at(names ...string) any {
	v := s.json
	for _, name := range names {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[name]
	}
	return v
}

// text is a text in the answer, of which clients go on to make use.
func (s *said) text(names ...string) string {
	s.Helper()
	text, ok := s.at(names...).(string)
	if !ok || text == "" {
		s.Fatalf("%s: no text at %v: %s", s.asked, names, s.body)
	}
	return text
}

// has checks a value by its JSON; names are separated by dots.
func (s *said) has(names string, want string) *said {
	s.Helper()
	got, err := json.Marshal(s.at(strings.Split(names, ".")...))
	if err != nil || string(got) != want {
		s.Errorf("%s: %s is %s, want %s", s.asked, names, got, want)
	}
	return s
}

// there checks that a key is there, whatever its value.
func (s *said) there(within []string, key string) {
	s.Helper()
	object, _ := s.at(within...).(map[string]any)
	if _, ok := object[key]; !ok {
		s.Errorf("%s: no %s in %s", s.asked, key, s.body)
	}
}

// whole checks that a value is a number without a fraction.
func (s *said) whole(names ...string) {
	s.Helper()
	if n, ok := s.at(names...).(json.Number); !ok || strings.ContainsAny(n.String(), ".eE") {
		s.Errorf("%s: %v is %v, and no whole number", s.asked, names, s.at(names...))
	}
}
