package core

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// door is an admission whose wall clock is set by hand.
type door struct {
	*Admission
	h   *house
	now time.Time
	csr []byte
}

func newDoor(t *testing.T) *door {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{h: newHouse(t), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}
	d.Admission = NewAdmission(d.h.pipeline, func() time.Time { return d.now })
	return d
}

func (d *door) token(ttl time.Duration) string {
	d.h.t.Helper()
	made, err := d.CreateJoinToken(d.h.t.Context(), d.h.root, &conclavev1.CreateJoinTokenRequest{Ttl: durationpb.New(ttl)})
	if err != nil {
		d.h.t.Fatal(err)
	}
	return made.Token
}

func (d *door) join(token, node string) (*conclavev1.JoinResponse, error) {
	return d.Admit(d.h.t.Context(), &conclavev1.JoinRequest{Token: token, NodeId: node, CsrPem: d.csr,
		PeerAddress: "10.0.0.1:8201", ApiAddress: "api.example.org:8210"})
}

// says demands a refusal for an ended token, with these words and without "!x".
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	want(t, err, conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED)
	var e *Error
	if !errors.As(err, &e) {
		return
	}
	if !strings.Contains(e.Hint, "conclave operator join-token") {
		t.Errorf("the hint %q does not say how to make another", e.Hint)
	}
	for _, w := range words {
		unwanted, not := strings.CutPrefix(w, "!")
		if strings.Contains(e.Message+" "+e.Hint, unwanted) == not {
			t.Errorf("%q (hint %q): %q", e.Message, e.Hint, w)
		}
	}
}

// Who shows a token that has ended hears what its end was; who shows one that
// never was learns nothing.
func TestEndedJoinToken(t *testing.T) {
	d := newDoor(t)
	used, late, early := d.token(time.Hour), d.token(time.Minute), d.token(30*24*time.Hour)
	for _, token := range []string{used, early} {
		if _, err := d.join(token, "n1"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := d.join(used, "n2")
	says(t, err, "used already", "by node n1", "at 2026-01-01T00:00:00Z", "conclave operator remove", "!expired")
	_, err = d.join(used, "n1")
	says(t, err, "used already", "which is this one", "!remove")

	d.h.ledger.advance(time.Hour)
	_, err = d.join(late, "n2")
	says(t, err, "has expired at 2026-01-01T00:01:00Z", "!used")
	_, err = d.join(used, "n2")
	says(t, err, "used already", "!expired")

	never, err := ParseJoinToken(late)
	if err != nil {
		t.Fatal(err)
	}
	never.secret.Expose()[0] ^= 1
	_, err = d.join(never.exposeText(), "n2")
	says(t, err, "not known", "!n1", "!2026")

	// Past its memory a token is as unknown as one that never was; and a use
	// outlives the memory of the making, or it would read as an expiry.
	d.h.ledger.advance(joinMemory + time.Hour)
	_, err = d.join(late, "n2")
	says(t, err, "not known")
	d.h.ledger.advance(27 * 24 * time.Hour)
	_, err = d.join(early, "n2")
	says(t, err, "used already", "!expired")
	d.h.ledger.advance(useMemory)
	_, err = d.join(early, "n2")
	says(t, err, "not known")
}

// A token is used up where its memory says so, and nowhere else: the memory of a
// token admits nobody.
func TestMemoryAdmitsNobody(t *testing.T) {
	d := newDoor(t)
	token := d.token(time.Minute)
	d.h.ledger.advance(2 * time.Minute)
	for range 2 {
		_, err := d.join(token, "n1")
		says(t, err, "expired", "!used")
	}
}

// A good token that is refused for another reason is not spent; a bad one does
// not get as far as to be asked about.
func TestRefusedTokenIsKept(t *testing.T) {
	d := newDoor(t)
	token := d.token(time.Minute)
	request := &conclavev1.JoinRequest{Token: token, NodeId: "n1", CsrPem: d.csr}
	asked := 0
	no := func() error { asked++; return refuse(conclavev1.Reason_REASON_CONFLICT, "no", "") }
	_, err := d.Admit(t.Context(), request, no)
	want(t, err, conclavev1.Reason_REASON_CONFLICT)
	if asked == 0 {
		t.Error("nobody was asked")
	}
	if _, err := d.Admit(t.Context(), request, func() error { return nil }); err != nil {
		t.Errorf("the token was spent by a refusal: %v", err)
	}
	asked = 0
	_, err = d.Admit(t.Context(), request, no)
	says(t, err, "used already")
	if asked > 0 {
		t.Error("somebody without a good token heard more than that")
	}
}

func parseCertificate(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("the certificate is not PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A renewed certificate has the node, the key and the hosts of the old one and
// another time, and its authority vouches for it. The old one stays valid.
func TestRenewCertificate(t *testing.T) {
	d := newDoor(t)
	joined, err := d.join(d.token(time.Minute), "n1")
	if err != nil {
		t.Fatal(err)
	}
	old := parseCertificate(t, joined.CertificatePem)
	if life := old.NotAfter.Sub(old.NotBefore); life > 366*24*time.Hour {
		t.Errorf("a node's certificate lives %v, want a year at most", life)
	}
	if want := d.now.Add(-time.Hour + (nodeLife+time.Hour)/3*2); !RenewalTime(old).Equal(want) {
		t.Errorf("renewal is due at %v, want %v", RenewalTime(old), want)
	}
	d.now = RenewalTime(old)
	text, ca, err := d.Renew(old)
	if err != nil {
		t.Fatal(err)
	}
	renewed := parseCertificate(t, text)
	if !renewed.PublicKey.(*ecdsa.PublicKey).Equal(old.PublicKey) || renewed.SerialNumber.Cmp(old.SerialNumber) == 0 {
		t.Error("it has another key, or the same serial number")
	}
	if !slices.Equal(renewed.DNSNames, old.DNSNames) || !slices.EqualFunc(renewed.IPAddresses, old.IPAddresses, net.IP.Equal) {
		t.Errorf("it names %v %v, want %v %v", renewed.DNSNames, renewed.IPAddresses, old.DNSNames, old.IPAddresses)
	}
	if node, ok := CertifiedNode(renewed); !ok || node != "n1" {
		t.Errorf("it names node %q %v, want n1", node, ok)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parseCertificate(t, ca))
	for _, c := range []*x509.Certificate{old, renewed} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: d.now, DNSName: "api.example.org", KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("serial %v, usage %v: %v", c.SerialNumber, usage, err)
			}
		}
	}
	if !renewed.NotAfter.Equal(d.now.Add(nodeLife)) {
		t.Errorf("it ends at %v, want %v", renewed.NotAfter, d.now.Add(nodeLife))
	}

	t.Run("a node that has moved", func(t *testing.T) {
		text, _, err := d.Renew(old, "new.example.org:8210")
		if err != nil {
			t.Fatal(err)
		}
		if c := parseCertificate(t, text); c.VerifyHostname("new.example.org") != nil || c.VerifyHostname("api.example.org") == nil {
			t.Errorf("it names %v, want the new host and not the old", c.DNSNames)
		}
	})
	t.Run("not past the authority", func(t *testing.T) {
		d.now = parseCertificate(t, ca).NotAfter.Add(-time.Hour)
		text, _, err := d.Renew(old)
		if err != nil {
			t.Fatal(err)
		}
		if end := parseCertificate(t, text).NotAfter; end.After(parseCertificate(t, ca).NotAfter) {
			t.Errorf("it ends at %v, after its authority", end)
		}
	})
	t.Run("of another cluster", func(t *testing.T) {
		other := newDoor(t)
		_, _, err := other.Renew(old)
		want(t, err, conclavev1.Reason_REASON_DENIED)
	})
	t.Run("the authority's own", func(t *testing.T) {
		_, _, err := d.Renew(parseCertificate(t, ca))
		want(t, err, conclavev1.Reason_REASON_DENIED)
	})
	t.Run("sealed", func(t *testing.T) {
		if err := d.h.gate.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := d.Renew(old)
		want(t, err, conclavev1.Reason_REASON_SEALED)
	})
}

// A certificate names one node or counts for none.
func TestCertifiedNode(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"n1.node.conclave", "localhost"}, "n1"},
		{[]string{"localhost"}, ""},
		{[]string{".node.conclave"}, ""},
		{[]string{"n1.node.conclave", "n2.node.conclave"}, ""},
		{nil, ""},
	} {
		if got, ok := CertifiedNode(&x509.Certificate{DNSNames: test.names}); got != test.want || ok != (test.want != "") {
			t.Errorf("%q: got %q %v, want %q", test.names, got, ok, test.want)
		}
	}
}
