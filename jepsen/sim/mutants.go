package sim

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// The checkers are worth something only if they see what is wrong. A Mutant is a fault
// of the kind that programs like this one have had, planted between two rooms.
type Mutant struct {
	Name   string
	Breaks string // the promise that it breaks
	// By is what the finding must say, so that the checker meant for it is the one
	// that sees it; empty: any.
	By string

	plant func(*Options)
}

// Mutants returns all mutants.
func Mutants() []Mutant {
	var all []Mutant
	for _, group := range [][]Mutant{readMutants, writeMutants, guardMutants, leaseMutants, accessMutants, stateMutants, diskMutants, sealMutants, auditMutants} {
		all = append(all, group...)
	}
	return all
}

// RunMutant runs seeds with a mutant planted, from firstSeed on and at most budget of
// them, until a checker sees it. caught is what it says, "" when none did.
func RunMutant(in bubble.Runner, name string, firstSeed uint64, budget int) (seedsTried int, caught string, err error) {
	for _, m := range Mutants() {
		if m.Name != name {
			continue
		}
		for seedsTried < budget {
			o := Options{Seed: firstSeed + uint64(seedsTried)}
			m.plant(&o)
			r, err := Run(in, o)
			if err != nil {
				return seedsTried, "", fmt.Errorf("mutant %q: %w", name, err)
			}
			seedsTried++
			for _, v := range r.Violations() {
				if strings.Contains(v, m.By) {
					return seedsTried, v, nil
				}
			}
		}
		return seedsTried, "", nil
	}
	return 0, "", fmt.Errorf("no mutant is called %q", name)
}

const (
	notLinear = "is not linearizable"
	wentBack  = "went back in time"
)

var readMutants = []Mutant{
	{"reads without a read index", "reads are linearizable", notLinear, onLedger(func(l core.Ledger) core.Ledger { return localReads{l} })},
	{"reads without a read index, by index", "reads are linearizable", wentBack, onLedger(func(l core.Ledger) core.Ledger { return localReads{l} })},
	{"reads without a quorum on a leader", "reads are linearizable", wentBack, onLedger(func(l core.Ledger) core.Ledger { return leaderReads{l} })},
	{"VerifyLeader as the read index", "reads are linearizable", wentBack, onCounts(votes, false, lateAnswers, "leader cut off")},
	{"non-voters counted", "a read has a quorum of voters", wentBack, onCounts(anybody, true, remoteNewcomers, "leader cut off", "new member")},
	{"reads without waiting for the index", "a read reflects the index that it asked for", "below the index", onLedger(func(l core.Ledger) core.Ledger { return forgetfulWaits{localReads{l}} })},
}

var writeMutants = []Mutant{
	{"unknown reported as done", "what is acknowledged is there", notLinear, onProposals(hopeful)},
	{"unknown reported as not done", "what is denied is not there", "said not to be done", onProposals(gloomy)},
	{"acknowledged before it is committed", "what is acknowledged is there", "", onProposals(hasty)},
	{"acknowledged and dropped", "what is acknowledged is there", "", loseSome()},
	{"a renewal carried out twice", "once and no more", "", onProposals(twice)},
	{"another index than the write has", "answers name their place in the log", "", onProposals(elsewhere)},
	{"half a batch carried out", "a batch is done whole or not at all", "money was made or lost", onBatches(halve)},
	{"receipts lost", "a request sent again is not carried out again", "", without(func(o *fsm.Operation) bool { return o.Kind == fsm.OpPutRecord && inSpace(o.Key, spaceReceipt) })},
	{"destroyed only in word", "destroyed is destroyed", "", without(isKind(fsm.OpDestroyVersions))},
	{"deleted only in word", "deleted is deleted", "", without(isKind(fsm.OpDeleteVersions))},
	{"plaintext in the log", "nothing leaves the seal in clear", "plaintext", outspoken},
}

var guardMutants = []Mutant{
	{"no guards", "a write rests on what it read", "", onBatches(func(b *fsm.Batch) { b.Guards = nil })},
	{"no guards of records", "a write rests on the records it read", "", withoutGuards(fsm.GuardRecord)},
	{"no guards of versions", "a write rests on the version it read", "", withoutGuards(fsm.GuardHead)},
	{"no guards of leases", "a renewal rests on a lease that lives", "", withoutGuards(fsm.GuardLease)},
	{"no guards of spaces", "a write rests on the policies that let it in", "", withoutGuards(fsm.GuardSpaceUnchanged)},
}

var leaseMutants = []Mutant{
	{"leases that end early", "no lease ends before its time", "", onBatches(shorter)},
	{"leases that end late", "no lease outlives its time", "", onBatches(longer)},
	{"renewed only in word", "a renewal moves the end", "", without(isKind(fsm.OpRenewLease))},
	{"revoked only in word", "revoked is revoked", "", without(func(o *fsm.Operation) bool { return o.Kind == fsm.OpRevokeLease && inSpace(o.Key, spaceLease) })},
	{"old generation", "a renewed lease lives on", notLinear, onProposals(oldGeneration)},
	{"log time ahead of the log", "leases end on log time", "", onEntries(fast)},
	{"log time that goes back", "log time only grows", "", onEntries(backward)},
}

var accessMutants = []Mutant{
	{"children that outlive their parent", "a tree of tokens ends together", "make-token", onBatches(orphans)},
	{"tokens revoked only in word", "nothing is allowed after a revocation", "make-token", without(func(o *fsm.Operation) bool { return o.Kind == fsm.OpRevokeLease && inSpace(o.Key, spaceToken) })},
	{"uses that are not counted", "a limited token has as many uses as it was given", "make-limited", onBatches(freeUses)},
	{"an answer unwrapped twice", "a wrapped answer has one reader", "wrapped", without(func(o *fsm.Operation) bool { return o.Kind == fsm.OpRevokeLease && inSpace(o.Key, spaceWrapping) })},
	{"a policy changed only in word", "a policy holds once it is acknowledged", "gate-", without(func(o *fsm.Operation) bool { return o.Kind == fsm.OpPutRecord && inSpace(o.Key, spacePolicy) })},
	{"a token remembered past its revocation", "nothing is allowed after a revocation", "make-token", remembered(model.UseToken)},
	{"a policy remembered past its change", "nothing is allowed after a denial", "gate-", remembered(model.UsePolicy)},
}

var stateMutants = []Mutant{
	{"wall clock in apply", "equal logs give equal states", "", onEntries(ownClock)},
	{"an index without its data", "index and data move together", "another replica", onEntries(skipping)},
	{"index and data in two transactions", "index and data move together", "another replica", torn},
	{"a snapshot of an older state", "a snapshot is the state at its index", "", oldSnapshots},
	{"a snapshot without its end", "a snapshot is the whole state", "", onSnapshots(func(m cluster.Machine) (fsm.Snapshot, error) {
		s, err := m.Snapshot()
		return cutShort{s}, err
	})},
	{"votes that nobody gave", "one leader in a term", "", onTransport(func(t cluster.Transport) cluster.Transport { return generous{t} })},
	{"stored when it was sent", "committed is on a quorum", "", onTransport(func(t cluster.Transport) cluster.Transport { return trusting{t} })},
}

var diskMutants = []Mutant{
	{"an fsync of the log that lies", "stored is stored", "came back without", loseTail},
	{"an fsync of the term that lies", "a term is never gone back on", "lost acknowledged state", loseValue("CurrentTerm")},
	{"an fsync of the vote that lies", "voted is voted", "without its vote", loseValue("LastVote")},
	{"a vote in two writes", "voted is voted", "without its vote", tearVote},
	{"an fsync of the state that lies", "applied and compacted is applied", "", func(o *Options) {
		o.seams.State = func(fs vfs.FS) vfs.FS { return lyingFiles{fs} }
	}},
	{"a repair with a wrong entry", "what is mended is what it was", "", wrongRepair},
}

var sealMutants = []Mutant{
	{"wrong associated data", "a value opens in its own place only", "nobody wrote there", misplaced},
	{"a keyring that is not adopted", "what is sealed under a new key opens everywhere", "although nothing was wrong any more", unadopted},
}

var auditMutants = []Mutant{
	{"an answer before its record", "no answer without a record", "before it was in the audit log", func(o *Options) {
		o.seams.Recorder = func(r core.Recorder) core.Recorder { return lateRecords{r} }
	}},
	{"one record in a hundred left out", "no answer without a record", "before it was in the audit log", func(o *Options) {
		n := &atomic.Int64{}
		o.seams.Recorder = func(r core.Recorder) core.Recorder { return fewerRecords{r, n} }
	}},
}

// remembered lets in for half a second, on the same node, who was let in before.
func remembered(kind history.Kind) func(*Options) {
	return func(o *Options) {
		var mu sync.Mutex
		seen := map[string]time.Time{}
		o.front = func(p *testcluster.Process, o *history.Op, who, root core.Caller, ask func(core.Caller) (*core.Reply, error)) (*core.Reply, error) {
			if o.Kind != kind {
				return ask(who)
			}
			name := fmt.Sprint(p.Life, o.Key, o.Value)
			mu.Lock()
			until := seen[name]
			mu.Unlock()
			if time.Now().Before(until) {
				return ask(root)
			}
			reply, err := ask(who)
			if err == nil || !turnedAway(err) {
				mu.Lock()
				seen[name] = time.Now().Add(500 * time.Millisecond)
				mu.Unlock()
			}
			return reply, err
		}
	}
}

func turnedAway(err error) bool {
	var e *core.Error
	return !errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_NOT_FOUND
}
