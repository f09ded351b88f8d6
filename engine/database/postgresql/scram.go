package postgresql

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// PostgreSQL's own figures, so that a user made here looks like any other.
const (
	scramIterations = 4096
	scramSalt       = 16
)

// verifier is what PostgreSQL keeps of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677):
//
//	SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
//
// Who has it can verify a login, and pose as the server, but cannot log in. The password
// must be printable ASCII, of which SASLprep changes nothing.
func verifier(password redact.Bytes, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, string(password.Expose()), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("making a SCRAM verifier: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, text(salt), text(stored[:]), text(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// secretOf is what a statement has in place of {{password}}.
func secretOf(password redact.Bytes, plain bool) (string, error) {
	text := string(password.Expose())
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return "", invalid("the password policy makes passwords with characters beyond ASCII, which SCRAM would have to fold")
		}
	}
	if plain {
		if !database.Quotable(text) {
			return "", invalid("the password policy makes passwords with quotes, backslashes or dollar signs: leave those out, or use password_authentication=scram-sha-256")
		}
		return text, nil
	}
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("drawing a salt: %w", err)
	}
	return verifier(password, salt)
}
