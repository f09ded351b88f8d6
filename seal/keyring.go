package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// The keyring as it is sealed into a Config, format 1 (big-endian):
//
//	0      1           33        65         129          133     n times
//	+------+-----------+---------+----------+------------+-------+-------------------------+
//	| 0x01 | audit key | id key  | name key | active (4) | n (4) | version (4), key (32) … |
//	|      | (32)      | (32)    | (64)     |            |       | ascending by version    |
//	+------+-----------+---------+----------+------------+-------+-------------------------+
//
// In memory the same bytes follow the 32 bytes of the root key, in one piece of
// locked memory, and the fields of Keyring are slices of it.
const (
	formatKeyring1    = 0x01
	auditKeySize      = 32
	idKeySize         = 32
	nameKeySize       = 64 // AES-SIV with two keys of 256 bits
	keyringHeaderSize = 1 + auditKeySize + idKeySize + nameKeySize + 4 + 4
	dataKeyEntrySize  = 4 + xaesKeySize
	// maxDataKeys bounds the rotations of one keyring: one a day for 70 years.
	maxDataKeys = 25_000

	// keyringDomain sets the associated data of a wrapped keyring apart from
	// that of every other sealed thing.
	keyringDomain = "conclave/seal/keyring/1"
)

// ErrConfigAltered: the root key does not open the wrapped keyring, although
// the shares fit the commitments. Some field of the Config was changed, or the
// Config was put together from two.
var ErrConfigAltered = errors.New("the seal configuration was altered: its keyring does not open")

// ErrOlderKeyring: a Config offers a keyring that lacks data keys we have.
var ErrOlderKeyring = errors.New("the seal configuration holds an older keyring than the one in use")

// A Keyring holds the raw keys of a cluster in locked memory: data keys by
// version, the name, audit and id keys, and the root key that wraps them (kept
// so that rotating needs no custodian). It prints as redacted.
//
// Hand a Keyring to NewBarrier, which owns it from then on, or Wipe it: locked
// memory is never garbage collected. Safe for concurrent use; after Wipe every
// method returns ErrSealed.
type Keyring struct {
	mu     sync.RWMutex
	memory *lockedMemory // root key, then the encoded keyring; the slices below point into it

	audit, id, name []byte
	data            map[uint32][]byte
	active          uint32
	wiped           bool
}

// String hides everything.
func (k *Keyring) String() string { return "keyring " + redact.Text }

// GoString hides everything, for %#v.
func (k *Keyring) GoString() string { return k.String() }

// Format hides everything, whatever the verb.
func (k *Keyring) Format(f fmt.State, _ rune) {
	// fmt's own writer never fails.
	_, _ = io.WriteString(f, k.String())
}

// newKeyring draws all keys from rand; root is copied.
func newKeyring(rand io.Reader, root redact.Bytes) (*Keyring, error) {
	memory := newLockedMemory(shamir.RootSize + keyringHeaderSize + dataKeyEntrySize)
	copy(memory.bytes, root.Expose())
	p := memory.bytes[shamir.RootSize:]
	if _, err := io.ReadFull(rand, p); err != nil {
		return nil, errors.Join(fmt.Errorf("drawing keyring: %w", err), memory.release())
	}
	p[0] = formatKeyring1
	binary.BigEndian.PutUint32(p[keyringHeaderSize-8:], 1) // active
	binary.BigEndian.PutUint32(p[keyringHeaderSize-4:], 1) // how many
	binary.BigEndian.PutUint32(p[keyringHeaderSize:], 1)   // the first version
	return parseKeyring(memory)
}

// openKeyring unwraps the keyring of cfg with root, which is copied. The
// plaintext is written straight into locked memory. Errors: ErrConfigAltered,
// ErrFormat, ErrNewerFormat.
func openKeyring(cfg Config, root redact.Bytes) (*Keyring, error) {
	overhead := xaesNonceSize + xaesTagSize
	if len(cfg.wrapped) <= overhead {
		return nil, fmt.Errorf("opening keyring: %w: %d bytes", ErrFormat, len(cfg.wrapped))
	}
	aad, err := cfg.keyringAAD()
	if err != nil {
		return nil, err
	}
	x, err := newXAES(root.Expose())
	if err != nil {
		return nil, err
	}
	memory := newLockedMemory(shamir.RootSize + len(cfg.wrapped) - overhead)
	copy(memory.bytes, root.Expose())
	d := derivations.Get().(*derivation)
	defer d.release()
	nonce, sealed := cfg.wrapped[:xaesNonceSize], cfg.wrapped[xaesNonceSize:]
	dst := memory.bytes[shamir.RootSize:shamir.RootSize]
	if _, err := x.open(d, dst, nonce, sealed, aad); err != nil {
		return nil, errors.Join(ErrConfigAltered, memory.release())
	}
	return parseKeyring(memory)
}

// keyringAAD is everything of the configuration but the keyring itself.
func (c Config) keyringAAD() ([]byte, error) {
	header, err := c.header()
	if err != nil {
		return nil, err
	}
	return append([]byte(keyringDomain), header...), nil
}

// parseKeyring takes ownership of memory and releases it on failure.
func parseKeyring(memory *lockedMemory) (*Keyring, error) {
	k := &Keyring{memory: memory, data: map[uint32][]byte{}}
	if err := k.parse(memory.bytes[shamir.RootSize:]); err != nil {
		return nil, errors.Join(fmt.Errorf("decoding keyring: %w", err), memory.release())
	}
	return k, nil
}

func (k *Keyring) parse(p []byte) error {
	if len(p) > 0 && p[0] > formatKeyring1 {
		return fmt.Errorf("format %d: %w", p[0], ErrNewerFormat)
	}
	if len(p) < keyringHeaderSize || p[0] != formatKeyring1 {
		return fmt.Errorf("%w: %d bytes hold no header", ErrFormat, len(p))
	}
	take := func(n int) []byte {
		head := p[:n:n]
		p = p[n:]
		return head
	}
	take(1)
	k.audit, k.id, k.name = take(auditKeySize), take(idKeySize), take(nameKeySize)
	k.active = binary.BigEndian.Uint32(take(4))
	count := binary.BigEndian.Uint32(take(4))
	if count > maxDataKeys || len(p) != int(count)*dataKeyEntrySize {
		return fmt.Errorf("%w: %d bytes do not hold %d data keys", ErrFormat, len(p), count)
	}
	for previous := uint32(0); len(p) > 0; {
		version := binary.BigEndian.Uint32(take(4))
		if version <= previous {
			return fmt.Errorf("%w: version %d follows %d", ErrFormat, version, previous)
		}
		k.data[version], previous = take(xaesKeySize), version
	}
	if k.data[k.active] == nil {
		return fmt.Errorf("%w: active version %d is absent", ErrFormat, k.active)
	}
	return nil
}

// wrap seals the keyring with its root key into cfg.
func (k *Keyring) wrap(rand io.Reader, cfg Config) (Config, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.wiped {
		return Config{}, ErrSealed
	}
	aad, err := cfg.keyringAAD()
	if err != nil {
		return Config{}, err
	}
	x, err := newXAES(k.memory.bytes[:shamir.RootSize])
	if err != nil {
		return Config{}, err
	}
	plain := k.memory.bytes[shamir.RootSize:]
	out := make([]byte, xaesNonceSize, xaesNonceSize+len(plain)+xaesTagSize)
	if _, err := io.ReadFull(rand, out); err != nil {
		return Config{}, fmt.Errorf("wrapping keyring: drawing nonce: %w", err)
	}
	d := derivations.Get().(*derivation)
	defer d.release()
	if cfg.wrapped, err = x.seal(d, out, out, plain, aad); err != nil {
		return Config{}, fmt.Errorf("wrapping keyring: %w", err)
	}
	return cfg, nil
}

// grow returns a copy of k with root in place of its root key, if root is not
// empty, and extra zero bytes at the end.
func (k *Keyring) grow(root redact.Bytes, extra int) (*lockedMemory, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.wiped {
		return nil, ErrSealed
	}
	memory := newLockedMemory(len(k.memory.bytes) + extra)
	copy(memory.bytes, k.memory.bytes)
	copy(memory.bytes, root.Expose())
	return memory, nil
}

// RotateData returns a keyring with a new active data key besides all old ones,
// and cfg with that keyring wrapped in it. k itself is unchanged: nothing may be
// sealed with the new keyring before the new Config is committed, for a value
// whose key is lost is lost. rand gives the key and the nonce.
func (k *Keyring) RotateData(rand io.Reader, cfg Config) (*Keyring, Config, error) {
	memory, err := k.grow(redact.Bytes{}, dataKeyEntrySize)
	if err != nil {
		return nil, Config{}, err
	}
	p := memory.bytes[shamir.RootSize:]
	count := binary.BigEndian.Uint32(p[keyringHeaderSize-4:])
	if count >= maxDataKeys {
		return nil, Config{}, errors.Join(fmt.Errorf("rotating data key: the keyring holds %d keys, which is the most", count), memory.release())
	}
	entry := p[len(p)-dataKeyEntrySize:]
	if _, err := io.ReadFull(rand, entry); err != nil {
		return nil, Config{}, errors.Join(fmt.Errorf("rotating data key: %w", err), memory.release())
	}
	version := slices.Max(k.Versions()) + 1
	binary.BigEndian.PutUint32(entry, version)
	binary.BigEndian.PutUint32(p[keyringHeaderSize-8:], version)
	binary.BigEndian.PutUint32(p[keyringHeaderSize-4:], count+1)
	next, err := parseKeyring(memory)
	if err != nil {
		return nil, Config{}, err
	}
	if cfg, err = next.wrap(rand, cfg); err != nil {
		return nil, Config{}, errors.Join(err, next.Wipe())
	}
	return next, cfg, nil
}

// Reopen opens the keyring of a newer Config with the root key that k holds:
// how a node follows a rotation done elsewhere. After a rekey the root key is
// another and the error is ErrConfigAltered. A keyring that lacks any data key
// of k is refused with ErrOlderKeyring. k is unchanged.
func (k *Keyring) Reopen(cfg Config) (*Keyring, error) {
	root, err := k.copyRoot()
	if err != nil {
		return nil, err
	}
	defer root.Wipe()
	next, err := openKeyring(cfg, root)
	if err != nil {
		return nil, err
	}
	for _, version := range k.Versions() {
		if next.data[version] == nil || next.active < k.Active() {
			return nil, errors.Join(ErrOlderKeyring, next.Wipe())
		}
	}
	return next, nil
}

func (k *Keyring) copyRoot() (redact.Bytes, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.wiped {
		return redact.Bytes{}, ErrSealed
	}
	return redact.New(slices.Clone(k.memory.bytes[:shamir.RootSize])), nil
}

// Active is the version of the data key that seals new values; 0 once wiped.
func (k *Keyring) Active() uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.active
}

// Versions lists the data keys in ascending order; empty once wiped.
func (k *Keyring) Versions() []uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Sorted(maps.Keys(k.data))
}

// MemoryWarning says in a sentence what the system did not grant to protect the
// keys in memory; it is empty if all was granted.
func (k *Keyring) MemoryWarning() string { return k.memory.warning }

// Wipe overwrites the keys and releases their memory. It may be called again;
// an error means that the system did not take the (wiped) memory back.
func (k *Keyring) Wipe() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wiped = true
	k.audit, k.id, k.name, k.data, k.active = nil, nil, nil, nil, 0
	return k.memory.release()
}
