package core

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Founding is a cluster that is about to exist: its first batch, and what is
// shown to the operator once and kept nowhere.
type Founding struct {
	Config    seal.Config
	Batch     *fsm.Batch
	Shares    []string // text, or armored age files for their custodians
	RootToken redact.Bytes
	Authority *Authority
}

// Found makes the keys, the shares, the root token and the authority of a new
// cluster. Nothing is durable until Batch is committed. now dates the token and
// the authority's certificate.
func Found(rand io.Reader, now time.Time, shares, threshold int, recipients []string) (f *Founding, err error) {
	if len(recipients) > 0 && len(recipients) != shares {
		return nil, refuse(conclavev1.Reason_REASON_INVALID, fmt.Sprintf("%d age recipients for %d shares", len(recipients), shares), "give one recipient for each share, or none")
	}
	if err := shamir.CheckParameters(threshold, shares); err != nil {
		return nil, refuse(conclavev1.Reason_REASON_INVALID, err.Error(), "five shares with a threshold of three is a good start")
	}
	cluster, err := seal.NewClusterID(rand)
	if err != nil {
		return nil, err
	}
	made, err := seal.Init(rand, cluster, shares, threshold)
	if err != nil {
		return nil, err
	}
	defer made.Wipe()
	f = &Founding{Config: made.Config}
	if f.Shares, err = handOut(made.Shares, recipients); err != nil {
		return nil, err
	}
	if f.RootToken, err = newToken(rand); err != nil {
		return nil, err
	}
	if f.Authority, err = newAuthority(rand, cluster, now); err != nil {
		return nil, err
	}
	barrier, err := seal.NewBarrier(rand, cluster, made.Keyring)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, barrier.Wipe()) }()
	f.Batch, err = f.firstBatch(barrier, rand, now)
	return f, err
}

// handOut spells the shares, encrypted to their custodians if there are any.
func handOut(shares []shamir.IssuedShare, recipients []string) ([]string, error) {
	out := make([]string, len(shares))
	for i, s := range shares {
		out[i] = s.ExposeText()
		if len(recipients) == 0 {
			continue
		}
		armored, err := shamir.EncryptTo(recipients[i], out[i])
		if err != nil {
			return nil, refuse(conclavev1.Reason_REASON_INVALID, fmt.Sprintf("age recipient %d: %v", i+1, err), "a recipient starts with age1")
		}
		out[i] = armored
	}
	return out, nil
}

// firstBatch is what the ledger of the new cluster begins with.
func (f *Founding) firstBatch(b *seal.Barrier, rand io.Reader, now time.Time) (*fsm.Batch, error) {
	t := newTx(nil, &keys{barrier: b}, rand, true)
	config, err := f.Config.Marshal()
	if err != nil {
		return nil, err
	}
	t.guard(fsm.Guard{Kind: fsm.GuardRecord, Key: seal.ConfigKey})
	t.stage(fsm.Operation{Kind: fsm.OpPutRecord, Key: seal.ConfigKey, Value: config})

	key, err := tokenKey(b, f.RootToken)
	if err != nil {
		return nil, err
	}
	err = t.stageToken(fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: fsm.MaxTTL, State: fsm.LeaseActive},
		&storev1.Token{Name: "root", Root: true, CreatedAt: timestamppb.New(now),
			Policies: []string{"root"}, Path: "auth/token/root", Orphan: true})
	if err != nil {
		return nil, err
	}
	if err := firstMounts(t, now); err != nil {
		return nil, err
	}
	if err := t.PutPolicy("default", defaultPolicy); err != nil {
		return nil, err
	}
	if err := f.Authority.put(t); err != nil {
		return nil, err
	}
	return &t.batch, nil
}

// ReadSealConfig returns the cluster's seal configuration from a view; ok is
// false before the cluster was founded.
func ReadSealConfig(v *fsm.View) (cfg seal.Config, ok bool, err error) {
	r, err := v.Record(seal.ConfigKey)
	if err != nil || r == nil {
		return seal.Config{}, false, err
	}
	cfg, err = seal.UnmarshalConfig(r.Value)
	return cfg, err == nil, err
}
