package seal

import (
	"slices"
	"sync"

	"github.com/conclave-secrets/conclave/seal/shamir"
)

// An Unsealer collects shares for one node until they are enough. Safe for
// concurrent use: several custodians may submit at once, and exactly one of
// them is handed the keyring.
type Unsealer struct {
	cfg Config

	mu     sync.Mutex
	shares []shamir.Share // verified, distinct, fewer than the threshold
}

// Progress tells how far unsealing is.
type Progress struct {
	Have, Need int
	Indexes    []uint8 // of the shares taken so far, ascending; the caller's
}

// NewUnsealer starts without shares. After a rekey, make a new one.
func NewUnsealer(cfg Config) *Unsealer { return &Unsealer{cfg: cfg} }

// Submit parses a share in any form that shamir.ParseShare takes and goes on as
// SubmitShare does.
func (u *Unsealer) Submit(text string) (Progress, *Keyring, error) {
	share, err := shamir.ParseShare(text)
	if err != nil {
		return u.Progress(), nil, err
	}
	return u.SubmitShare(share)
}

// SubmitShare takes one share, and ownership of it: it is wiped when unsealing
// is done, or at once when it is refused. The share that completes the threshold
// returns the keyring, which the caller owns, and leaves the unsealer empty.
//
// A refused share changes nothing: shamir.ErrForeignCluster,
// *shamir.WrongGenerationError, *shamir.WrongShareError by number, or
// *shamir.RepeatedError for one that is here already, which counts once and does
// no harm. ErrConfigAltered means that the shares are right and the Config is
// not; the shares are dropped.
func (u *Unsealer) SubmitShare(issued shamir.IssuedShare) (Progress, *Keyring, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.check(issued); err != nil {
		issued.Share.Wipe()
		return u.progress(), nil, err
	}
	u.shares = append(u.shares, issued.Share)
	progress := u.progress()
	if progress.Have < progress.Need {
		return progress, nil, nil
	}
	defer u.reset()
	root, err := shamir.Recover(u.cfg.Commitments, u.shares)
	if err != nil {
		return progress, nil, err
	}
	defer root.Wipe()
	keyring, err := openKeyring(u.cfg, root)
	if err != nil {
		return progress, nil, err
	}
	return progress, keyring, nil
}

func (u *Unsealer) check(issued shamir.IssuedShare) error {
	if err := issued.Check(u.cfg.Cluster.Prefix(), u.cfg.Generation); err != nil {
		return err
	}
	if err := u.cfg.Commitments.Verify(issued.Share); err != nil {
		return err
	}
	for _, s := range u.shares {
		// Both verified, so equal indexes mean equal values.
		if s.Index == issued.Share.Index {
			return &shamir.RepeatedError{Index: s.Index}
		}
	}
	return nil
}

// Progress tells how far unsealing is, without changing it.
func (u *Unsealer) Progress() Progress {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.progress()
}

// Reset wipes the shares collected so far.
func (u *Unsealer) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reset()
}

func (u *Unsealer) progress() Progress {
	p := Progress{Have: len(u.shares), Need: u.cfg.Threshold()}
	for _, s := range u.shares {
		p.Indexes = append(p.Indexes, s.Index)
	}
	slices.Sort(p.Indexes)
	return p
}

func (u *Unsealer) reset() {
	for _, s := range u.shares {
		s.Wipe()
	}
	u.shares = nil
}
