package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/transport/peer"
)

const day = 24 * time.Hour

// founded is a cluster of nodes in this process.
type founded struct {
	t     *testing.T
	ctx   context.Context
	first *Node
	made  *conclavev1.InitResponse
}

func foundCluster(t *testing.T) *founded {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	f := &founded{t: t, ctx: ctx, first: startNode(t, Config{})}
	made, err := f.first.Init(ctx, &conclavev1.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.made = made
	f.unseal(f.first)
	return f
}

// eventually asks until the answer is nil.
func (f *founded) eventually(what string, ask func() error) {
	f.t.Helper()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-f.ctx.Done():
			f.t.Fatalf("%s: %v", what, err)
		}
	}
}

var errNotYet = errors.New("not yet")

func (f *founded) unseal(n *Node) {
	f.t.Helper()
	f.eventually("unsealing", func() error {
		r, err := n.Unseal(f.ctx, &conclavev1.UnsealRequest{Share: f.made.Shares[0]})
		if err == nil && r.Sealed {
			err = errNotYet
		}
		return err
	})
}

func (f *founded) join() *Node {
	f.t.Helper()
	rooms, err := f.first.Rooms()
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := rooms.Admission.CreateJoinToken(f.ctx, callerOf(f.made.RootToken), &conclavev1.CreateJoinTokenRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	return startNode(f.t, Config{Join: JoinConfig{Addresses: []string{f.first.APIAddress()}, Token: JoinToken(token.Token)}})
}

// aged stops a node and starts it again with a certificate that it got that
// long ago. Whose keys sign it must be open.
func (f *founded) aged(n, signer *Node, age time.Duration) *Node {
	f.t.Helper()
	rooms, err := signer.Rooms()
	if err != nil {
		f.t.Fatal(err)
	}
	then := core.NewAdmission(rooms.Pipeline, func() time.Time { return time.Now().Add(-age) })
	old, _, err := then.Renew(n.creds.current().Leaf)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := restarted(n)
	if err := n.Close(); err != nil {
		f.t.Fatal(err)
	}
	id, err := loadIdentity(cfg.DataDir)
	if err != nil {
		f.t.Fatal(err)
	}
	id.CertificatePEM = old
	if err := id.save(cfg.DataDir); err != nil {
		f.t.Fatal(err)
	}
	return startNode(f.t, cfg)
}

// shown is the certificate that a node shows at an address in a handshake, under
// the authority's eyes unless roots is given.
func (f *founded) shown(address, name string, roots []byte, also func(*tls.Config)) (*x509.Certificate, error) {
	f.t.Helper()
	if roots == nil {
		roots = f.made.CaPem
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: name}
	if !cfg.RootCAs.AppendCertsFromPEM(roots) {
		f.t.Fatal("no authority")
	}
	if also != nil {
		also(cfg)
	}
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(f.ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func young(c *x509.Certificate) error {
	if time.Since(c.NotBefore) > 2*time.Hour {
		return errNotYet
	}
	return nil
}

// A sealed node whose certificate is two thirds through gets another from an
// unsealed member, shows it without a restart to clients and to peers, and has
// it after one.
func TestSealedNodeRenews(t *testing.T) {
	f := foundCluster(t)
	second := f.aged(f.join(), f.first, 300*day)
	before, _ := second.current()
	f.eventually("the certificate is renewed", func() error { return young(second.creds.current().Leaf) })
	if !second.member.gate.Sealed() {
		t.Error("it was not sealed")
	}
	leaf := second.creds.current().Leaf
	if old, err := parseCertificate(before.CertificatePEM); err != nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(old.PublicKey) {
		t.Errorf("it has another key, or: %v", err)
	}
	asFirst := func(c *tls.Config) {
		c.NextProtos = []string{"conclave-node/1"}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.first.creds.current(), nil }
	}
	for _, see := range []struct {
		what, address, name string
		also                func(*tls.Config)
	}{
		{"clients", second.APIAddress(), "localhost", nil},
		{"peers", second.listeners.peer.Addr().String(), peer.CertificateName(second.id.NodeID), asFirst},
	} {
		got, err := f.shown(see.address, see.name, nil, see.also)
		if err != nil || !got.Equal(leaf) {
			t.Errorf("%s: %v, or they are shown another certificate", see.what, err)
		}
	}
	f.eventually("both are alive", func() error {
		members, err := f.first.Members(f.ctx, callerOf(f.made.RootToken))
		if err == nil && (len(members.Members) != 2 || !members.Members[0].Alive || !members.Members[1].Alive) {
			err = fmt.Errorf("members: %v", members)
		}
		return err
	})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, restarted(second))
	if !again.creds.current().Leaf.Equal(leaf) {
		t.Error("after a restart it shows another certificate")
	}
}

// An unsealed node signs its own. One that was down past its certificate's end
// can be reached all the same, by its ca.pem, to be unsealed.
func TestUnsealedNodeRenews(t *testing.T) {
	for _, test := range []struct {
		name    string
		age     time.Duration
		expired bool
	}{{"in time", 300 * day, false}, {"expired", 800 * day, true}} {
		t.Run(test.name, func(t *testing.T) {
			f := foundCluster(t)
			n := f.aged(f.first, f.first, test.age)
			trusted, err := os.ReadFile(n.cfg.CAPath())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(trusted, f.made.CaPem) == test.expired {
				t.Errorf("ca.pem is the authority: %v", !test.expired)
			}
			if _, err := f.shown(n.APIAddress(), "localhost", trusted, nil); err != nil {
				t.Errorf("clients that trust ca.pem: %v", err)
			}
			f.unseal(n)
			f.eventually("the certificate is renewed", func() error { return young(n.creds.current().Leaf) })
			got, err := f.shown(n.APIAddress(), "localhost", nil, nil)
			if err != nil || young(got) != nil {
				t.Errorf("clients that trust the authority: %v, or an old certificate", err)
			}
			f.eventually("ca.pem is the authority", func() error {
				trusted, err := os.ReadFile(n.cfg.CAPath())
				if err == nil && !bytes.Equal(trusted, f.made.CaPem) {
					err = errNotYet
				}
				return err
			})
		})
	}
}

// Nobody is given a certificate who does not prove to be a member.
func TestRenewalIsForMembers(t *testing.T) {
	f := foundCluster(t)
	rooms, err := f.first.Rooms()
	if err != nil {
		t.Fatal(err)
	}
	id, m := f.first.current()
	key, err := id.key()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c *tls.Certificate) ([]byte, error) {
		cfg := f.first.creds.forNode(id.NodeID)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
		return askOneRenewal(f.ctx, f.first.APIAddress(), cfg)
	}
	if text, err := ask(f.first.creds.current()); err != nil || len(text) == 0 {
		t.Errorf("a member is refused: %v", err)
	}
	if text, err := ask(&tls.Certificate{}); err == nil || len(text) > 0 || errorDetail(err).GetReason() != conclavev1.Reason_REASON_JOIN_TOKEN_INVALID {
		t.Errorf("without a certificate: got %v, want that a token is missing", err)
	}
	stranger, err := selfSigned(id, f.first.cfg) // the right name and key, and nobody vouches for it
	if err != nil {
		t.Fatal(err)
	}
	if text, err := ask(stranger); err == nil || len(text) > 0 {
		t.Errorf("a certificate that no authority signed: got %v", err)
	}
	then := core.NewAdmission(rooms.Pipeline, func() time.Time { return time.Now().Add(-800 * day) })
	text, _, err := then.Renew(f.first.creds.current().Leaf)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := ask(&tls.Certificate{Certificate: [][]byte{expired.Raw}, PrivateKey: key}); err == nil || len(text) > 0 {
		t.Errorf("an expired certificate: got %v", err)
	}

	second := f.join()
	removed := second.creds.current()
	if text, err := ask(removed); err != nil || len(text) == 0 {
		t.Errorf("the second member is refused: %v", err)
	}
	f.eventually("it is removed", func() error { return f.first.RemoveMember(f.ctx, callerOf(f.made.RootToken), second.id.NodeID) })
	f.eventually("the first knows", func() error {
		if m.has(second.id.NodeID) {
			return errNotYet
		}
		return nil
	})
	if text, err := ask(removed); err == nil || len(text) > 0 || errorDetail(err).GetReason() != conclavev1.Reason_REASON_DENIED {
		t.Errorf("a removed member: got %v, want a refusal", err)
	}
}

// A damaged or foreign certificate.pem does not keep a node from its own.
func TestRenewedCertificateOfAnother(t *testing.T) {
	f := foundCluster(t)
	other := foundCluster(t)
	dir := f.first.cfg.DataDir
	leaf := f.first.creds.current().Leaf
	if err := f.first.Close(); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{
		"garbage": []byte("x"), "empty": nil, "of another cluster": encodeCertificate(other.first.creds.current().Leaf.Raw),
		"the authority": f.made.CaPem,
	} {
		id, err := loadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, certificateFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		own := bytes.Clone(id.CertificatePEM)
		if err := id.takeRenewed(dir); err == nil || !bytes.Equal(id.CertificatePEM, own) {
			t.Errorf("%s: it was taken, or nobody was told: %v", what, err)
		}
	}
	again := startNode(t, Config{DataDir: dir})
	if !again.creds.current().Leaf.Equal(leaf) {
		t.Error("the node has another certificate")
	}
}

// renewing is a renewal with an authority of its own, in virtual time.
func renewing(t *testing.T, f *core.Founding, log io.Writer) *renewal {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := f.Authority.Sign("n1", key.Public(), []string{"10.0.0.1:1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	creds := &credentials{}
	creds.show(leaf, f.Authority.Certificate, key)
	return &renewal{dir: t.TempDir(), addresses: []string{"10.0.0.1:1"}, creds: creds, now: time.Now, soon: make(chan struct{}, 1),
		logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})), sealed: func() bool { return false },
		sign:      func(old *x509.Certificate, a []string) ([]byte, error) { return f.Authority.Renew(old, a, time.Now()) },
		ask:       func(context.Context, *x509.Certificate) ([]byte, error) { return nil, errNoSigner },
		published: func() error { return nil }}
}

// lockedLog is a log that is read while others write it.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func sealedError(*x509.Certificate, []string) ([]byte, error) {
	return nil, &core.Error{Reason: conclavev1.Reason_REASON_SEALED}
}

// Over ten years certificates follow each other, each at two thirds of the one
// before, and at no moment is an expired one shown.
func TestRenewalOverYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := core.Found(rand.Reader, time.Now(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		r := renewing(t, f, &log)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		last, changes := r.creds.current().Leaf, 0
		for range 10 * 365 {
			time.Sleep(day) // virtual
			synctest.Wait()
			now := r.creds.current().Leaf
			if !now.Equal(last) {
				changes++
				if late := time.Since(core.RenewalTime(last)); late < 0 || late > day+time.Hour {
					t.Errorf("renewed %v after it was due", late)
				}
				last = now
			}
			if left := time.Until(now.NotAfter); left < 100*day {
				t.Fatalf("%v are left of the certificate", left)
			}
		}
		if changes != 15 { // 3650 days at 243 each
			t.Errorf("%d renewals in ten years, want 15", changes)
		}
		stop()
		<-done
	})
}

// A failed renewal is tried again, at first soon and then hourly, and louder
// near the end; with the keys there it is not waited for the hour.
func TestRenewalRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := core.Found(rand.Reader, time.Now(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		var log lockedLog
		r := renewing(t, f, &log)
		sign := r.sign
		var open atomic.Bool
		r.sealed = func() bool { return !open.Load() }
		r.sign = func(old *x509.Certificate, a []string) ([]byte, error) {
			if !open.Load() {
				return sealedError(old, a)
			}
			return sign(old, a)
		}
		var questions atomic.Int64
		r.ask = func(context.Context, *x509.Certificate) ([]byte, error) {
			questions.Add(1)
			return nil, errNoSigner
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()

		old := r.creds.current().Leaf
		time.Sleep(time.Until(core.RenewalTime(old)) + time.Second)
		synctest.Wait()
		if asked := questions.Load(); asked == 0 || log.String() != "" {
			t.Errorf("asked %d times, and said %q: a node that comes up is in no hurry to tell", asked, &log)
		}
		time.Sleep(day)
		synctest.Wait()
		if asked := questions.Load(); asked < 20 || asked > 40 || !strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("asked %d times in a day, and said\n%s", asked, &log)
		}
		time.Sleep(time.Until(old.NotAfter.Add(-30 * day)))
		synctest.Wait()
		if !strings.Contains(log.String(), "level=ERROR") {
			t.Error("a month before its end the log shows no error")
		}
		open.Store(true)
		r.lookNow()
		synctest.Wait()
		if r.creds.current().Leaf.Equal(old) {
			t.Error("with the keys there it was not renewed at once")
		}
		stop()
		<-done
	})
}

// An answer that is no better certificate of this very node changes nothing.
func TestRenewalRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := core.Found(rand.Reader, time.Now(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := core.Found(rand.Reader, time.Now(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		r := renewing(t, f, &log)
		old := r.creds.current()
		public := old.Leaf.PublicKey
		time.Sleep(time.Until(core.RenewalTime(old.Leaf))) // virtual
		sign := func(a *core.Authority, node string, public any, at time.Time) func() ([]byte, error) {
			return func() ([]byte, error) { return a.Sign(node, public, nil, at) }
		}
		for what, answer := range map[string]func() ([]byte, error){
			"garbage":         func() ([]byte, error) { return []byte("x"), nil },
			"nothing":         func() ([]byte, error) { return nil, nil },
			"another node":    sign(f.Authority, "n2", public, time.Now()),
			"another key":     sign(f.Authority, "n1", other.Public(), time.Now()),
			"another cluster": sign(stranger.Authority, "n1", public, time.Now()),
			"older":           sign(f.Authority, "n1", public, time.Now().Add(-300*day)),
			"of the future":   sign(f.Authority, "n1", public, time.Now().Add(2*time.Hour)),
		} {
			r.sign, r.ask = sealedError, func(context.Context, *x509.Certificate) ([]byte, error) { return answer() }
			if _, err := r.renew(t.Context(), old.Leaf); err == nil || r.creds.current() != old {
				t.Errorf("%s: it was taken: %v", what, err)
			}
			if _, err := os.Stat(filepath.Join(r.dir, certificateFile)); err == nil {
				t.Errorf("%s: it was kept", what)
			}
		}
		r.ask = func(context.Context, *x509.Certificate) ([]byte, error) {
			return f.Authority.Renew(old.Leaf, nil, time.Now())
		}
		if _, err := r.renew(t.Context(), old.Leaf); err != nil {
			t.Errorf("a good one is refused: %v", err)
		}
	})
}

// An unsealed node whose addresses changed puts them into its certificate; the
// sealed one cannot, and does not bother the others.
func TestRenewalForNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := core.Found(rand.Reader, time.Now(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		r := renewing(t, f, &log)
		r.addresses = []string{"10.9.9.9:1", "node.example.org:2"}
		time.Sleep(time.Minute) // virtual
		old := r.creds.current().Leaf
		r.sealed = func() bool { return true }
		if r.look(t.Context()); !r.creds.current().Leaf.Equal(old) {
			t.Error("sealed, it renewed")
		}
		r.sealed = func() bool { return false }
		r.look(t.Context())
		leaf := r.creds.current().Leaf
		if leaf.VerifyHostname("node.example.org") != nil || leaf.VerifyHostname(net.IPv4(10, 9, 9, 9).String()) != nil {
			t.Errorf("it names %v %v", leaf.DNSNames, leaf.IPAddresses)
		}
		if r.look(t.Context()); !r.creds.current().Leaf.Equal(leaf) {
			t.Error("it renewed again although nothing changed")
		}
	})
}
