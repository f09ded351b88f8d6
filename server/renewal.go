package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	ggrpc "google.golang.org/grpc"
	grpccreds "google.golang.org/grpc/credentials"
	gstatus "google.golang.org/grpc/status"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// certificateFile is a renewed certificate, in PEM. It has a file of its own,
// and not a place in identity.json, because each of the two has one writer so.
const certificateFile = "certificate.pem"

const (
	// renewalLook bounds the pause between two looks at the certificate. Timers
	// do not count the time in which a machine sleeps.
	renewalLook = time.Hour
	// After a failure the pause doubles, from the one to the other.
	renewalRetryFirst = time.Second
	renewalRetryMost  = time.Hour
	// renewalQuiet is the pause up to which a failure is no news: a node that
	// comes up has not heard of the others yet.
	renewalQuiet = time.Minute
	// renewalTime bounds one attempt.
	renewalTime = 20 * time.Second
)

// A renewal keeps the node's certificate young: when two thirds of its life are
// over, or when the node's addresses are not in it, it gets another, without a
// restart.
//
// A node that is unsealed signs its own, for it has the authority. A sealed one
// asks the unsealed members in turn, over TLS on both sides, and gets what it
// has anew: the same node, key and hosts. What is not renewed stays valid to its
// end; a node that missed even that can be unsealed and then signs its own.
type renewal struct {
	dir       string // the data directory
	addresses []string
	creds     *credentials
	now       func() time.Time
	logger    *slog.Logger
	// sealed tells whether sign would refuse.
	sealed func() bool
	// sign is this node's own authority, ask that of the others. Both return PEM.
	sign func(old *x509.Certificate, addresses []string) ([]byte, error)
	ask  func(ctx context.Context, old *x509.Certificate) ([]byte, error)
	// published is called after a renewal: what clients must trust may have changed.
	published func() error

	soon  chan struct{} // capacity 1: look now
	retry time.Duration // of run's goroutine: the pause after the next failure
}

// lookNow has the renewal look at once, because the node was unsealed.
func (r *renewal) lookNow() {
	select {
	case r.soon <- struct{}{}:
	default:
	}
}

// run looks after the certificate until ctx ends.
func (r *renewal) run(ctx context.Context) {
	for {
		timer := time.NewTimer(r.look(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.soon:
			timer.Stop()
		}
	}
}

// look renews the certificate if it is time and returns the pause until the
// next look.
func (r *renewal) look(ctx context.Context) time.Duration {
	old := r.creds.current().Leaf
	due := core.RenewalTime(old)
	early := r.now().Before(due)
	if early && (r.sealed() || names(old, r.addresses)) {
		r.retry = 0
		return min(due.Sub(r.now()), renewalLook)
	}
	leaf, err := r.renew(ctx, old)
	if err != nil {
		return r.failed(ctx, old, err)
	}
	r.logger.Info("the node's certificate was renewed", "serial", leaf.SerialNumber.Text(16), "until", leaf.NotAfter, "the_old_until", old.NotAfter)
	r.retry = 0
	// Not at once, even if the new one should be due already: its authority may
	// be near its own end.
	return min(max(core.RenewalTime(leaf).Sub(r.now()), renewalRetryMost), renewalLook)
}

// failed tells of a failure, louder as the end comes nearer, and returns the pause.
func (r *renewal) failed(ctx context.Context, old *x509.Certificate, err error) time.Duration {
	pause := max(r.retry, renewalRetryFirst)
	r.retry = min(2*pause, renewalRetryMost)
	if ctx.Err() != nil {
		return pause
	}
	level := slog.LevelWarn
	switch left := old.NotAfter.Sub(r.now()); {
	case pause <= renewalQuiet:
		level = slog.LevelDebug
	case left < old.NotAfter.Sub(old.NotBefore)/10:
		level = slog.LevelError
	}
	r.logger.Log(ctx, level, "the node's certificate could not be renewed", "until", old.NotAfter, "error", err, "again_in", pause)
	return pause
}

// renew gets a new certificate and goes over to it. It is durable before it is
// shown to anybody.
func (r *renewal) renew(ctx context.Context, old *x509.Certificate) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, renewalTime)
	defer cancel()
	text, err := r.sign(old, r.addresses)
	if isSealed(err) {
		text, err = r.ask(ctx, old)
	}
	if err != nil {
		return nil, err
	}
	leaf, err := parseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("reading the new certificate: %w", err)
	}
	if now := r.now(); !leaf.NotBefore.After(old.NotBefore) || now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, fmt.Errorf("the new certificate is for %v to %v, the old one for %v to %v, and it is %v: look at the clocks",
			leaf.NotBefore, leaf.NotAfter, old.NotBefore, old.NotAfter, now)
	}
	if err := sameNode(old, leaf, r.creds.rootOf()); err != nil {
		return nil, err
	}
	if err := vfs.AtomicWrite(vfs.Default, filepath.Join(r.dir, certificateFile), text); err != nil {
		return nil, fmt.Errorf("keeping the new certificate: %w", err)
	}
	if err := r.creds.renewed(leaf); err != nil {
		return nil, err
	}
	return leaf, r.published()
}

// names tells whether a certificate has the hosts of all addresses.
func names(c *x509.Certificate, addresses []string) bool {
	var wanted x509.Certificate
	core.NameHosts(&wanted, addresses...)
	for _, name := range wanted.DNSNames {
		if !slices.Contains(c.DNSNames, name) {
			return false
		}
	}
	for _, ip := range wanted.IPAddresses {
		if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// takeRenewed has the identity use a renewed certificate of the data directory,
// if there is one that was made after its own.
func (i *identity) takeRenewed(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, certificateFile))
	if errors.Is(err, fs.ErrNotExist) || !i.member() {
		return nil
	}
	if err != nil {
		return err
	}
	var all [3]*x509.Certificate
	for n, each := range [][]byte{i.CertificatePEM, text, i.AuthorityPEM} {
		if all[n], err = parseCertificate(each); err != nil {
			return err
		}
	}
	own, renewed, root := all[0], all[1], all[2]
	if err := sameNode(own, renewed, root); err != nil {
		return err
	}
	if renewed.NotBefore.After(own.NotBefore) {
		i.CertificatePEM = text
	}
	return nil
}

// startRenewal looks after the certificate for as long as m is open.
func (n *Node) startRenewal(m *member) *renewal {
	r := &renewal{
		dir: n.cfg.DataDir, addresses: []string{n.cfg.API.Advertise, n.cfg.Peer.Advertise}, creds: n.creds, now: time.Now,
		logger: n.logger.With("part", "certificate"), sealed: m.gate.Sealed, ask: m.askRenewal(n.creds),
		sign: func(old *x509.Certificate, addresses []string) ([]byte, error) {
			certificate, _, err := m.rooms.Admission.Renew(old, addresses...)
			return certificate, err
		},
		published: n.publishAuthority, soon: make(chan struct{}, 1),
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx) })
	m.closeLater(func() error {
		stop()
		running.Wait()
		return nil
	})
	return r
}

// errNoSigner: there is nobody to sign a sealed node's certificate.
var errNoSigner = errors.New("this node is sealed, and it has heard of no unsealed one; unseal it or another")

// askRenewal returns a function that asks the unsealed members that this node
// has heard of, until one answers.
func (m *member) askRenewal(c *credentials) func(context.Context, *x509.Certificate) ([]byte, error) {
	return func(ctx context.Context, _ *x509.Certificate) ([]byte, error) {
		err := errNoSigner
		for id, meta := range m.heard() {
			if id == m.id.NodeID || !meta.Unsealed {
				continue
			}
			text, askErr := askOneRenewal(ctx, meta.APIAddress, c.forNode(id))
			if askErr == nil {
				return text, nil
			}
			err = errors.Join(err, fmt.Errorf("asking node %s at %s: %s", id, meta.APIAddress, gstatus.Convert(askErr).Message()))
		}
		return nil, err
	}
}

func askOneRenewal(ctx context.Context, address string, handshakes *tls.Config) (text []byte, err error) {
	conn, err := ggrpc.NewClient(address, ggrpc.WithTransportCredentials(grpccreds.NewTLS(handshakes)))
	if err != nil {
		return nil, err
	}
	answer, err := conclavev1.NewOperatorClient(conn).Join(ctx, &conclavev1.JoinRequest{})
	if cerr := conn.Close(); err == nil {
		err = cerr
	}
	return answer.GetCertificatePem(), err
}

// forNode is the configuration of a call to another member's API: it must prove
// to be that very node, and is shown this one's certificate. The usual
// verification is replaced, not dropped: the name that is asked for
// (joinServerName) is not the one that the certificate must have.
func (c *credentials) forNode(id string) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	roots := c.authority
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: joinServerName, InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current(), nil },
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: core.NodeName(id),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
}

// rootOf is the authority's certificate.
func (c *credentials) rootOf() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.root
}

// isSealed tells whether a request was refused because this node is sealed.
func isSealed(err error) bool {
	var e *core.Error
	return errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_SEALED
}

// Renew implements grpc.Node: another member's certificate is signed anew.
func (n *Node) Renew(_ context.Context, old *x509.Certificate) (*conclavev1.JoinResponse, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	id, ok := core.CertifiedNode(old)
	if !ok || !m.has(id) {
		return nil, refuse(conclavev1.Reason_REASON_DENIED, "the node of this certificate is no member of the cluster", "join with a token: conclave operator join-token")
	}
	certificate, authority, err := m.rooms.Admission.Renew(old)
	if err != nil {
		return nil, err
	}
	n.logger.Info("a member's certificate was renewed", "node", id)
	return &conclavev1.JoinResponse{ClusterId: m.id.Cluster, CertificatePem: certificate, CaPem: authority}, nil
}

// has tells whether the node with that id is a member, as far as this one knows.
func (m *member) has(id string) bool {
	for _, other := range m.node.Members() {
		if other.ID == id {
			return true
		}
	}
	return false
}
