package shamir

import (
	"errors"
	"fmt"
)

// What is wrong with the numbers given to Split.
var (
	// ErrNoShares: fewer than one share, or a threshold below one.
	ErrNoShares = errors.New("at least one share and a threshold of at least one are needed")
	// ErrTooManyShares: more than MaxShares.
	ErrTooManyShares = errors.New("at most 255 shares are possible")
	// ErrThresholdAboveShares: the secret could never be recovered.
	ErrThresholdAboveShares = errors.New("the threshold is larger than the number of shares, so nobody could ever unseal")
	// ErrThresholdOne: every single custodian would hold the whole secret.
	ErrThresholdOne = errors.New("a threshold of 1 with several shares gives every custodian the whole key; use 1 share, or a threshold of at least 2")
)

// CheckParameters tells whether Split accepts the numbers. The error wraps one
// of ErrNoShares, ErrTooManyShares, ErrThresholdAboveShares, ErrThresholdOne.
func CheckParameters(threshold, shares int) error {
	var reason error
	switch {
	case shares < 1 || threshold < 1:
		reason = ErrNoShares
	case shares > MaxShares:
		reason = ErrTooManyShares
	case threshold > shares:
		reason = ErrThresholdAboveShares
	case threshold == 1 && shares > 1:
		reason = ErrThresholdOne
	default:
		return nil
	}
	return fmt.Errorf("splitting root key into %d shares with threshold %d: %w", shares, threshold, reason)
}

// ErrGarbled: the text or bytes are not a whole share. The wrapping error says
// how one can tell; it never repeats any part of the share.
var ErrGarbled = errors.New("share is garbled")

// ErrForeignCluster: the share was issued by another cluster.
var ErrForeignCluster = errors.New("share belongs to another cluster")

// A WrongGenerationError refuses a share from before or after a rekey.
type WrongGenerationError struct{ Have, Want uint32 }

func (e *WrongGenerationError) Error() string {
	return fmt.Sprintf("share is of generation %d and this cluster's shares are of generation %d", e.Have, e.Want)
}

// A WrongShareError refuses a share that does not fit the commitments.
type WrongShareError struct{ Index uint8 }

func (e *WrongShareError) Error() string {
	return fmt.Sprintf("share %d is wrong: it does not match the commitments of this cluster", e.Index)
}

// A RepeatedError says that a share was given already. It counts once.
type RepeatedError struct{ Index uint8 }

func (e *RepeatedError) Error() string {
	return fmt.Sprintf("share %d was given already", e.Index)
}

// A TooFewError says how many shares are missing.
type TooFewError struct{ Have, Need int }

func (e *TooFewError) Error() string {
	return fmt.Sprintf("%d shares of the %d needed", e.Have, e.Need)
}
