// Package seal stands between the plain and the sealed: it unseals a node from
// shares (Unsealer), keeps the keys (Keyring), seals and opens every value and
// blinds every name (Barrier), and defines what of all this lies in the clear
// (Config).
//
// What never lives here: storage, consensus, the network, and any meaning of
// the values and names that pass through. A node that holds no key replicates
// all the same, so this package may not know how replication works. Shares are
// package shamir's. Start reading at Barrier; DESIGN.md draws the key hierarchy
// and the formats.
package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// A ClusterID names a cluster for ever: 16 random bytes, not secret, mixed into
// everything that is sealed.
type ClusterID [16]byte

// NewClusterID draws an identity from rand.
func NewClusterID(rand io.Reader) (ClusterID, error) {
	var id ClusterID
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return ClusterID{}, fmt.Errorf("drawing cluster id: %w", err)
	}
	return id, nil
}

// String returns the identity in hexadecimal.
func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// Prefix is the part of the identity that a share carries.
func (id ClusterID) Prefix() shamir.ClusterPrefix { return shamir.ClusterPrefix(id[:4]) }

// A Table says in which table of the state machine a sealed value lies. It is
// part of what a value is sealed to. The numbers are part of the format.
type Table uint8

// The tables that hold sealed values.
const (
	TableRecord  Table = 1
	TableVersion Table = 2
	TableLease   Table = 3
)

func (t Table) String() string {
	switch t {
	case TableRecord:
		return "record"
	case TableVersion:
		return "version"
	case TableLease:
		return "lease"
	}
	return fmt.Sprintf("Table(%d)", uint8(t))
}

// SpaceSystem holds the records whose keys are fixed and in the clear, because
// a sealed node must find them.
const SpaceSystem fsm.Space = 0x01

// ConfigKey is where the encoded Config lies in the record table. A blinded
// name never begins like it: a blinded segment is at least 16 bytes long, and
// this key announces one of none. Not to be modified.
var ConfigKey = fsm.Key("\x01\x00seal/config")

// ErrSealed: the keys were wiped, or never were there.
var ErrSealed = errors.New("sealed")

// ErrFormat: the bytes are not in the form that this package writes.
var ErrFormat = errors.New("malformed")

// ErrNewerFormat: a later release wrote this.
var ErrNewerFormat = errors.New("written in a format newer than this version knows")

// An UnknownKeyError says that the keyring lacks the data key a value was
// sealed with. A keyring newer than ours would have it.
type UnknownKeyError struct{ Version uint32 }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("opening sealed value: data key version %d is not in the keyring", e.Version)
}

// An AuthenticationError says that a value is not what was sealed at this
// place. Nothing of it may be used.
type AuthenticationError struct{ Table Table }

func (e *AuthenticationError) Error() string {
	return fmt.Sprintf("opening sealed value of table %s: it was altered or moved", e.Table)
}
