package seal

import (
	"encoding/binary"
	"fmt"

	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Config is what a node needs besides the shares in order to unseal. It lies in
// the clear at ConfigKey in the record table, so every replica has it. Treat a
// Config as immutable: the slices behind it are shared by its copies.
//
// Encoded, format 1 (big-endian):
//
//	0      1              17               21       22          23              23+32t   +4
//	+------+--------------+----------------+--------+-----------+----------------+-------+---------+
//	| 0x01 | cluster (16) | generation (4) | shares | threshold | commitments    | length| wrapped |
//	|      |              |                | (1)    | t (1)     | (t times 32)   | (4)   | keyring |
//	+------+--------------+----------------+--------+-----------+----------------+-------+---------+
//
// All that precedes the length is associated data of the wrapped keyring: who
// alters any of it alters it for nothing, the keyring does not open.
type Config struct {
	Cluster     ClusterID
	Generation  uint32 // of the shares: 1 at initialisation, one more at each rekey
	Shares      int    // how many were issued
	Commitments shamir.Commitments
	wrapped     []byte // the keyring, sealed by the root key
}

const (
	formatConfig1    = 0x01
	configHeaderSize = 1 + len(ClusterID{}) + 4 + 1 + 1
	commitmentSize   = 32
	maxWrapped       = 1 << 20
)

// Threshold is the number of shares that unseal.
func (c Config) Threshold() int { return c.Commitments.Threshold() }

// Marshal encodes c; the caller owns the bytes. It fails for a Config that was
// not made by this package.
func (c Config) Marshal() ([]byte, error) {
	out, err := c.header()
	if err != nil {
		return nil, err
	}
	if len(c.wrapped) == 0 || len(c.wrapped) > maxWrapped {
		return nil, fmt.Errorf("encoding seal configuration: wrapped keyring of %d bytes", len(c.wrapped))
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(c.wrapped)))
	return append(out, c.wrapped...), nil
}

// header is the part of the encoding that the wrapped keyring authenticates.
func (c Config) header() ([]byte, error) {
	if err := shamir.CheckParameters(c.Threshold(), c.Shares); err != nil {
		return nil, fmt.Errorf("encoding seal configuration: %w", err)
	}
	commitments, err := c.Commitments.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding seal configuration: %w", err)
	}
	out := make([]byte, 0, configHeaderSize+len(commitments))
	out = append(out, formatConfig1)
	out = append(out, c.Cluster[:]...)
	out = binary.BigEndian.AppendUint32(out, c.Generation)
	out = append(out, byte(c.Shares), byte(c.Threshold()))
	return append(out, commitments...), nil
}

// UnmarshalConfig reads what Marshal wrote, and only that: every byte sequence
// it takes encodes to itself again. The result aliases nothing in p. The error
// wraps ErrFormat or ErrNewerFormat. Nothing is authenticated yet; unsealing
// does that.
func UnmarshalConfig(p []byte) (Config, error) {
	if len(p) > 0 && p[0] > formatConfig1 {
		return Config{}, fmt.Errorf("decoding seal configuration: format %d: %w", p[0], ErrNewerFormat)
	}
	if len(p) < configHeaderSize || p[0] != formatConfig1 {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: %d bytes hold no header", ErrFormat, len(p))
	}
	var c Config
	n := 1 + copy(c.Cluster[:], p[1:])
	c.Generation = binary.BigEndian.Uint32(p[n:])
	c.Shares = int(p[n+4])
	threshold := int(p[n+5])
	if c.Generation == 0 {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: generation 0", ErrFormat)
	}
	if err := shamir.CheckParameters(threshold, c.Shares); err != nil {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: threshold %d of %d shares", ErrFormat, threshold, c.Shares)
	}
	return c.decodeBody(p[configHeaderSize:], threshold)
}

func (c Config) decodeBody(p []byte, threshold int) (Config, error) {
	commitments := threshold * commitmentSize
	if len(p) < commitments+4 {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: it is cut short", ErrFormat)
	}
	var err error
	if c.Commitments, err = shamir.UnmarshalCommitments(p[:commitments]); err != nil {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: %w", ErrFormat, err)
	}
	p = p[commitments:]
	length := binary.BigEndian.Uint32(p)
	if length == 0 || length > maxWrapped || int(length) != len(p)-4 {
		return Config{}, fmt.Errorf("decoding seal configuration: %w: %d bytes where the keyring says %d", ErrFormat, len(p)-4, length)
	}
	c.wrapped = append([]byte(nil), p[4:]...)
	return c, nil
}
