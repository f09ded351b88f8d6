package shamir

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ErrRecipient: the text is no age recipient of a kind known here. The error
// does not repeat it: people paste the wrong line, and that may be a secret key.
var ErrRecipient = errors.New("not an age X25519 recipient (age1…)")

// EncryptTo encrypts the text of a share to a custodian's age X25519 recipient
// and returns it armored, ready to be mailed. The error wraps ErrRecipient when
// the recipient is at fault. age draws its own randomness from the system.
//
// Format: https://age-encryption.org/v1.
func EncryptTo(recipient, text string) (string, error) {
	r, err := age.ParseX25519Recipient(strings.TrimSpace(recipient))
	if err != nil {
		return "", fmt.Errorf("encrypting share to custodian: %w", ErrRecipient)
	}
	var out strings.Builder
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, r)
	if err != nil {
		return "", fmt.Errorf("encrypting share to custodian: %w", err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		return "", fmt.Errorf("encrypting share to custodian: %w", err)
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return "", fmt.Errorf("encrypting share to custodian: %w", err)
	}
	return out.String(), nil
}
