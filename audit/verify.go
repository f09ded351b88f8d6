package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// VerifyOptions say what to verify against what.
type VerifyOptions struct {
	FS FS // nil: Disk
	// Files are those of one node's log, in any order; see Files.
	Files []string
	// Anchors are heads of this log that are known to have existed, in any order.
	// Without any, a log that was cut at its end, or written anew from some record on,
	// is as good as another.
	Anchors []Head
	// Live tolerates a last line without end: someone is writing.
	Live bool
	// Whole demands every file that the log keeps, by its own account.
	Whole bool
}

// Report is what Verify found.
type Report struct {
	Files   int    `json:"files"`
	Records uint64 `json:"records"` // intact and in their place, or at one that follows a fault
	Bytes   int64  `json:"bytes"`
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	First   uint64 `json:"first"` // the record that the files begin with
	Last    Head   `json:"last"`
	// Oldest is the oldest record that the log kept when its last file began.
	Oldest uint64 `json:"oldest"`
	// Anchored is how many anchors matched a record, and Before how many are of records
	// before First, about which these files say nothing.
	Anchored int `json:"anchored"`
	Before   int `json:"before"`

	// Cuts and Recoveries are what the node wrote of crashes and failing disks: no
	// faults, as long as the anchors agree.
	Cuts       []Cut      `json:"cuts,omitempty"`
	Recoveries []Recovery `json:"recoveries,omitempty"`

	// Faults are in the order of the log, the first one first, at most maxFaults of
	// FaultCount. Those after the first may be its consequences.
	Faults     []*Fault `json:"faults,omitempty"`
	FaultCount int      `json:"fault_count"`
}

// maxFaults bounds a report on a file that is no log at all.
const maxFaults = 100

// Verify reads files once, in constant memory, and checks every record against its
// hash, the chain and the anchors. It needs no key and no cluster.
//
// The error is nil if nothing is wrong, the first *Fault if the log is not as it was
// written, and another error if it could not be read to its end.
func Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	v := &verifier{fs: orDisk(o.FS), live: o.Live, anchors: slices.Clone(o.Anchors)}
	slices.SortStableFunc(v.anchors, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	files := order(v.fs, o.Files)
	for i, name := range files {
		if err := v.read(ctx, name, i == len(files)-1); err != nil {
			return v.report, err
		}
	}
	v.finish(o.Whole)
	if len(v.report.Faults) > 0 {
		return v.report, v.report.Faults[0]
	}
	return v.report, nil
}

type verifier struct {
	fs      FS
	live    bool
	anchors []Head // those not reached yet, by number
	report  Report

	file   string
	last   bool // it is the last one
	at     textLine
	expect uint64 // the record that belongs here; 0 if nothing says which
	prev   Hash   // of the record before, if linked
	linked bool
	astray bool // the line before was no record: which one belongs here is a guess
}

func (v *verifier) read(ctx context.Context, name string, last bool) error {
	v.file, v.last, v.at = name, last, textLine{}
	b, err := look(v.fs, name)
	if err != nil {
		return err
	}
	if v.report.Files == 0 {
		v.expect = b.start
	}
	v.report.Files++
	f, err := v.fs.Open(name, ModeRead)
	if err != nil {
		return fmt.Errorf("opening audit file: %w", err)
	}
	defer f.Close()
	lines := newLineReader(f, 0, b.size)
	for {
		if v.report.Records%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("verifying audit log: %w", context.Cause(ctx))
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading audit file %s: %w", name, err)
		}
		v.at = line
		v.line()
	}
	if v.at.n == 0 {
		v.at.n = 1
		v.fault(FaultHeader, v.expect, "the file is empty")
	}
	v.report.Bytes += lines.off
	return nil
}

func (v *verifier) fault(kind FaultKind, seq uint64, format string, args ...any) {
	v.report.FaultCount++
	if len(v.report.Faults) < maxFaults {
		v.report.Faults = append(v.report.Faults, &Fault{
			Kind: kind, File: v.file, Line: v.at.n, Offset: v.at.off, Seq: seq, Detail: fmt.Sprintf(format, args...),
		})
	}
}

// line judges one line.
func (v *verifier) line() {
	l, err := parse(v.at.text)
	switch {
	case !v.at.ending:
		if !v.live || !v.last {
			v.fault(FaultTorn, v.expect, "the last line has no end")
		}
		return
	case v.at.long || err != nil:
		v.fault(FaultUnreadable, v.expect, "the line is not a record")
		v.stray()
	case !l.intact:
		v.fault(FaultEdited, cmp.Or(v.expect, l.head.Seq), "its bytes do not have its hash")
		v.stray()
	default:
		v.record(&l)
	}
}

// stray moves on behind a line that cannot be trusted.
func (v *verifier) stray() {
	v.astray, v.linked = true, false
	if v.expect > 0 {
		v.expect++
	}
}

// record judges an intact record's place, and takes it as the new place in any case.
func (v *verifier) record(l *link) {
	broken := false
	if v.at.n == 1 || l.is(typeHeader) {
		broken = v.header(l)
	}
	seq := l.head.Seq
	switch {
	case broken:
	case v.expect > 0 && seq != v.expect && !v.astray:
		v.fault(FaultPlace, v.expect, "record %d stands there", seq)
	case v.linked && seq == v.expect && l.prev != v.prev, seq == 1 && l.prev != Hash{}:
		v.fault(FaultUnlinked, seq, "it follows a record of hash %v", l.prev)
	}
	v.anchor(l.head)
	v.account(l)
	v.expect, v.prev, v.linked, v.astray = seq+1, l.head.Hash, true, false
	v.report.Last = l.head
}

// header judges a record that is, or should be, the first of its file. A break gives
// up the place in the chain.
func (v *verifier) header(l *link) (broken bool) {
	h, err := l.header()
	switch {
	case err != nil:
		missing := v.expect
		if v.report.Files == 1 { // only the lines themselves say where the log begins
			missing = min(missing, max(l.head.Seq, 2)-1)
		}
		v.fault(FaultHeader, missing, "the file begins with record %d", l.head.Seq)
		return true
	case v.at.n > 1:
		v.fault(FaultHeader, v.expect, "a header stands within the file")
	case h.Format != Format:
		v.fault(FaultFormat, l.head.Seq, "format %d", h.Format)
	}
	switch {
	case v.report.Node == "":
		v.report.Node, v.report.Cluster = h.Node, h.Cluster
	case v.report.Node != h.Node || v.report.Cluster != h.Cluster:
		v.fault(FaultForeign, l.head.Seq, "it is of node %q, cluster %q", h.Node, h.Cluster)
	}
	v.report.Oldest = h.Oldest
	if h.Break != nil {
		v.fault(FaultBreak, l.head.Seq, "the node found %q: %q", h.Break.File, h.Break.Why)
		return true
	}
	return false
}

// anchor compares a record with the anchors that name it.
func (v *verifier) anchor(head Head) {
	if v.report.First == 0 {
		v.report.First = head.Seq
	}
	for len(v.anchors) > 0 && v.anchors[0].Seq <= head.Seq {
		a := v.anchors[0]
		v.anchors = v.anchors[1:]
		switch {
		case a == head:
			v.report.Anchored++
		case a.Seq == head.Seq:
			v.fault(FaultAnchor, head.Seq, "hash %v was anchored", a.Hash)
		case a.Seq < v.report.First:
			v.report.Before++
		default:
			// It lies in a gap, which has its own fault.
		}
	}
}

func (v *verifier) account(l *link) {
	v.report.Records++
	switch {
	case l.is(typeCut):
		cut := Cut{}
		if decodeBody(l.body, &cut) == nil && len(v.report.Cuts) < maxFaults {
			cut.Seq = l.head.Seq
			v.report.Cuts = append(v.report.Cuts, cut)
		}
	case l.is(typeRecovery):
		recovery := Recovery{}
		if decodeBody(l.body, &recovery) == nil && len(v.report.Recoveries) < maxFaults {
			recovery.Seq = l.head.Seq
			v.report.Recoveries = append(v.report.Recoveries, recovery)
		}
	}
}

func (v *verifier) finish(whole bool) {
	if n := len(v.anchors); n > 0 {
		v.at.n++
		v.at.off = v.report.Bytes
		v.fault(FaultTruncated, max(v.expect, 1), "the log ends before record %d, which was anchored", v.anchors[n-1].Seq)
	}
	if r := &v.report; whole && r.Oldest > 0 && r.First > r.Oldest {
		r.FaultCount++
		first := &Fault{Kind: FaultStart, File: v.file, Seq: r.Oldest, Detail: fmt.Sprintf("the log keeps records from %d on, and begins with %d", r.Oldest, r.First)}
		r.Faults = slices.Insert(r.Faults, 0, first)
	}
}
