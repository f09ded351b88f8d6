package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Run is one history with all that is needed to judge it again: what was run,
// what was done to it, and what the clients saw.
type Run struct {
	Header
	Ops    []*Op
	Faults []Fault
	// Times are the log times of entries by index, in nanoseconds since 1970, as far as
	// a witness of the replicas saw them; empty for real processes.
	Times []int64
}

// A Header says what was run.
type Header struct {
	Format  int           `json:"format"` // FormatVersion
	Kind    string        `json:"kind"`   // "sim" or "real"
	Seed    uint64        `json:"seed"`
	Nodes   int           `json:"nodes"`
	Clients int           `json:"clients"`
	Length  time.Duration `json:"length"` // asked for; virtual in a simulation
	Commit  string        `json:"commit"`
	Machine string        `json:"machine"`
	Started time.Time     `json:"started"`
	Replay  string        `json:"replay"` // the command that runs it again
	// Options are those of the run, as its kind has them.
	Options  json.RawMessage `json:"options,omitempty"`
	Violated []string        `json:"violated"`        // what was found while it ran
	Invalid  []string        `json:"invalid"`         // why it proves nothing
	Notes    []string        `json:"notes,omitempty"` // what else a reader should know
	// Disks says what the nodes' disks were, where they were not the machine's own: "fuse"
	// for a file system of ours, which costs time.
	Disks string `json:"disks,omitempty"`
	// Batch is the folder of the batch of simulated seeds that counts this one, too.
	Batch string `json:"batch,omitempty"`
	// Gaps are the longest times between two acknowledged writes, one for each leader that died.
	Gaps []time.Duration `json:"gaps,omitempty"`
}

// FormatVersion is the version of the files that Write makes.
const FormatVersion = 1

// ErrFormat: what was read is no history that this program knows.
var ErrFormat = errors.New("not a history of this format")

// A line of a file is one of these. Files are JSON Lines: a header, then the ops in
// the order of their return, the faults and the log times.
type line struct {
	Run   *Header    `json:"run,omitempty"`
	Op    *Op        `json:"op,omitempty"`
	Fault *Fault     `json:"fault,omitempty"`
	Times *timesLine `json:"times,omitempty"`
	End   *endLine   `json:"end,omitempty"`
}

// timesLine are the log times from index First on.
type timesLine struct {
	First int     `json:"first"`
	Times []int64 `json:"times"`
}

// endLine tells a whole file from one that was cut off.
type endLine struct {
	Ops    int `json:"ops"`
	Faults int `json:"faults"`
	Times  int `json:"times"`
}

const timesPerLine = 1000

// Write writes r as JSON Lines.
func Write(w io.Writer, r *Run) error {
	out := bufio.NewWriter(w)
	e := json.NewEncoder(out)
	h := r.Header
	h.Format = FormatVersion
	lines := []line{{Run: &h}}
	for _, o := range r.Ops {
		lines = append(lines, line{Op: o})
	}
	for i := range r.Faults {
		lines = append(lines, line{Fault: &r.Faults[i]})
	}
	for first := 0; first < len(r.Times); first += timesPerLine {
		lines = append(lines, line{Times: &timesLine{first, r.Times[first:min(len(r.Times), first+timesPerLine)]}})
	}
	lines = append(lines, line{End: &endLine{len(r.Ops), len(r.Faults), len(r.Times)}})
	for _, l := range lines {
		if err := e.Encode(l); err != nil {
			return fmt.Errorf("writing history: %w", err)
		}
	}
	return out.Flush()
}

// maxLine bounds one line of a file, in bytes.
const maxLine = 16 << 20

// Read reads what Write wrote. A file that is damaged, cut off, or of another format
// is an error that names the line, and wraps ErrFormat.
func Read(r io.Reader) (*Run, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	run, number, ended := &Run{}, 0, false
	for lines.Scan() {
		number++
		if ended {
			return nil, fmt.Errorf("reading history: line %d comes after the end: %w", number, ErrFormat)
		}
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("reading history: line %d: %w: %w", number, ErrFormat, err)
		}
		if err := run.take(&l, number); err != nil {
			return nil, fmt.Errorf("reading history: line %d: %w", number, err)
		}
		ended = l.End != nil
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading history: after line %d: %w", number, err)
	}
	if !ended {
		return nil, fmt.Errorf("reading history: it is cut off after line %d: %w", number, ErrFormat)
	}
	return run, nil
}

// take adds a line to what was read.
func (r *Run) take(l *line, number int) error {
	if (number == 1) != (l.Run != nil) {
		return fmt.Errorf("a history begins with its one header: %w", ErrFormat)
	}
	switch {
	case l.Run != nil && l.Run.Format != FormatVersion:
		return fmt.Errorf("format %d, this program reads %d: %w", l.Run.Format, FormatVersion, ErrFormat)
	case l.Run != nil:
		r.Header = *l.Run
	case l.Op != nil:
		r.Ops = append(r.Ops, l.Op)
	case l.Fault != nil:
		r.Faults = append(r.Faults, *l.Fault)
	case l.Times != nil && l.Times.First == len(r.Times):
		r.Times = append(r.Times, l.Times.Times...)
	case l.End != nil && l.End.Ops == len(r.Ops) && l.End.Faults == len(r.Faults) && l.End.Times == len(r.Times):
	default:
		return fmt.Errorf("it says nothing, or something is missing before it: %w", ErrFormat)
	}
	return nil
}

// TimeAt is the log time of the entry at index; ok is false where no witness saw it.
func (r *Run) TimeAt(index uint64) (at time.Time, ok bool) {
	if index >= uint64(len(r.Times)) {
		return time.Time{}, false
	}
	return time.Unix(0, r.Times[index]).UTC(), true
}
