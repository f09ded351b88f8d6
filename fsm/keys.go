package fsm

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The tables share one ordered map. The first byte of a row's key is its table:
//
//	m                                   meta: applied index and term, log time, …
//	r  KEY                              record
//	R  len(LEASE) LEASE KEY             records by owning lease
//	w  SPACE                            revision of the last write in a record space
//	h  KEY                              secret head
//	v  len(KEY) KEY number              secret version
//	l  ID                               lease
//	x  expiry ID                        leases by expiry
//	o  len(OWNER) OWNER ID              leases by owner
//	g  len(GROUP) GROUP ID              leases by group
//	e  len(EFFECT) EFFECT ID            leases whose outside effect must be undone
//	n  TALLY                            how many leases of a tally are alive
//	N  EFFECT                           how many leases lie under it in e
//	q  serial                           ends that later entries must go on with
//	s  SESSION                          session
//	S  SESSION index                    answers that an entry gave to a session
//
// Lengths are two bytes, numbers eight, both big-endian, so that byte order is
// numeric order.
const (
	tableMeta          = 'm'
	tableRecord        = 'r'
	tableRecordByLease = 'R'
	tableSpace         = 'w'
	tableHead          = 'h'
	tableVersion       = 'v'
	tableLease         = 'l'
	tableByExpiry      = 'x'
	tableByOwner       = 'o'
	tableByGroup       = 'g'
	tableByEffect      = 'e'
	tableTally         = 'n'
	tableUndone        = 'N'
	tableQueue         = 'q'
	tableSession       = 's'
	tableAnswers       = 'S'
)

// key builds a row key of a table from parts.
func key(table byte, parts ...[]byte) []byte {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	k := make([]byte, 1, n)
	k[0] = table
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

// counted returns k with its length in front.
func counted(k Key) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(k)), uint16(len(k))), k...)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func recordKey(k Key) []byte                  { return key(tableRecord, k) }
func recordByLeaseKey(lease, k Key) []byte    { return key(tableRecordByLease, counted(lease), k) }
func spaceKey(s Space) []byte                 { return []byte{tableSpace, byte(s)} }
func headKey(k Key) []byte                    { return key(tableHead, k) }
func versionKey(k Key, n uint64) []byte       { return key(tableVersion, counted(k), number(n)) }
func leaseKey(id Key) []byte                  { return key(tableLease, id) }
func expiryKey(at LogTime, id Key) []byte     { return key(tableByExpiry, number(uint64(at)), id) }
func ownerKey(owner, id Key) []byte           { return key(tableByOwner, counted(owner), id) }
func groupKey(group, id Key) []byte           { return key(tableByGroup, counted(group), id) }
func effectKey(effect, id Key) []byte         { return key(tableByEffect, counted(effect), id) }
func tallyKey(tally Key) []byte               { return key(tableTally, tally) }
func undoneKey(effect Key) []byte             { return key(tableUndone, effect) }
func queueKey(serial uint64) []byte           { return key(tableQueue, number(serial)) }
func sessionKey(s SessionID) []byte           { return key(tableSession, s[:]) }
func answersKey(s SessionID, i uint64) []byte { return key(tableAnswers, s[:], number(i)) }

// Limits of what a batch may ask. They bound what one entry costs, and the
// proposer's node checks them with ValidateBatch before anything is proposed.
const (
	MaxValueSize   = 4 << 20 // bytes of one sealed value
	MaxBatchSize   = 8 << 20 // bytes of an encoded batch
	MaxGuards      = 256
	MaxOperations  = 256
	MaxNumbers     = 1024 // version numbers in one operation
	MaxGroups      = 16   // groups of one lease
	MaxLeaseDepth  = 32   // owners above a lease
	MaxKeep        = 10_000
	DefaultKeep    = 10 // versions kept when a secret says nothing
	MaxGuardedKeys = 10_000
	MaxTTL         = 100 * 365 * 24 * time.Hour // of a lease or a version
)

func checkKey(k Key) error {
	if len(k) == 0 || len(k) > MaxKeySize {
		return fmt.Errorf("key of %d bytes is outside 1..%d", len(k), MaxKeySize)
	}
	return nil
}
