package fsm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// The stories in testdata/*.txt tell what the machine promises. Rewrite them
// with -rewrite; a changed line is a claim to defend. Commands:
//
//	batch [session=N] [sequence=N] [answered=N]   an entry of one batch; its lines are
//	                                              guards ("guard KIND KEY …") and operations
//	entry                                         an entry of several, "--" between them
//	again                                         the last batch once more
//	bytes                                         an entry given in hex
//	clock D                                       the leader's clock moves by D
//	show TABLE…, restart, move                    look; restart from disk; go on from a snapshot
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{disk: newDisk(t), t: t, now: LogTime(time.Hour), next: map[SessionID]uint64{}}
		s.entry(&Batch{Session: SessionID{1}, Operations: []Operation{{Kind: OpOpenSession}}})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.step(d) })
	})
}

type story struct {
	disk  *disk
	t     *testing.T
	index uint64
	now   LogTime
	next  map[SessionID]uint64
	last  *Batch
}

func (s *story) step(d *datadriven.TestData) string {
	s.t.Helper()
	switch d.Cmd {
	case "batch":
		return s.entry(s.batch(d.CmdArgs, d.Input))
	case "entry":
		var batches []*Batch
		for _, text := range strings.Split(d.Input, "--\n") {
			batches = append(batches, s.batch(nil, text))
		}
		return s.entry(batches...)
	case "again":
		return s.entry(s.last)
	case "bytes":
		p, err := hex.DecodeString(strings.ReplaceAll(d.Input, " ", ""))
		if err != nil {
			s.t.Fatal(err)
		}
		return s.apply(p)
	case "clock":
		s.now = s.now.Add(duration(s.t, d.CmdArgs[0].Key))
		return "now " + s.at(s.now)
	case "restart":
		s.disk.restart()
		return "ok"
	case "move":
		s.disk = s.disk.move()
		return "ok"
	case "show":
		var b strings.Builder
		for _, a := range d.CmdArgs {
			s.show(&b, a.Key)
		}
		return b.String()
	}
	s.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func (s *story) batch(args []datadriven.CmdArg, text string) *Batch {
	b := &Batch{Session: SessionID{1}}
	for _, a := range args {
		n := integer(s.t, a.Vals[0])
		switch a.Key {
		case "session":
			b.Session = SessionID{byte(n)}
		case "sequence":
			b.Sequence = n
		case "answered":
			b.Answered = n
		}
	}
	if b.Sequence == 0 {
		s.next[b.Session]++
		b.Sequence = s.next[b.Session]
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		s.line(b, line)
	}
	s.last = b
	return b
}

var storyGuards = map[string]GuardKind{"record": GuardRecord, "range": GuardRange, "space": GuardSpaceUnchanged,
	"head": GuardHead, "lease": GuardLease, "no-lease": GuardLeaseAbsent, "before": GuardBefore, "tally": GuardTally, "99": 99}

var storyOperations = map[string]OperationKind{"put": OpPutRecord, "delete": OpDeleteRecord, "append": OpAppendVersion,
	"delete-versions": OpDeleteVersions, "undelete": OpUndeleteVersions, "destroy": OpDestroyVersions, "purge": OpPurgeSecret,
	"limits": OpSetLimits, "grant": OpGrantLease, "renew": OpRenewLease, "confirm": OpConfirmLease, "revoke": OpRevokeLease,
	"end": OpEndLease, "revoke-group": OpRevokeGroup, "revoke-prefix": OpRevokePrefix, "release": OpReleaseLease, "purge-prefix": OpPurgePrefix,
	"expire": OpExpireLeases,
	"open":   OpOpenSession, "close": OpCloseSession, "level": OpSetFeatureLevel, "99": 99}

// line adds one guard or operation: a kind, a key, and fields as name=value.
func (s *story) line(b *Batch, line string) {
	words := strings.Fields(line)
	guard := words[0] == "guard"
	if guard {
		words = words[1:]
	}
	op := Operation{Kind: storyOperations[words[0]]}
	if op.Kind == OpGrantLease {
		op.State = LeaseActive
	}
	times := 1
	var revision uint64
	for _, w := range words[1:] {
		name, value, ok := strings.Cut(w, "=")
		switch {
		case !ok && w == "external":
			op.Effect = []byte("db")
		case !ok:
			op.Key = []byte(w)
		default:
			s.field(&op, name, value, &revision, &times)
		}
	}
	if guard {
		b.Guards = append(b.Guards, Guard{Kind: storyGuards[words[0]], Key: op.Key, Revision: revision, Number: op.Number, State: op.State})
		return
	}
	if _, known := storyOperations[words[0]]; !known {
		s.t.Fatalf("unknown operation %q", words[0])
	}
	for i := range times {
		one := op
		if times > 1 {
			one.Key = fmt.Appendf(nil, "%s.%03d", op.Key, i)
		}
		b.Operations = append(b.Operations, one)
	}
}

func (s *story) field(op *Operation, name, value string, revision *uint64, times *int) {
	switch name {
	case "number":
		op.Number = integer(s.t, value)
	case "numbers":
		for _, n := range strings.Split(value, ",") {
			op.Numbers = append(op.Numbers, integer(s.t, n))
		}
	case "value":
		op.Value = []byte(value)
	case "lease", "owner":
		op.Lease = []byte(value)
	case "ttl":
		op.TTL = duration(s.t, value)
	case "max":
		op.MaxTTL = duration(s.t, value)
	case "group":
		op.Groups = append(op.Groups, []byte(value))
	case "effect":
		op.Effect = []byte(value)
	case "tally":
		op.Tally = []byte(value)
	case "revision":
		*revision = integer(s.t, value)
	case "times":
		*times = int(integer(s.t, value))
	case "state":
		op.State = map[string]LeaseState{"pending": LeasePending, "active": LeaseActive, "revoking": LeaseRevoking}[value]
	default:
		s.t.Fatalf("unknown field %q", name)
	}
}

func (s *story) entry(batches ...*Batch) string {
	s.t.Helper()
	e := &Entry{Time: s.now}
	for _, b := range batches {
		e.Batches = append(e.Batches, EncodeBatch(b))
	}
	return s.apply(EncodeEntry(e))
}

func (s *story) apply(data []byte) string {
	s.t.Helper()
	s.index++
	results, err := s.disk.machine.Apply([]LogEntry{{Index: s.index, Term: 1, Data: data}})
	var halt *HaltError
	switch {
	case errors.As(err, &halt):
		return err.Error() + "\n"
	case err != nil:
		s.t.Fatal(err)
	}
	s.disk.verify("after entry %d", s.index)
	audit(s.t, s.disk.store)
	var out strings.Builder
	for _, r := range results[0] {
		switch r.Code {
		case Applied:
			fmt.Fprintf(&out, "applied at %d\n", r.Index)
		case Conflict:
			fmt.Fprintf(&out, "conflict at %d: guard %d\n", r.Index, r.Guard)
		case Refused:
			fmt.Fprintf(&out, "refused at %d: %v\n", r.Index, r.Reason)
		case SessionUnknown:
			fmt.Fprintln(&out, "session unknown")
		case Forgotten:
			fmt.Fprintln(&out, "forgotten")
		}
	}
	return out.String()
}

// at prints a time as what has passed since the story began.
func (s *story) at(t LogTime) string {
	if t == 0 {
		return "never"
	}
	return time.Duration(t - LogTime(time.Hour)).String()
}

func (s *story) show(b *strings.Builder, what string) {
	s.t.Helper()
	v, err := s.disk.machine.View()
	if err != nil {
		s.t.Fatal(err)
	}
	tables := map[string]Table{"records": Records, "secrets": Secrets, "leases": Leases}
	if table, ok := tables[what]; ok {
		s.showTable(b, v, table)
	} else {
		s.showWhole(b, v, what)
	}
	if err := v.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *story) showTable(b *strings.Builder, v *View, table Table) {
	keys, err := v.Keys(table, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	count := 0
	for keys.Next() {
		count++
		if count <= 8 {
			s.showRow(b, v, table, keys.Key())
		}
	}
	switch {
	case count == 0:
		b.WriteString("none\n")
	case count > 8:
		fmt.Fprintf(b, "… %d in all\n", count)
	}
	if err := keys.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) showRow(b *strings.Builder, v *View, table Table, k Key) {
	switch table {
	case Records:
		r, err := v.Record(k)
		if err != nil {
			s.t.Fatal(err)
		}
		if r == nil {
			fmt.Fprintf(b, "%s: not visible\n", k)
			return
		}
		fmt.Fprintf(b, "%s = %q at %d%s\n", k, r.Value, r.Revision, named(" of ", r.Lease))
	case Secrets:
		h, err := v.Head(k)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(b, "%s: current %d, oldest %d, keep %d, at %d\n", k, h.Current, h.Oldest, h.Keep, h.Revision)
		for n := uint64(1); n <= h.Current; n++ {
			x, err := v.Version(k, n)
			if err != nil {
				s.t.Fatal(err)
			}
			if x != nil {
				fmt.Fprintf(b, "  %d = %q at %d, deleted %v (%s), destroyed %v\n", n, x.Value, x.Revision,
					x.Deleted(v.Time()), s.at(x.DeletedAt), x.Destroyed)
			}
		}
	case Leases:
		l, usable, err := v.Lease(k)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(b, "%s: %v, usable %v, generation %d, expires %s of %s%s\n", k, l.State, usable, l.Generation,
			s.at(l.Expires), s.at(l.MaxExpires), named(", owner ", l.Owner))
	}
}

func named(prefix string, k Key) string {
	if k == nil {
		return ""
	}
	return prefix + string(k)
}

func (s *story) showWhole(b *strings.Builder, v *View, what string) {
	switch what {
	case "machine":
		next, ok := s.disk.machine.NextExpiry()
		if !ok {
			next = 0
		}
		fmt.Fprintf(b, "time %s, level %d, next expiry %s, unfinished %v\n", s.at(v.Time()), v.FeatureLevel(), s.at(next), s.disk.machine.Unfinished())
	case "effects":
		s.showEffects(b, v)
	case "tallies":
		s.names(v, Tallies, func(k Key) {
			n, err := v.Tally(k)
			if err != nil {
				s.t.Fatal(err)
			}
			fmt.Fprintf(b, "%s: %d alive\n", k, n)
		})
	case "sessions":
		fmt.Fprintf(b, "%d sessions, %d answers in session 1\n", len(s.disk.machine.sessions.byID), s.answers())
	default:
		r, err := v.SpaceRevision(Space(what[0]))
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(b, "space %s at %d\n", what, r)
	}
}

// showEffects prints what waits to be undone, by outside system.
func (s *story) showEffects(b *strings.Builder, v *View) {
	s.names(v, Effects, func(effect Key) {
		n, err := v.Undone(effect)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(b, "%s: %d wait:", effect, n)
		waiting, err := v.Waiting(effect)
		if err != nil {
			s.t.Fatal(err)
		}
		for waiting.Next() {
			fmt.Fprintf(b, " %s", waiting.Key())
		}
		b.WriteString("\n")
		if err := waiting.Close(); err != nil {
			s.t.Fatal(err)
		}
	})
}

// names walks a table.
func (s *story) names(v *View, table Table, each func(Key)) {
	keys, err := v.Keys(table, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for keys.Next() {
		each(keys.Key())
	}
	if err := keys.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) answers() int {
	if c := s.disk.machine.sessions.find(SessionID{1}); c != nil {
		return len(c.answers)
	}
	return 0
}

func integer(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
