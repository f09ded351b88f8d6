package audit

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
)

// Type says at which point of a request a record was made.
type Type string

// The types that a caller may append. The log itself writes "header", "cut" and
// "recovery".
const (
	// TypeRequest stands before an effect: it is durable before the request
	// changes anything.
	TypeRequest Type = "request"
	// TypeResponse stands before the answer of a request that has a TypeRequest.
	TypeResponse Type = "response"
	// TypeAccess is request and response in one, for a read: it has no effect
	// before its answer, so one record before the answer says everything.
	TypeAccess Type = "access"
)

const (
	typeHeader   Type = "header"
	typeCut      Type = "cut"
	typeRecovery Type = "recovery"
)

// Outcome is how a request ended. It is empty in a [TypeRequest] record.
type Outcome string

// The outcomes.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeDenied  Outcome = "denied"  // refused by policy or authentication
	OutcomeFailed  Outcome = "failed"  // certainly without effect
	OutcomeUnknown Outcome = "unknown" // the effect may or may not have happened
)

// Entry is what core knows about a request at one point of it. Append reads it and
// keeps no part of it; the caller may reuse it afterwards. Empty fields are left
// out of the record. Strings are bounded (see the limits in encode.go); what is
// longer ends in "…(+N bytes)".
type Entry struct {
	Type      Type
	RequestID string
	Auth      Auth

	Operation string
	Path      string
	Mount     string
	MountType string
	Remote    string // the address of the client
	// Reason is why, in the client's words. At most 512 bytes of it are kept.
	Reason      string
	Consistency string
	Index       uint64 // the ledger index that the request was decided or answered at

	Rule    Rule
	Outcome Outcome
	Error   Failure
	Wrap    Wrap

	Request  Data
	Response Data
}

// Auth is who asks. The accessor is given in clear and recorded as a keyed hash.
type Auth struct {
	Accessor    string
	DisplayName string
	Policies    []string
	TokenType   string
	Entity      string
}

// Rule is what decided. The zero Rule means that nothing was decided (a login, a
// malformed request) and is not recorded; None means that no rule matched.
type Rule struct {
	Policy  string
	Pattern string
	None    bool
}

// MarshalJSON writes "none" or the policy and the pattern.
func (r Rule) MarshalJSON() ([]byte, error) { return appendRule(nil, r), nil }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Rule) UnmarshalJSON(b []byte) error {
	if string(b) == `"none"` {
		*r = Rule{None: true}
		return nil
	}
	var named struct{ Policy, Pattern string }
	if err := json.Unmarshal(b, &named); err != nil {
		return fmt.Errorf("reading the rule of an audit record: %w", err)
	}
	*r = Rule{Policy: named.Policy, Pattern: named.Pattern}
	return nil
}

// Failure is why a request did not end well: a class that programs read and a
// text that people read. The text is an error of Conclave's, which by house rule
// holds nothing secret; never the message of an outside system.
type Failure struct {
	Class string `json:"class,omitempty"`
	Text  string `json:"text,omitempty"`
}

// Wrap describes a wrapped response. The accessor is recorded as a keyed hash.
type Wrap struct {
	TTL          time.Duration // recorded in whole seconds
	Accessor     string
	CreationPath string
}

// Data is what a request carried or a response returned, as JSON or as fields or
// both, or as a protobuf message. Names are recorded in clear, every string, number
// and boolean as a keyed hash of its decoded text. What is nested too deep, too long
// or malformed is recorded as one hash of its bytes.
type Data struct {
	JSON   []byte
	Fields []Field
	// Message stands alone. Its texts and bytes are hashed; its numbers, booleans,
	// enumerations and times are in clear, for a schema has them where no secret is.
	Message proto.Message
	// Omit names fields of the message at its top level that are left out: what the
	// record says elsewhere.
	Omit []string
	// Clear names the fields at the top level whose value is recorded as it is,
	// whole: the mount's exempt keys.
	Clear []string
}

// Field is one named value of a caller who has no JSON.
type Field struct {
	Name  string
	Value []byte
}

func (d *Data) empty() bool { return len(d.JSON) == 0 && len(d.Fields) == 0 && d.Message == nil }

// Record is an entry read back. Values are hashes, as they stand in the file.
type Record struct {
	Seq         uint64          `json:"seq"`
	Type        Type            `json:"type"`
	Time        time.Time       `json:"time"`
	Node        string          `json:"node"`
	RequestID   string          `json:"request_id"`
	Auth        RecordAuth      `json:"auth"`
	Operation   string          `json:"operation"`
	Path        string          `json:"path"`
	Mount       string          `json:"mount"`
	MountType   string          `json:"mount_type"`
	Remote      string          `json:"remote"`
	Reason      string          `json:"reason"`
	Consistency string          `json:"consistency"`
	Index       uint64          `json:"index"`
	Rule        Rule            `json:"rule"`
	Outcome     Outcome         `json:"outcome"`
	Error       Failure         `json:"error"`
	Wrap        RecordWrap      `json:"wrap"`
	Request     json.RawMessage `json:"request"`
	Response    json.RawMessage `json:"response"`

	// Line is the record's exact bytes, without the line's end. The receiver owns it.
	Line []byte `json:"-"`
	// File is where it was read.
	File string `json:"-"`
}

// RecordAuth is Auth as recorded: the accessor is "hmac-sha256:HEX".
type RecordAuth struct {
	Accessor    string   `json:"accessor"`
	DisplayName string   `json:"display_name"`
	Policies    []string `json:"policies"`
	TokenType   string   `json:"token_type"`
	Entity      string   `json:"entity"`
}

// RecordWrap is Wrap as recorded: the accessor is "hmac-sha256:HEX", the TTL in seconds.
type RecordWrap struct {
	TTL          int64  `json:"ttl"`
	Accessor     string `json:"accessor"`
	CreationPath string `json:"creation_path"`
}
