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

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/policy"
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
	// joinMemory is how long a token is remembered past its time, so that its
	// holder can be told what became of it. A use is remembered longer than any
	// token, lest one used early be taken for one that has expired.
	joinMemory = 7 * 24 * time.Hour
	useMemory  = maxJoinTTL + 2*joinMemory
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

// What is kept of a token, by the keyed hash of its secret. The token itself is
// a record and the lease that owns it; both end with its use or its time. The
// other two are leases that outlive it and own nothing: they admit nobody, and
// only tell the holder of an ended token which of the two its end was.
const (
	joinToken  = "join"
	joinMade   = "join made" // granted with the token
	joinUse    = "join use"  // granted at its use, with joinMember in its data
	joinMember = "node_id"   // the field of a use that names the node
)

// joinKey is the key of one of the above.
func (t *tx) joinKey(what string, secret redact.Bytes) (fsm.Key, error) {
	return hashedKey(t.barrier, spaceAdmission, what, secret.Expose())
}

// CreateJoinToken makes a token that admits one node until it expires.
func (a *Admission) CreateJoinToken(ctx context.Context, c Caller, r *conclavev1.CreateJoinTokenRequest) (*conclavev1.CreateJoinTokenResponse, error) {
	ttl := r.Ttl.AsDuration()
	if r.Ttl == nil || ttl == 0 {
		ttl = defaultJoinTTL
	}
	return call(ctx, a.pipeline, c, method[*conclavev1.CreateJoinTokenRequest, *conclavev1.CreateJoinTokenResponse]{
		name: conclavev1.Operator_CreateJoinToken_FullMethodName, writes: true, capability: policy.CapabilityUpdate,
		path: func(*conclavev1.CreateJoinTokenRequest) string { return "sys/members/join-token" },
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
	key, err := t.joinKey(joinToken, token.secret)
	if err != nil {
		return nil, err
	}
	made, err := t.joinKey(joinMade, token.secret)
	if err != nil {
		return nil, err
	}
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, State: fsm.LeaseActive})
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: made, TTL: ttl + joinMemory, State: fsm.LeaseActive})
	if err := t.putMessage(key, &storev1.JoinToken{ExpiresAt: timestamppb.New(t.Now().Add(ttl))}, key); err != nil {
		return nil, err
	}
	return &conclavev1.CreateJoinTokenResponse{Token: token.exposeText()}, nil
}

// nodeIDs is what a node may call itself: it becomes a name in certificates.
var nodeIDs = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Renew signs the certificate of a member anew, for the time from now on: the
// same node, the same key. Its hosts are those of the addresses, or without any
// those that it had. The caller has made sure that whoever asks is that member;
// see transport/grpc for another node's, and server for this one's own.
//
// It asks no quorum: what it reads, the authority, never changes.
func (a *Admission) Renew(old *x509.Certificate, addresses ...string) (certificate, authority []byte, err error) {
	certificate, authority, err = a.renew(old, addresses)
	if err != nil {
		return nil, nil, explain(err, false)
	}
	return certificate, authority, nil
}

func (a *Admission) renew(old *x509.Certificate, addresses []string) (certificate, root []byte, err error) {
	keys, err := a.pipeline.gate.open()
	if err != nil {
		return nil, nil, err
	}
	view, err := a.pipeline.ledger.View()
	if err != nil {
		return nil, nil, err
	}
	defer closeView(view, &err)
	authority, err := newTx(view, keys, a.pipeline.rand, false).authority(a.pipeline.rand)
	if err != nil {
		return nil, nil, err
	}
	certificate, err = authority.Renew(old, addresses, a.now())
	if errors.Is(err, ErrNotIssued) {
		err = refuse(conclavev1.Reason_REASON_DENIED, err.Error(), "join with a token: conclave operator join-token")
	}
	return certificate, authority.PEM(), err
}

// Admit takes a join token, once, and signs the new node's certificate. The
// token is spent when this returns without error, even if the node never
// hears of it; then the operator makes another. Each of allow is asked when the
// token has proved good and before it is spent, maybe several times, and refuses
// with an *Error.
func (a *Admission) Admit(ctx context.Context, r *conclavev1.JoinRequest, allow ...func() error) (*conclavev1.JoinResponse, error) {
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
		path: func(*conclavev1.JoinRequest) string { return "sys/members/join" },
		handle: func(t *tx, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
			return a.admit(t, r, token, csr, allow)
		},
		finish: func(*conclavev1.JoinResponse, engine.Commit) {},
	}, r)
}

func (a *Admission) admit(t *tx, r *conclavev1.JoinRequest, token *JoinToken, csr *x509.CertificateRequest, allow []func() error) (*conclavev1.JoinResponse, error) {
	cfg, ok, err := ReadSealConfig(t.view)
	if err != nil || !ok {
		return nil, firstError(err, errors.New("the ledger has no seal configuration"))
	}
	if cfg.Cluster != token.Cluster {
		return nil, refuse(conclavev1.Reason_REASON_JOIN_TOKEN_INVALID, "the join token belongs to another cluster", "make one on this cluster with conclave operator join-token")
	}
	key, err := t.joinKey(joinToken, token.secret)
	if err != nil {
		return nil, err
	}
	record, _, err := t.record(key)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, t.explainEndedToken(token, r.NodeId)
	}
	for _, ask := range allow {
		if err := ask(); err != nil {
			return nil, err
		}
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
	if err := t.noteUse(token, r.NodeId); err != nil {
		return nil, err
	}
	return &conclavev1.JoinResponse{
		ClusterId: hex.EncodeToString(cfg.Cluster[:]), CertificatePem: certificate, CaPem: authority.PEM(), GossipKey: authority.GossipKey,
	}, nil
}

// noteUse stages the memory of who used the token. When is the lease's own affair.
func (t *tx) noteUse(token *JoinToken, nodeID string) error {
	key, err := t.joinKey(joinUse, token.secret)
	if err != nil {
		return err
	}
	data := map[string]*conclavev1.Field{joinMember: {Kind: &conclavev1.Field_Text{Text: nodeID}}}
	value, err := t.sealLease(key, &storev1.LeaseData{Data: data})
	if err != nil {
		return err
	}
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: useMemory, State: fsm.LeaseActive, Value: value})
	return nil
}

// explainEndedToken says why a token admits nobody. Whoever hears when it ended,
// and by whom, has shown its 128 random bits: to somebody without them no
// memory opens, and a token that never was is refused like one long forgotten.
func (t *tx) explainEndedToken(token *JoinToken, nodeID string) error {
	const again = "make a new one with conclave operator join-token"
	used, use, err := t.tokenMemory(joinUse, token)
	if err != nil {
		return err
	}
	if use != nil {
		var what conclavev1.Lease
		if err := t.open(used, use, &what); err != nil {
			return err
		}
		who, hint := what.Data[joinMember].GetText(), again+"; if you do not know that node, take it out with conclave operator remove"
		if who == nodeID {
			who, hint = nodeID+", which is this one,", again+": what this node was told then is lost"
		}
		return refuse(conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED,
			fmt.Sprintf("the join token was used already, by node %s at %s", who, moment(use.Issued)), hint)
	}
	_, made, err := t.tokenMemory(joinMade, token)
	if err != nil {
		return err
	}
	if made != nil {
		return refuse(conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED,
			fmt.Sprintf("the join token has expired at %s", moment(made.Issued.Add(made.TTL-joinMemory))), again)
	}
	return refuse(conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED,
		"the join token is not known: it was used or has expired long ago, or was never made", again)
}

// tokenMemory reads what is remembered of a token, nil if nothing is.
func (t *tx) tokenMemory(what string, token *JoinToken) (fsm.Key, *fsm.Lease, error) {
	key, err := t.joinKey(what, token.secret)
	if err != nil {
		return nil, nil, err
	}
	l, usable, err := t.view.Lease(key)
	if err != nil || !usable {
		return nil, nil, err
	}
	return key, l, nil
}

// moment spells a log time for people.
func moment(at fsm.LogTime) string { return at.Time().UTC().Format(time.RFC3339) }
