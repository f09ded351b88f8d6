package userpass

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/conclave-secrets/conclave/auth"
)

// cost is what a hashing takes (RFC 9106, section 3.1).
type cost struct {
	passes  uint32
	kibi    uint32 // memory, KiB
	threads uint8
}

// standardCost is the first of the settings that OWASP calls equivalent.
var standardCost = cost{passes: 2, kibi: 19 * 1024, threads: 1}

const (
	maxHashing = 4   // at once: 76 MiB
	maxWaiting = 256 // for a turn; who comes later is sent away

	saltBytes = 16
	hashBytes = 32
)

var b64 = base64.RawStdEncoding.Strict()

// hasher hashes passwords, so many at once and no more: otherwise anybody who can
// reach a login could take all memory. Safe for concurrent use.
type hasher struct {
	cost  cost
	turns chan struct{} // one element for each hashing under way
	queue chan struct{} // one for each that is under way or waits
	// dummy is the hash of no password that can be sent: what is hashed against
	// for a user who does not exist.
	dummy string

	// Guarded by mu.
	mu     sync.Mutex
	judged map[verdict]bool // of requests under way, see Verify
	count  uint64           // hashings done
}

func newHasher(c cost, turns, waiting int) *hasher {
	return &hasher{cost: c, turns: make(chan struct{}, turns), queue: make(chan struct{}, turns+waiting),
		dummy: c.print(make([]byte, saltBytes), make([]byte, hashBytes)), judged: map[verdict]bool{}}
}

// Hash returns a salted hash of password, as text that names its cost.
func (h *hasher) Hash(ctx context.Context, rand io.Reader, password string) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return "", fmt.Errorf("drawing a salt: %w", err)
	}
	sum, err := h.sum(ctx, h.cost, salt, password)
	if err != nil {
		return "", err
	}
	return h.cost.print(salt, sum), nil
}

// verdict names what Verify found out for one request.
//
// Invariant: it is never shared by requests for different names. All names without
// a user have the same dummy, so otherwise two such logins with one password would
// cost one hashing, and tell that neither name exists.
type verdict struct {
	request context.Context
	asked   [sha256.Size]byte // of name, stored hash and password
}

// Verify tells whether stored, the hash of the user name's password, is that of
// password. A request may run several times, on newer and newer views; what came
// out is kept until ctx is done, so that it hashes once.
func (h *hasher) Verify(ctx context.Context, name, stored, password string) (bool, error) {
	v := verdict{ctx, digest(name, stored, password)}
	// Without an end nothing would be forgotten. Contexts are pointers, but for
	// the strangest.
	keep := ctx.Done() != nil && reflect.ValueOf(ctx).Comparable()
	if keep {
		h.mu.Lock()
		right, known := h.judged[v]
		h.mu.Unlock()
		if known {
			return right, nil
		}
	}
	c, salt, want, err := parseHash(stored)
	if err != nil {
		return false, err
	}
	got, err := h.sum(ctx, c, salt, password)
	if err != nil {
		return false, err
	}
	right := subtle.ConstantTimeCompare(got, want) == 1
	if keep && ctx.Err() == nil {
		h.keep(v, right)
	}
	return right, nil
}

// digest is of texts, one by one.
func digest(texts ...string) [sha256.Size]byte {
	d := sha256.New()
	for _, text := range texts {
		d.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text)))) // a hash.Hash never fails
		d.Write([]byte(text))
	}
	return [sha256.Size]byte(d.Sum(nil))
}

func (h *hasher) keep(v verdict, right bool) {
	h.mu.Lock()
	h.judged[v] = right
	h.mu.Unlock()
	context.AfterFunc(v.request, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.judged, v)
	})
}

// sum hashes when it is its turn.
func (h *hasher) sum(ctx context.Context, c cost, salt []byte, password string) ([]byte, error) {
	select {
	case h.queue <- struct{}{}:
		defer func() { <-h.queue }()
	default:
		return nil, &auth.UnavailableError{What: "too many logins wait for their turn", Retry: time.Second}
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h.mu.Lock()
	h.count++
	h.mu.Unlock()
	return argon2.IDKey([]byte(password), salt, c.passes, c.kibi, c.threads, hashBytes), nil
}

// print writes a hash in the form that password hashes commonly have:
// $argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$HASH.
func (c cost) print(salt, sum []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.kibi, c.passes, c.threads,
		b64.EncodeToString(salt), b64.EncodeToString(sum))
}

var errHash = errors.New("reading a password hash: it is damaged")

// parseHash reads what print wrote, within bounds that keep a damaged record from
// taking all memory.
func parseHash(text string) (c cost, salt, sum []byte, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.kibi, &c.passes, &c.threads); err != nil {
		return c, nil, nil, errHash
	}
	salt, saltErr := b64.DecodeString(parts[4])
	sum, sumErr := b64.DecodeString(parts[5])
	if saltErr != nil || sumErr != nil || c.print(salt, sum) != text || len(sum) != hashBytes || len(salt) < 8 || len(salt) > 64 ||
		c.passes == 0 || c.passes > 16 || c.kibi > 256<<10 || c.threads == 0 || c.threads > 16 {
		return c, nil, nil, errHash
	}
	return c, salt, sum, nil
}
