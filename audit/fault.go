package audit

import "fmt"

// FaultKind says what is wrong with a place in a log.
type FaultKind string

// The faults.
const (
	FaultUnreadable FaultKind = "unreadable"   // a line that is not a record
	FaultEdited     FaultKind = "edited"       // a record whose bytes do not have its hash
	FaultPlace      FaultKind = "out of place" // another record stands there: some were removed, inserted or moved
	FaultUnlinked   FaultKind = "unlinked"     // a record that follows another one than the one before it
	FaultTorn       FaultKind = "torn"         // a file's last line has no end
	FaultHeader     FaultKind = "no header"    // a file does not begin with a header
	FaultFormat     FaultKind = "format"       // a header names a format that this program does not know
	FaultForeign    FaultKind = "foreign"      // a header names another node or cluster than the first
	FaultBreak      FaultKind = "break"        // the node itself found its log damaged here, and went on
	FaultAnchor     FaultKind = "anchor"       // a record has not the hash that was anchored
	FaultTruncated  FaultKind = "truncated"    // the log ends before an anchored record
	FaultStart      FaultKind = "start"        // the log begins after the oldest record that it should still have
)

// Fault is a place in a log that is not as it was written. It is an error whose text
// names places and hashes, and nothing of what the record says.
type Fault struct {
	Kind FaultKind `json:"kind"`
	File string    `json:"file"`
	// Line is the line in the file, from 1; 0 if it was read from the end.
	Line   int   `json:"line,omitempty"`
	Offset int64 `json:"offset"` // of the line, in bytes
	// Seq is the number of the record that belongs there, or 0 if nothing says which.
	Seq    uint64 `json:"seq,omitempty"`
	Detail string `json:"detail"`
}

// Error returns one line for a person.
func (f *Fault) Error() string {
	at := fmt.Sprintf("byte %d", f.Offset)
	if f.Line > 0 {
		at = fmt.Sprintf("line %d", f.Line)
	}
	if f.Seq > 0 {
		at += fmt.Sprintf(", record %d", f.Seq)
	}
	return fmt.Sprintf("audit log: %s, %s: %s: %s", f.File, at, f.Kind, f.Detail)
}
