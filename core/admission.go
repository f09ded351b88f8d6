package core

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Admission lets new nodes in: an operator makes a token, the node shows it once
// and is given a certificate. Safe for concurrent use.
type Admission struct {
	pipeline *Pipeline
	now      func() time.Time // wall clock, for certificates
}

// NewAdmission returns the admission calls on a pipeline.
func NewAdmission(p *Pipeline, now func() time.Time) *Admission { return &Admission{p, now} }

const (
	defaultJoinTTL = time.Hour
	maxJoinTTL     = 30 * 24 * time.Hour
	joinPrefix     = "cvj_"
	joinSecretSize = 16
)

// A JoinToken is what a new node is told about the cluster that it joins.
//
//	"cvj_" base64url( cluster id (16) | SHA-256 of the authority's certificate (32) | secret (16) )
type JoinToken struct {
	Cluster   [16]byte
	Authority [sha256.Size]byte // the new node trusts this certificate only
	secret    redact.Bytes
}

// ErrJoinToken: the text is not a join token.
var ErrJoinToken = errors.New("this is not a join token: it is garbled or cut off")

// ParseJoinToken reads the text of a join token.
func ParseJoinToken(text string) (*JoinToken, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), joinPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) != 16+sha256.Size+joinSecretSize {
		return nil, ErrJoinToken
	}
	return &JoinToken{Cluster: [16]byte(raw[:16]), Authority: [32]byte(raw[16:48]), secret: redact.New(raw[48:])}, nil
}

// exposeText spells the token.
func (j *JoinToken) exposeText() string {
	raw := append(append(j.Cluster[:], j.Authority[:]...), j.secret.Expose()...)
	return joinPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

func (t *tx) joinKey(secret redact.Bytes) (fsm.Key, error) {
	id, err := t.barrier.ID("join", secret.Expose())
	if err != nil {
		return nil, err
	}
	return append(fsm.Key{byte(spaceAdmission)}, id...), nil
}

// CreateJoinToken makes a token that admits one node until it expires.
func (a *Admission) CreateJoinToken(ctx context.Context, c Caller, r *conclavev1.CreateJoinTokenRequest) (*conclavev1.CreateJoinTokenResponse, error) {
	ttl := r.Ttl.AsDuration()
	if r.Ttl == nil || ttl == 0 {
		ttl = defaultJoinTTL
	}
	return call(ctx, a.pipeline, c, method[*conclavev1.CreateJoinTokenRequest, *conclavev1.CreateJoinTokenResponse]{
		name: conclavev1.Operator_CreateJoinToken_FullMethodName, writes: true,
		lane: func(*conclavev1.CreateJoinTokenRequest) string { return "join" },
		handle: func(t *tx, _ *conclavev1.CreateJoinTokenRequest) (*conclavev1.CreateJoinTokenResponse, error) {
			return a.createJoinToken(t, ttl)
		},
		finish: func(resp *conclavev1.CreateJoinTokenResponse, done engine.Commit) {
			resp.ExpiresAt = timestamppb.New(done.Time.Add(ttl))
		},
	}, r)
}

// createJoinToken stages the token's record, owned by a lease, so that it is
// gone when it expires.
func (a *Admission) createJoinToken(t *tx, ttl time.Duration) (*conclavev1.CreateJoinTokenResponse, error) {
	if ttl < 0 || ttl > maxJoinTTL {
		return nil, &engine.InvalidError{Why: "a join token lives between a moment and 30 days"}
	}
	authority, err := t.authority(a.pipeline.rand)
	if err != nil {
		return nil, err
	}
	cfg, ok, err := ReadSealConfig(t.view)
	if err != nil || !ok {
		return nil, firstError(err, errors.New("the ledger has no seal configuration"))
	}
	secret := make([]byte, joinSecretSize)
	if _, err := io.ReadFull(a.pipeline.rand, secret); err != nil {
		return nil, fmt.Errorf("drawing a join token: %w", err)
	}
	token := &JoinToken{Cluster: cfg.Cluster, Authority: sha256.Sum256(authority.Certificate.Raw), secret: redact.New(secret)}
	key, err := t.joinKey(token.secret)
	if err != nil {
		return nil, err
	}
	value, err := proto.Marshal(&storev1.JoinToken{ExpiresAt: timestamppb.New(t.Now().Add(ttl))})
	if err != nil {
		return nil, err
	}
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, State: fsm.LeaseActive})
	if err := t.putRecord(key, value, key); err != nil {
		return nil, err
	}
	return &conclavev1.CreateJoinTokenResponse{Token: token.exposeText()}, nil
}

// nodeIDs is what a node may call itself: it becomes a name in certificates.
var nodeIDs = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Admit takes a join token, once, and signs the new node's certificate. The
// token is spent when this returns without error, even if the node never
// hears of it; then the operator makes another.
func (a *Admission) Admit(ctx context.Context, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
	token, err := ParseJoinToken(r.Token)
	if err != nil {
		return nil, refuse(conclavev1.Reason_REASON_JOIN_TOKEN_INVALID, err.Error(), "copy it whole from conclave operator join-token")
	}
	if !nodeIDs.MatchString(r.NodeId) {
		return nil, refuse(conclavev1.Reason_REASON_INVALID, "the node's id is not a name of letters, digits and dashes", "")
	}
	block, _ := pem.Decode(r.CsrPem)
	if block == nil {
		return nil, refuse(conclavev1.Reason_REASON_INVALID, "the certificate request is not PEM", "")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, refuse(conclavev1.Reason_REASON_INVALID, "the certificate request does not verify", "")
	}
	return call(ctx, a.pipeline, Caller{}, method[*conclavev1.JoinRequest, *conclavev1.JoinResponse]{
		name: conclavev1.Operator_Join_FullMethodName, writes: true, open: true,
		lane: func(*conclavev1.JoinRequest) string { return "join" },
		handle: func(t *tx, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
			return a.admit(t, r, token, csr)
		},
		finish: func(*conclavev1.JoinResponse, engine.Commit) {},
	}, r)
}

func (a *Admission) admit(t *tx, r *conclavev1.JoinRequest, token *JoinToken, csr *x509.CertificateRequest) (*conclavev1.JoinResponse, error) {
	cfg, ok, err := ReadSealConfig(t.view)
	if err != nil || !ok {
		return nil, firstError(err, errors.New("the ledger has no seal configuration"))
	}
	if cfg.Cluster != token.Cluster {
		return nil, refuse(conclavev1.Reason_REASON_JOIN_TOKEN_INVALID, "the join token belongs to another cluster", "make one on this cluster with conclave operator join-token")
	}
	key, err := t.joinKey(token.secret)
	if err != nil {
		return nil, err
	}
	record, _, err := t.record(key)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, refuse(conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED, "the join token was used already, or has expired", "make a new one with conclave operator join-token")
	}
	authority, err := t.authority(a.pipeline.rand)
	if err != nil {
		return nil, err
	}
	certificate, err := authority.Sign(r.NodeId, csr.PublicKey, []string{r.PeerAddress, r.ApiAddress}, a.now())
	if err != nil {
		return nil, err
	}
	// The guard on the record and its end in one batch: one use, on whatever
	// nodes two uses arrive.
	t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: key})
	return &conclavev1.JoinResponse{
		ClusterId: hex.EncodeToString(cfg.Cluster[:]), CertificatePem: certificate, CaPem: authority.PEM(), GossipKey: authority.GossipKey,
	}, nil
}
