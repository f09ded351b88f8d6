package model_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func cas(n uint64) *uint64 { return &n }

// at returns log time s seconds.
func at(s int64) time.Time { return time.Unix(s, 0) }

const (
	done    = history.Done
	refused = history.Refused
	unknown = history.Unknown
	absent  = conclavev1.Reason_REASON_NOT_FOUND
	deleted = conclavev1.Reason_REASON_VERSION_DELETED
	broken  = conclavev1.Reason_REASON_VERSION_DESTROYED
	clash   = conclavev1.Reason_REASON_CAS_MISMATCH
)

func put(value string, n uint64) history.Op {
	return history.Op{Kind: history.Put, Value: value, Outcome: done, Number: n}
}

func got(value string, n uint64) history.Op {
	return history.Op{Kind: history.Get, Outcome: done, Number: n, Read: value}
}

func missed(r conclavev1.Reason) history.Op {
	return history.Op{Kind: history.Get, Outcome: refused, Reason: r}
}

func gotOf(version uint64, r conclavev1.Reason) history.Op {
	return history.Op{Kind: history.Get, Version: version, Outcome: refused, Reason: r}
}

func grant(expires int64) history.Op {
	return history.Op{Kind: history.Grant, Outcome: done, Number: 1, Expires: at(expires), TTL: 10 * time.Second}
}

func renew(generation uint64, expires int64) history.Op {
	return history.Op{Kind: history.Renew, Outcome: done, Number: generation, Expires: at(expires), TTL: 10 * time.Second}
}

func lookup(generation uint64, expires int64) history.Op {
	return history.Op{Kind: history.Lookup, Outcome: done, Number: generation, Expires: at(expires)}
}

func gone(logTime int64) history.Op {
	return history.Op{Kind: history.Lookup, Outcome: refused, Reason: absent, LogTime: at(logTime)}
}

// The models accept what the API promises and refuse everything else: each case
// is a history of requests that follow one another, those of unknown outcome
// aside.
func TestModels(t *testing.T) {
	secrets, leases := model.Secrets(), model.Leases()
	eleven := []history.Op{}
	for n := range uint64(11) {
		eleven = append(eleven, put(string(rune('a'+n)), n+1))
	}
	cases := []struct {
		name string
		m    porcupine.Model
		ops  []history.Op
		want bool
	}{
		{"write and read", secrets, []history.Op{missed(absent), put("a", 1), got("a", 1), put("b", 2), got("b", 2)}, true},
		{"stale read", secrets, []history.Op{put("a", 1), put("b", 2), got("a", 1)}, false},
		{"lost write", secrets, []history.Op{put("a", 1), missed(absent)}, false},
		{"number given twice", secrets, []history.Op{put("a", 1), put("b", 1)}, false},
		{"number left out", secrets, []history.Op{put("a", 1), put("b", 3)}, false},
		{"check-and-set", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(1), Value: "b", Outcome: done, Number: 2}}, true},
		{"check-and-set that should fail", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(0), Value: "b", Outcome: done, Number: 2}}, false},
		{"failed check-and-set tells the version", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(0), Value: "b", Outcome: refused, Reason: clash, Number: 1}}, true},
		{"failed check-and-set tells no version", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(0), Value: "b", Outcome: refused, Reason: clash}}, true},
		{"failed check-and-set that matches tells no version", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(1), Value: "b", Outcome: refused, Reason: clash}}, false},
		{"failed check-and-set tells an old version", secrets, []history.Op{put("a", 1), put("b", 2), {Kind: history.Put, CAS: cas(0), Value: "c", Outcome: refused, Reason: clash, Number: 1}}, false},
		{"check-and-set fails although it matches", secrets, []history.Op{put("a", 1), {Kind: history.Put, CAS: cas(1), Value: "b", Outcome: refused, Reason: clash, Number: 1}}, false},
		{"delete and undelete", secrets, []history.Op{put("a", 1), {Kind: history.Delete, Outcome: done}, missed(deleted), {Kind: history.Undelete, Version: 1, Outcome: done}, got("a", 1)}, true},
		{"deleted and still read", secrets, []history.Op{put("a", 1), {Kind: history.Delete, Outcome: done}, got("a", 1)}, false},
		{"destroyed for good", secrets, []history.Op{put("a", 1), {Kind: history.Destroy, Version: 1, Outcome: done}, {Kind: history.Undelete, Version: 1, Outcome: refused, Reason: broken}, missed(broken)}, true},
		{"destroyed and back", secrets, []history.Op{put("a", 1), {Kind: history.Destroy, Version: 1, Outcome: done}, {Kind: history.Undelete, Version: 1, Outcome: done}}, false},
		{"eleventh version displaces the first", secrets, append(slices.Clip(eleven), gotOf(1, absent)), true},
		{"kept version is gone", secrets, append(slices.Clip(eleven), gotOf(2, absent)), false},
		{"unknown write took effect", secrets, []history.Op{{Kind: history.Put, Value: "a", Outcome: unknown}, got("a", 1)}, true},
		{"unknown write took effect late", secrets, []history.Op{{Kind: history.Put, Value: "a", Outcome: unknown}, missed(absent), got("a", 1)}, true},
		{"unknown write never took effect", secrets, []history.Op{{Kind: history.Put, Value: "a", Outcome: unknown}, put("b", 1), got("b", 1)}, true},
		{"unknown write took effect twice", secrets, []history.Op{{Kind: history.Put, Value: "a", Outcome: unknown}, got("a", 1), put("b", 2), got("a", 3)}, false},

		{"lease lives and expires", leases, []history.Op{grant(10), lookup(1, 10), renew(2, 15), lookup(2, 15), gone(15), gone(16)}, true},
		{"lease ends early", leases, []history.Op{grant(10), gone(9)}, false},
		{"renewed lease ends at the old time", leases, []history.Op{grant(10), renew(2, 19), gone(12)}, false},
		{"lease comes back", leases, []history.Op{grant(10), gone(10), lookup(1, 10)}, false},
		{"renewed after it expired", leases, []history.Op{grant(10), renew(2, 21)}, false},
		{"generation left out", leases, []history.Op{grant(10), renew(3, 15)}, false},
		{"revoked", leases, []history.Op{grant(10), {Kind: history.Revoke, Outcome: done}, gone(1)}, true},
		{"revoked and still there", leases, []history.Op{grant(10), {Kind: history.Revoke, Outcome: done}, lookup(1, 10)}, false},
		{"unknown revocation took effect", leases, []history.Op{grant(10), {Kind: history.Revoke, Outcome: unknown}, lookup(1, 10), gone(2)}, true},
		{"unknown renewal took effect", leases, []history.Op{grant(10), {Kind: history.Renew, Outcome: unknown, TTL: 10 * time.Second}, lookup(2, 17), gone(17)}, true},
		{"unknown renewal was forgotten", leases, []history.Op{grant(10), {Kind: history.Renew, Outcome: unknown, TTL: 10 * time.Second}, lookup(2, 17), gone(12)}, false},
	}
	for _, c := range cases {
		if got := accepts(c.m, c.ops); got != c.want {
			t.Errorf("%s: linearizable is %v, want %v", c.name, got, c.want)
		}
	}
}

// accepts tells whether requests that follow one another may happen, those of unknown
// outcome at any time.
func accepts(m porcupine.Model, history []history.Op) bool {
	var ops []porcupine.Operation
	for i := range history {
		o := &history[i]
		returned := int64(2*i + 1)
		if o.Outcome == unknown {
			returned = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: o, Call: int64(2 * i), Return: returned})
	}
	return porcupine.CheckOperations(m, ops)
}

// Money moves whole, or does not move; what is not there cannot be spent.
func TestBanks(t *testing.T) {
	move := func(amount, from, to int, as history.Outcome) history.Op {
		return history.Op{Kind: history.Transfer, Value: model.Order{From: from, To: to, Amount: amount}.String(), Outcome: as}
	}
	read := func(text string) history.Op { return history.Op{Kind: history.Balances, Read: text, Outcome: done} }
	for _, c := range []struct {
		name string
		ops  []history.Op
		want bool
	}{
		{"moved and read", []history.Op{read("10 10 10 10"), move(4, 0, 1, done), read("6 14 10 10")}, true},
		{"half of it", []history.Op{move(4, 0, 1, done), read("6 10 10 10")}, false},
		{"stale", []history.Op{move(4, 0, 1, done), read("10 10 10 10")}, false},
		{"spent and spent again", []history.Op{move(7, 0, 1, done), move(7, 0, 1, done)}, false},
		{"refused with reason", []history.Op{move(7, 0, 1, done), move(7, 0, 1, refused)}, true},
		{"refused without", []history.Op{move(7, 0, 1, refused)}, false},
		{"unknown, and done", []history.Op{move(7, 0, 1, unknown), read("3 17 10 10")}, true},
		{"unknown, and not done", []history.Op{move(7, 0, 1, unknown), read("10 10 10 10")}, true},
		{"unknown, and done twice", []history.Op{move(5, 0, 1, unknown), read("0 20 10 10")}, false},
		{"unknown, and taken back", []history.Op{move(5, 0, 1, unknown), read("5 15 10 10"), read("10 10 10 10")}, false},
	} {
		if got := accepts(model.Banks(), c.ops); got != c.want {
			t.Errorf("%s: accepted %v, want %v", c.name, got, c.want)
		}
	}
	for _, text := range []string{"", "4 from 0", "4 from 0 to 4", "4 from 1 to 1", "0 from 0 to 1", "-1 from 0 to 1", "x from 0 to 1"} {
		if o, err := model.ParseOrder(text); err == nil {
			t.Errorf("%q is an order: %v", text, o)
		}
	}
}
