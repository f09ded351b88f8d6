package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// A sealed value, format 1 (big-endian):
//
//	0      1                 5            29                      n
//	+------+-----------------+------------+------------+----------+
//	| 0x01 | key version (4) | nonce (24) | ciphertext | tag (16) |
//	+------+-----------------+------------+------------+----------+
//
// sealed with XAES-256-GCM. Associated data, which is not stored:
//
//	| 0x01 | cluster (16) | table (1) | key length (4) | key | number (8) |
const (
	formatValue1    = 0x01
	valueHeaderSize = 1 + 4 + xaesNonceSize

	// Overhead is how much longer a sealed value is than its plaintext, in bytes.
	Overhead = valueHeaderSize + xaesTagSize
)

// A Barrier seals and opens values and blinds names. What it returns may be
// stored and sent anywhere; what it takes may not.
//
// Safe for concurrent use. Invariant: after Wipe returns, no key is in locked
// memory, no call is using one, and every call gives ErrSealed.
type Barrier struct {
	cluster ClusterID
	rand    io.Reader

	mu   sync.RWMutex // held for reading throughout every use of a key
	keys *openKeys    // nil: sealed
}

// openKeys are the ciphers of one keyring, built once: an AES key schedule costs
// more than sealing a small value. Immutable.
type openKeys struct {
	keyring *Keyring
	data    map[uint32]*xaes
	active  uint32
	names   *siv
	masks   cipher.Block
}

func newOpenKeys(k *Keyring) (*openKeys, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.wiped {
		return nil, ErrSealed
	}
	o := &openKeys{keyring: k, data: make(map[uint32]*xaes, len(k.data)), active: k.active}
	for version, key := range k.data {
		x, err := newXAES(key)
		if err != nil {
			return nil, err
		}
		o.data[version] = x
	}
	var err error
	if o.names, err = newSIV(k.name); err != nil {
		return nil, err
	}
	mask := hmac.New(sha256.New, k.id)
	mask.Write([]byte(maskLabel))
	key := mask.Sum(nil)
	defer redact.Wipe(key)
	if o.masks, err = aes.NewCipher(key); err != nil {
		return nil, err
	}
	return o, nil
}

// NewBarrier takes ownership of keyring and wipes it when the barrier is wiped.
// Nonces come from rand, which must be cryptographically secure and safe for
// concurrent use: two values under one nonce reveal each other.
func NewBarrier(rand io.Reader, cluster ClusterID, keyring *Keyring) (*Barrier, error) {
	keys, err := newOpenKeys(keyring)
	if err != nil {
		return nil, fmt.Errorf("creating barrier: %w", err)
	}
	return &Barrier{cluster: cluster, rand: rand, keys: keys}, nil
}

// Seal encrypts plaintext for exactly one place: key and number in table of this
// cluster. For tables without numbers, number is 0. The caller owns the result,
// which is Overhead bytes longer. It fails with ErrSealed or the error of the
// random source, nothing else.
func (b *Barrier) Seal(table Table, key fsm.Key, number uint64, plaintext []byte) ([]byte, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return nil, ErrSealed
	}
	out := make([]byte, valueHeaderSize, Overhead+len(plaintext))
	out[0] = formatValue1
	binary.BigEndian.PutUint32(out[1:], b.keys.active)
	nonce := out[5:valueHeaderSize]
	if _, err := io.ReadFull(b.rand, nonce); err != nil {
		return nil, fmt.Errorf("sealing value: drawing nonce: %w", err)
	}
	d := derivations.Get().(*derivation)
	defer d.release()
	d.aad = b.appendPlace(d.aad[:0], table, key, number)
	return b.keys.data[b.keys.active].seal(d, out, nonce, plaintext, d.aad)
}

// Open returns what Seal was given, and proves that it was given for this place.
// It does not prove that it is the newest value there: an older one, put back by
// who controls the disk, opens. The caller owns the result. Errors: ErrSealed,
// ErrFormat, ErrNewerFormat, *UnknownKeyError, *AuthenticationError.
func (b *Barrier) Open(table Table, key fsm.Key, number uint64, sealed []byte) ([]byte, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return nil, ErrSealed
	}
	version, err := KeyVersion(sealed)
	if err != nil {
		return nil, err
	}
	x := b.keys.data[version]
	if x == nil {
		return nil, &UnknownKeyError{Version: version}
	}
	d := derivations.Get().(*derivation)
	defer d.release()
	d.aad = b.appendPlace(d.aad[:0], table, key, number)
	out := make([]byte, 0, len(sealed)-Overhead)
	out, err = x.open(d, out, sealed[5:valueHeaderSize], sealed[valueHeaderSize:], d.aad)
	if err != nil {
		return nil, &AuthenticationError{Table: table}
	}
	return out, nil
}

// KeyVersion tells which data key sealed a value, without opening it: what
// rewrapping asks. Errors: ErrFormat, ErrNewerFormat.
func KeyVersion(sealed []byte) (uint32, error) {
	if len(sealed) > 0 && sealed[0] > formatValue1 {
		return 0, fmt.Errorf("opening sealed value: format %d: %w", sealed[0], ErrNewerFormat)
	}
	if len(sealed) < Overhead || sealed[0] != formatValue1 {
		return 0, fmt.Errorf("opening sealed value: %w: %d bytes hold none", ErrFormat, len(sealed))
	}
	return binary.BigEndian.Uint32(sealed[1:]), nil
}

// appendPlace encodes the place of a value. The key's length goes before it, so
// no two places have one encoding.
func (b *Barrier) appendPlace(aad []byte, table Table, key fsm.Key, number uint64) []byte {
	aad = append(aad, formatValue1)
	aad = append(aad, b.cluster[:]...)
	aad = append(aad, byte(table))
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(key)))
	aad = append(aad, key...)
	return binary.BigEndian.AppendUint64(aad, number)
}

// ID returns the name under which something is stored whose own value must not
// be (a token, an accessor): HMAC-SHA256 by the id key over kind and value, 32
// bytes that the caller owns. Different kinds never share an id.
func (b *Barrier) ID(kind string, value []byte) ([]byte, error) {
	return b.keyedHash(func(k *Keyring) []byte { return k.id }, kind, value)
}

// MaskSize is the size of what Mask takes and gives, in bytes.
const MaskSize = 16

// maskLabel makes the key of masks from the id key. ID never hashes the same: what
// it hashes begins with the length of the kind, and this is shorter than its first
// byte would say.
const maskLabel = "conclave: the key under which ids are masked, version 1"

// Mask returns another name for an id, or for its beginning, that can be shown: who
// has not the keys learns nothing from it, not even whether two of them are near one
// another, and Unmask leads back without anything being stored. It is AES-256 on one
// block, a permutation: different ids have different masks, and one id has one.
func (b *Barrier) Mask(id [MaskSize]byte) (mask [MaskSize]byte, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return mask, ErrSealed
	}
	b.keys.masks.Encrypt(mask[:], id[:])
	return mask, nil
}

// Unmask undoes Mask. Every mask has an id; whether anything has that id, only a
// look tells.
func (b *Barrier) Unmask(mask [MaskSize]byte) (id [MaskSize]byte, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return id, ErrSealed
	}
	b.keys.masks.Decrypt(id[:], mask[:])
	return id, nil
}

// AuditHash returns what the audit log shows in place of value: HMAC-SHA256 by
// the audit key over kind and value, 32 bytes that the caller owns.
func (b *Barrier) AuditHash(kind string, value []byte) ([]byte, error) {
	return b.keyedHash(func(k *Keyring) []byte { return k.audit }, kind, value)
}

func (b *Barrier) keyedHash(key func(*Keyring) []byte, kind string, value []byte) ([]byte, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return nil, ErrSealed
	}
	mac := hmac.New(sha256.New, key(b.keys.keyring))
	// The length sets kind and value apart: ("ab", "c") is not ("a", "bc").
	mac.Write(binary.AppendUvarint(nil, uint64(len(kind))))
	mac.Write([]byte(kind))
	mac.Write(value)
	return mac.Sum(nil), nil
}

// RotateData makes a new data key and returns cfg with it; this barrier goes on
// with the old one. Commit the Config at ConfigKey, then let every unsealed node
// Adopt it, this one included.
func (b *Barrier) RotateData(cfg Config) (Config, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return Config{}, ErrSealed
	}
	next, cfg, err := b.keys.keyring.RotateData(b.rand, cfg)
	if err != nil {
		return Config{}, err
	}
	return cfg, next.Wipe()
}

// Adopt goes over to the keyring of a committed Config. On error the barrier
// goes on as it was; see Keyring.Reopen for which. A Config of another cluster
// gives ErrConfigAltered.
func (b *Barrier) Adopt(cfg Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		return ErrSealed
	}
	if cfg.Cluster != b.cluster {
		return ErrConfigAltered
	}
	keyring, err := b.keys.keyring.Reopen(cfg)
	if err != nil {
		return err
	}
	keys, err := newOpenKeys(keyring)
	if err != nil {
		return errors.Join(err, keyring.Wipe())
	}
	old := b.keys
	b.keys = keys
	return old.keyring.Wipe()
}

// ActiveKey is the version of the data key that seals new values.
func (b *Barrier) ActiveKey() (uint32, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.keys == nil {
		return 0, ErrSealed
	}
	return b.keys.active, nil
}

// Wipe seals: it waits for calls in progress, wipes the keyring, and lets every
// later call fail with ErrSealed. It may be called again. An error means that
// the system did not take the (wiped) memory back.
func (b *Barrier) Wipe() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		return nil
	}
	keys := b.keys
	b.keys = nil
	return keys.keyring.Wipe()
}
