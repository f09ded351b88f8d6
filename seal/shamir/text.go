package shamir

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/conclave-secrets/conclave/internal/redact"
)

// The binary form of an issued share, format 1, 47 bytes:
//
//	0        1              5                 9       10             42         47
//	+--------+--------------+-----------------+-------+--------------+----------+
//	| 0x01   | cluster (4)  | generation (4)  | index | value (32)   | check (5)|
//	+--------+--------------+-----------------+-------+--------------+----------+
//
// Numbers are big-endian. check is the start of SHA-256 over a domain string
// and all that precedes. The text form spells the same fields:
//
//	conclave-share-<cluster, hex>-<generation>-<index>-<value, base32, in fours>-<check, base32>
const (
	formatShare1   = 0x01
	checkSize      = 5
	headerSize     = 1 + 4 + 4 + 1
	issuedSize     = headerSize + scalarSize + checkSize
	textPrefix     = "conclave-share-"
	checkDomain    = "conclave/share/1"
	valueLetters   = 52 // 32 bytes in base32
	checkLetters   = 8  // 5 bytes in base32
	lettersInGroup = 4
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A ClusterPrefix is the first four bytes of a cluster's identity: enough for
// people to tell their clusters apart, and no secret.
type ClusterPrefix [4]byte

// An IssuedShare is a share together with the cluster and the generation of
// shares it belongs to: what a custodian is handed. It prints without its value.
type IssuedShare struct {
	Cluster    ClusterPrefix
	Generation uint32 // 1 at initialisation, one more at each rekey
	Share      Share
}

// String names the share without its value.
func (s IssuedShare) String() string {
	return fmt.Sprintf("%s of cluster %x, generation %d", s.Share, s.Cluster[:], s.Generation)
}

// GoString names the share without its value, for %#v.
func (s IssuedShare) GoString() string { return s.String() }

// Check refuses a share of another cluster (ErrForeignCluster) or of another
// generation (WrongGenerationError).
func (s IssuedShare) Check(cluster ClusterPrefix, generation uint32) error {
	if s.Cluster != cluster {
		return fmt.Errorf("%w: it is of cluster %x, this is cluster %x", ErrForeignCluster, s.Cluster[:], cluster[:])
	}
	if s.Generation != generation {
		return &WrongGenerationError{Have: s.Generation, Want: generation}
	}
	return nil
}

// ExposeBinary returns the binary form, which holds the secret; the caller owns
// it and must wipe it.
func (s IssuedShare) ExposeBinary() []byte {
	out := make([]byte, 0, issuedSize)
	out = append(out, formatShare1)
	out = append(out, s.Cluster[:]...)
	out = binary.BigEndian.AppendUint32(out, s.Generation)
	out = append(out, s.Share.Index)
	out = append(out, s.Share.value.Expose()...)
	return append(out, checksum(out)...)
}

// ExposeText returns the form for people, which holds the secret. A Go string
// cannot be wiped; show it and let it go.
func (s IssuedShare) ExposeText() string {
	raw := s.ExposeBinary()
	defer redact.Wipe(raw)
	value := letters.EncodeToString(raw[headerSize : headerSize+scalarSize])
	var out strings.Builder
	fmt.Fprintf(&out, "%s%x-%d-%d", textPrefix, s.Cluster[:], s.Generation, s.Share.Index)
	for i := 0; i < len(value); i += lettersInGroup {
		out.WriteString("-" + value[i:i+lettersInGroup])
	}
	out.WriteString("-" + letters.EncodeToString(raw[headerSize+scalarSize:]))
	return out.String()
}

func checksum(p []byte) []byte {
	h := sha256.New()
	h.Write([]byte(checkDomain))
	h.Write(p)
	return h.Sum(nil)[:checkSize]
}

// ParseShare reads a share in its text form, or its binary form as hex or
// base64 (either alphabet, padded or not). Upper case and white space anywhere
// are forgiven where they cannot matter. Whatever is not a whole share wraps
// ErrGarbled; the error repeats nothing of the input. Whether the share belongs
// to this cluster is for Check, whether it is right for Commitments.Verify.
func ParseShare(text string) (IssuedShare, error) {
	compact := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	if lower := strings.ToLower(compact); strings.HasPrefix(lower, textPrefix) {
		return parseText(lower[len(textPrefix):])
	}
	raw, err := decodeBinary(compact)
	if err != nil {
		return IssuedShare{}, err
	}
	defer redact.Wipe(raw)
	return parseBinary(raw)
}

func decodeBinary(compact string) ([]byte, error) {
	if len(compact) == hex.EncodedLen(issuedSize) {
		if raw, err := hex.DecodeString(compact); err == nil {
			return raw, nil
		}
	}
	unpadded := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(compact, "="))
	if len(unpadded) == base64.RawStdEncoding.EncodedLen(issuedSize) && len(compact)-len(unpadded) <= 1 {
		if raw, err := base64.RawStdEncoding.Strict().DecodeString(unpadded); err == nil {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("%w: it is not of the form %s…, nor %d bytes in hex or base64; characters may be missing",
		ErrGarbled, textPrefix, issuedSize)
}

func parseText(fields string) (IssuedShare, error) {
	part := strings.SplitN(fields, "-", 4)
	if len(part) != 4 {
		return IssuedShare{}, fmt.Errorf("%w: parts are missing", ErrGarbled)
	}
	cluster, err := hex.DecodeString(part[0])
	if err != nil || len(cluster) != len(ClusterPrefix{}) {
		return IssuedShare{}, fmt.Errorf("%w: the cluster is not 8 hexadecimal digits", ErrGarbled)
	}
	generation, ok := parseNumber(part[1], 32)
	if !ok {
		return IssuedShare{}, fmt.Errorf("%w: the generation is no number", ErrGarbled)
	}
	index, ok := parseNumber(part[2], 8)
	if !ok {
		return IssuedShare{}, fmt.Errorf("%w: the index is no number from 1 to %d", ErrGarbled, MaxShares)
	}
	payload := strings.ReplaceAll(part[3], "-", "")
	if n := len(payload); n != valueLetters+checkLetters {
		return IssuedShare{}, fmt.Errorf("%w: it has %d letters where %d belong", ErrGarbled, n, valueLetters+checkLetters)
	}
	raw := make([]byte, 0, issuedSize)
	defer func() { redact.Wipe(raw[:cap(raw)]) }()
	raw = append(raw, formatShare1)
	raw = append(raw, cluster...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(generation))
	raw = append(raw, byte(index))
	for _, p := range []string{payload[:valueLetters], payload[valueLetters:]} {
		if raw, err = appendLetters(raw, p); err != nil {
			return IssuedShare{}, err
		}
	}
	return parseBinary(raw)
}

// appendLetters decodes base32 strictly: Go's decoder ignores bits that are
// left over at the end, and two texts must not mean one share.
func appendLetters(raw []byte, p string) ([]byte, error) {
	out, err := letters.AppendDecode(raw, []byte(p))
	if err != nil {
		return raw, fmt.Errorf("%w: it holds letters that no share has", ErrGarbled)
	}
	if letters.EncodeToString(out[len(raw):]) != p {
		return raw, fmt.Errorf("%w: its checksum is wrong", ErrGarbled)
	}
	return out, nil
}

// parseNumber reads a decimal from 1 in its shortest form.
func parseNumber(s string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, bits)
	return n, err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func parseBinary(raw []byte) (IssuedShare, error) {
	body, check := raw[:issuedSize-checkSize], raw[issuedSize-checkSize:]
	if subtle.ConstantTimeCompare(checksum(body), check) != 1 {
		return IssuedShare{}, fmt.Errorf("%w: its checksum is wrong; compare it with what you were given, character by character", ErrGarbled)
	}
	if raw[0] != formatShare1 {
		return IssuedShare{}, fmt.Errorf("%w: format %d is not one this version knows", ErrGarbled, raw[0])
	}
	var s IssuedShare
	r := bytes.NewBuffer(body[1:headerSize])
	copy(s.Cluster[:], r.Next(len(s.Cluster)))
	s.Generation = binary.BigEndian.Uint32(r.Next(4))
	if s.Generation == 0 {
		return IssuedShare{}, fmt.Errorf("%w: generation 0", ErrGarbled)
	}
	if err := s.Share.UnmarshalBinary(body[headerSize-1:]); err != nil {
		return IssuedShare{}, err
	}
	return s, nil
}
