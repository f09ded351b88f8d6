package audit

import (
	"strconv"
	"time"
)

// The limits of one record, in bytes of the input unless said otherwise. Together
// they keep a body below maxBody, so that one record never delays the others of its
// group by more than a small write.
const (
	maxWord     = 256  // ids, names, kinds
	maxPath     = 4096 // also a mount and a creation path
	maxReason   = 512
	maxError    = 1024
	maxPolicies = 32
	maxData     = 32 << 10 // output of a request's or response's data, roughly
	maxBody     = 256 << 10
)

// body writes what stands between a record's link to the one before it and its own
// hash: `"type":…` up to the last field. It never fails; a field is bounded, not
// refused, for a request must not escape its record by being strange.
func (e *Entry) body(dst []byte, node string, now time.Time, h Hasher) []byte {
	start := len(dst)
	dst = e.envelope(dst, node, now, h)
	bare := len(dst)
	dst = appendData(dst, `,"request":`, e.Path, &e.Request, h)
	dst = appendData(dst, `,"response":`, e.Path, &e.Response, h)
	if len(dst)-start > maxBody {
		dst = append(dst[:bare], `,"request":"audit:too_long"`...)
	}
	return dst
}

func (e *Entry) envelope(dst []byte, node string, now time.Time, h Hasher) []byte {
	dst = appendStart(dst, e.Type, node, now)
	dst = appendField(dst, `,"request_id":`, e.RequestID, maxWord)
	dst = appendAuth(dst, &e.Auth, h)
	dst = appendField(dst, `,"operation":`, e.Operation, maxWord)
	dst = appendField(dst, `,"path":`, e.Path, maxPath)
	dst = appendField(dst, `,"mount":`, e.Mount, maxPath)
	dst = appendField(dst, `,"mount_type":`, e.MountType, maxWord)
	dst = appendField(dst, `,"remote":`, e.Remote, maxWord)
	dst = appendField(dst, `,"reason":`, e.Reason, maxReason)
	dst = appendField(dst, `,"consistency":`, e.Consistency, maxWord)
	if e.Index != 0 {
		dst = append(dst, `,"index":`...)
		dst = strconv.AppendUint(dst, e.Index, 10)
	}
	if e.Rule != (Rule{}) {
		dst = append(dst, `,"rule":`...)
		dst = appendRule(dst, e.Rule)
	}
	dst = appendField(dst, `,"outcome":`, string(e.Outcome), maxWord)
	if e.Error != (Failure{}) {
		dst = append(dst, `,"error":{"class":`...)
		dst = appendText(dst, e.Error.Class, maxWord)
		dst = appendField(dst, `,"text":`, e.Error.Text, maxError)
		dst = append(dst, '}')
	}
	return appendWrap(dst, &e.Wrap, h)
}

// appendStart begins a body of any type.
func appendStart(dst []byte, t Type, node string, now time.Time) []byte {
	dst = append(dst, `"type":`...)
	dst = appendText(dst, string(t), maxWord)
	dst = append(dst, `,"time":"`...)
	dst = now.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	return appendField(dst, `,"node":`, node, maxWord)
}

// appendField appends a name, with its comma and colon, and a value that is not empty.
func appendField(dst []byte, name, value string, limit int) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, name...)
	return appendText(dst, value, limit)
}

func appendAuth(dst []byte, a *Auth, h Hasher) []byte {
	if a.Accessor == "" && a.DisplayName == "" && a.TokenType == "" && a.Entity == "" && len(a.Policies) == 0 {
		return dst
	}
	dst = append(dst, `,"auth":{"token_type":`...)
	dst = appendText(dst, a.TokenType, maxWord)
	dst = appendHashedField(dst, `,"accessor":"`, a.Accessor, h)
	dst = appendField(dst, `,"display_name":`, a.DisplayName, maxWord)
	dst = appendField(dst, `,"entity":`, a.Entity, maxWord)
	if len(a.Policies) > 0 {
		dst = append(dst, `,"policies":[`...)
		for i, p := range a.Policies {
			if i > 0 {
				dst = append(dst, ',')
			}
			if i == maxPolicies {
				dst = appendText(dst, "…(+"+strconv.Itoa(len(a.Policies)-i)+" policies)", maxWord)
				break
			}
			dst = appendText(dst, p, maxWord)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendHashedField(dst []byte, name, value string, h Hasher) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, name...)
	dst = appendHashed(dst, h, []byte(value))
	return append(dst, '"')
}

func appendRule(dst []byte, r Rule) []byte {
	if r.None {
		return append(dst, `"none"`...)
	}
	dst = append(dst, `{"policy":`...)
	dst = appendText(dst, r.Policy, maxWord)
	dst = append(dst, `,"pattern":`...)
	dst = appendText(dst, r.Pattern, maxPath)
	return append(dst, '}')
}

func appendWrap(dst []byte, w *Wrap, h Hasher) []byte {
	if *w == (Wrap{}) {
		return dst
	}
	dst = append(dst, `,"wrap":{"ttl":`...)
	dst = strconv.AppendInt(dst, int64(w.TTL/time.Second), 10)
	dst = appendHashedField(dst, `,"accessor":"`, w.Accessor, h)
	dst = appendField(dst, `,"creation_path":`, w.CreationPath, maxPath)
	return append(dst, '}')
}
