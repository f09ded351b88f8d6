package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	ggrpc "google.golang.org/grpc"
	grpccreds "google.golang.org/grpc/credentials"
	gstatus "google.golang.org/grpc/status"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Init founds a cluster with this node as its first member. Shares and token
// exist in the answer only.
//
// The identity file is the commit point: until it names the cluster, a crash
// leaves an empty node, and what was written of the cluster is wiped at the next
// attempt, for nobody ever saw its shares.
func (n *Node) Init(ctx context.Context, r *conclavev1.InitRequest) (*conclavev1.InitResponse, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	id, m := n.current()
	if m != nil {
		return nil, &core.Error{Reason: conclavev1.Reason_REASON_ALREADY_INITIALIZED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE,
			Message: "this node belongs to a cluster already", Hint: "unseal it with the shares of that cluster: conclave operator unseal"}
	}
	f, err := core.Found(rand.Reader, time.Now(), int(r.Shares), int(r.Threshold), r.AgeRecipients)
	if err != nil {
		return nil, err
	}
	defer f.RootToken.Wipe()
	if err := wipe(n.cfg.DataDir); err != nil {
		return nil, fmt.Errorf("clearing the data directory: %w", err)
	}
	founder, err := n.enrol(id, f)
	if err != nil {
		return nil, err
	}
	if err := n.found(ctx, founder, f); err != nil {
		return nil, err
	}
	n.logger.Info("cluster founded", "cluster", founder.Cluster, "node", founder.NodeID)
	return &conclavev1.InitResponse{
		ClusterId: founder.Cluster, Shares: f.Shares, RootToken: string(f.RootToken.Expose()),
		Threshold: r.Threshold, CaPem: founder.AuthorityPEM,
	}, nil
}

// enrol gives a node its place in the cluster that f founds.
func (n *Node) enrol(id *identity, f *core.Founding) (*identity, error) {
	key, err := id.key()
	if err != nil {
		return nil, err
	}
	member := *id
	member.Cluster = f.Config.Cluster.String()
	member.AuthorityPEM, member.GossipKey = f.Authority.PEM(), f.Authority.GossipKey
	member.CertificatePEM, err = f.Authority.Sign(id.NodeID, key.Public(), []string{n.cfg.API.Advertise, n.cfg.Peer.Advertise}, time.Now())
	return &member, err
}

// found starts the cluster's first node and commits the first batch.
func (n *Node) found(ctx context.Context, id *identity, f *core.Founding) error {
	before, _ := n.current()
	if err := n.creds.adopt(id); err != nil {
		return err
	}
	if err := n.openMember(ctx, id, true); err != nil {
		return err
	}
	_, m := n.current()
	err := m.commitFounding(ctx, f)
	if err == nil {
		err = id.save(n.cfg.DataDir)
	}
	if err == nil {
		err = n.publishAuthority()
	}
	if err != nil {
		n.mu.Lock()
		n.id, n.member = before, nil
		n.mu.Unlock()
		return errors.Join(fmt.Errorf("founding the cluster: %w", err), m.close())
	}
	return nil
}

// foundingTime bounds how long the first node takes to elect itself and commit.
const foundingTime = 30 * time.Second

func (m *member) commitFounding(ctx context.Context, f *core.Founding) error {
	ctx, cancel := context.WithTimeout(ctx, foundingTime)
	defer cancel()
	result, err := m.node.Propose(ctx, f.Batch)
	if err != nil {
		return err
	}
	if result.Code != fsm.Applied {
		return fmt.Errorf("the first batch was not applied: code %d", result.Code)
	}
	return nil
}

// A JoinError says why a node could not join and what to do about it.
type JoinError struct {
	Problem string
	Hint    string
}

func (e *JoinError) Error() string { return "joining the cluster: " + e.Problem }

// join makes this empty node a member: it shows its token to an unsealed node,
// whose certificate it checks against the hash in the token.
func (n *Node) join(ctx context.Context) error {
	text, err := n.joinText()
	if err != nil {
		return err
	}
	token, err := core.ParseJoinToken(text)
	if err != nil {
		return &JoinError{err.Error(), "copy it whole from conclave operator join-token"}
	}
	key, err := n.id.key()
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("making a certificate request: %w", err)
	}
	request := &conclavev1.JoinRequest{
		Token: text, NodeId: n.id.NodeID, CsrPem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
		PeerAddress: n.cfg.Peer.Advertise, ApiAddress: n.cfg.API.Advertise, GossipAddress: gossipAddress(n.cfg.Gossip, n.listeners.gossip),
	}
	answer, err := askToJoin(ctx, n.cfg.Join.Addresses, token, request)
	if err != nil {
		return err
	}
	member := *n.id
	member.Cluster, member.CertificatePEM = answer.ClusterId, answer.CertificatePem
	member.AuthorityPEM, member.GossipKey = answer.CaPem, answer.GossipKey
	for _, other := range answer.Members {
		member.Others = append(member.Others, otherNode{ID: other.Id, Peer: other.PeerAddress, Gossip: other.GossipAddress})
	}
	if err := n.creds.adopt(&member); err != nil {
		return err
	}
	if err := member.save(n.cfg.DataDir); err != nil {
		return err
	}
	if err := n.publishAuthority(); err != nil {
		return err
	}
	n.logger.Info("joined the cluster", "cluster", member.Cluster, "node", member.NodeID)
	return n.openMember(ctx, &member, false)
}

func (n *Node) joinText() (string, error) {
	if file := n.cfg.Join.TokenFile; file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading join.token_file: %w", err)
		}
		return strings.TrimSpace(string(raw)), nil
	}
	if n.cfg.Join.Token == "" {
		return "", &JoinError{"there is no join token", "make one on an unsealed node with conclave operator join-token, and give it with --join-token or CONCLAVE_JOIN_TOKEN"}
	}
	return n.cfg.Join.Token.Reveal(), nil
}

// joinTime bounds one attempt at one address.
const joinTime = 20 * time.Second

// askToJoin tries the addresses in turn until one node admits this one. A token
// that a node refuses is refused by all of them.
func askToJoin(ctx context.Context, addresses []string, token *core.JoinToken, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
	var last error
	for _, address := range addresses {
		answer, err := askOne(ctx, address, token, r)
		if err == nil {
			return answer, nil
		}
		last = fmt.Errorf("%s: %s", address, gstatus.Convert(err).Message())
		if errors.Is(err, errForeignNode) {
			return nil, &JoinError{last.Error(), "make a token on the cluster that --join names, or name nodes of the token's cluster"}
		}
		if detail := errorDetail(err); detail != nil && detail.Reason != conclavev1.Reason_REASON_SEALED && detail.Reason != conclavev1.Reason_REASON_NO_LEADER {
			return nil, &JoinError{fmt.Sprintf("%s refused: %s", address, gstatus.Convert(err).Message()), detail.Hint}
		}
	}
	return nil, &JoinError{fmt.Sprintf("no node admitted this one: %v", last), "give the API address of an unsealed node with --join"}
}

func askOne(ctx context.Context, address string, token *core.JoinToken, r *conclavev1.JoinRequest) (answer *conclavev1.JoinResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	handshakes := pinned(token.Authority)
	var foreign atomic.Bool // the handshake runs elsewhere, and gRPC passes on only its text
	verify := handshakes.VerifyConnection
	handshakes.VerifyConnection = func(s tls.ConnectionState) error {
		err := verify(s)
		foreign.Store(errors.Is(err, errForeignNode))
		return err
	}
	conn, err := ggrpc.NewClient(address, ggrpc.WithTransportCredentials(grpccreds.NewTLS(handshakes)))
	if err != nil {
		return nil, err
	}
	answer, err = conclavev1.NewOperatorClient(conn).Join(ctx, r)
	if err != nil && foreign.Load() {
		err = errForeignNode
	}
	if cerr := conn.Close(); err == nil { // not joined: the caller looks for the status in err
		err = cerr
	}
	return answer, err
}

func errorDetail(err error) *conclavev1.ErrorDetail {
	for _, d := range gstatus.Convert(err).Details() {
		if detail, ok := d.(*conclavev1.ErrorDetail); ok {
			return detail
		}
	}
	return nil
}

// errForeignNode: who answered is not of the cluster that the token is for.
var errForeignNode = errors.New("the node does not belong to the cluster of the join token")

// pinned accepts only a server whose certificate was signed by the authority
// with the given hash. The usual verification is replaced, not dropped: it
// cannot run, because the authority is known by its hash alone.
func pinned(authority [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: joinServerName, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, c := range s.PeerCertificates[1:] {
				if h := sha256.Sum256(c.Raw); bytes.Equal(h[:], authority[:]) {
					roots.AddCert(c)
					found = true
				}
			}
			if !found {
				return errForeignNode
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
}
