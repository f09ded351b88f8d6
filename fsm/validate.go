package fsm

import "fmt"

// ValidateBatch decodes an encoded batch and checks it against the limits and
// the closed sets of this version. The leader calls it on everything that a
// peer sends, before it proposes: a machine halts on what it cannot read, and
// one bad peer must not be able to halt all the replicas.
func ValidateBatch(p []byte) (*Batch, error) {
	if len(p) > MaxBatchSize {
		return nil, fmt.Errorf("batch of %d bytes is above the limit of %d", len(p), MaxBatchSize)
	}
	b, err := decodeBatch(p, strictLimits)
	if err != nil {
		return nil, err
	}
	for _, g := range b.Guards {
		if g.Kind < GuardRecord || g.Kind > GuardTally {
			return nil, fmt.Errorf("guard kind %d is not one this version knows", g.Kind)
		}
		if err := checkKey(g.Key); err != nil {
			return nil, err
		}
	}
	for _, op := range b.Operations {
		if err := validateOperation(&op); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func validateOperation(op *Operation) error {
	switch op.Kind {
	case OpPutRecord, OpDeleteRecord, OpAppendVersion, OpDeleteVersions, OpUndeleteVersions, OpDestroyVersions,
		OpPurgeSecret, OpSetLimits, OpGrantLease, OpRenewLease, OpConfirmLease, OpRevokeLease, OpEndLease,
		OpRevokeGroup, OpRevokePrefix, OpReleaseLease, OpPurgePrefix:
		return checkKey(op.Key)
	case OpExpireLeases, OpOpenSession, OpCloseSession:
		return nil
	case OpSetFeatureLevel:
		if op.Number > featureLevel {
			return fmt.Errorf("feature level %d is above %d, the highest this version knows", op.Number, featureLevel)
		}
		return nil
	}
	return fmt.Errorf("operation kind %d is not one this version knows", op.Kind)
}
