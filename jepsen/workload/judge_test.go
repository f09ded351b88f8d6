package workload

import (
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

const (
	done    = history.Done
	unsaid  = history.Unknown
	refusal = history.Refused
)

// The judges see what is wrong with lists, gates and terms, and nothing else.
func TestJudge(t *testing.T) {
	list := listPath(0, 0)
	appended := func(value string, number uint64) *history.Op {
		return &history.Op{Kind: history.Put, Key: list, Value: value, Number: number, Outcome: done}
	}
	read := func(value string, number uint64) *history.Op {
		return &history.Op{Kind: history.Get, Key: list, Read: value, Number: number, Outcome: done}
	}
	policy := func(value string, index uint64, outcome history.Outcome) *history.Op {
		return &history.Op{Kind: model.SetPolicy, Key: "g", Value: value, Index: index, Outcome: outcome}
	}
	write := func(index uint64) *history.Op {
		return &history.Op{Kind: model.UsePolicy, Key: "g", Value: writing, Index: index, Outcome: done}
	}
	grant := func(index uint64, expires int64) *history.Op {
		return &history.Op{Kind: history.Grant, Index: index, TTL: 10 * time.Second, Expires: time.Unix(expires, 0), Outcome: done}
	}
	for _, c := range []struct {
		name  string
		ops   []*history.Op
		found int
	}{
		{"a list grows", []*history.Op{appended("a", 1), read("a", 1), appended("a; b", 2), read("a; b", 2)}, 0},
		{"a list lost its first", []*history.Op{appended("a", 1), appended("b", 2)}, 1},
		{"a list of other elements", []*history.Op{read("a", 1), appended("ab", 2)}, 1},
		{"an append carried out twice", []*history.Op{appended("a", 1), read("a; a", 2)}, 1},
		{"an append that was refused", []*history.Op{appended("a", 1), {Kind: history.Put, Key: list, Value: "b", Outcome: refusal}, read("a", 1)}, 0},
		{"any other secret", []*history.Op{{Kind: history.Put, Key: secretPath(0, 0), Value: "a", Number: 1, Outcome: done}, {Kind: history.Put, Key: secretPath(0, 0), Value: "b", Number: 2, Outcome: done}}, 0},

		{"a gate that opens", []*history.Op{write(1), policy(model.Deny, 2, done), policy(model.Allow, 3, done), write(4)}, 0},
		{"written after it was denied", []*history.Op{policy(model.Deny, 2, done), write(4)}, 1},
		{"read after it was denied is the model's", []*history.Op{policy(model.Deny, 2, done), {Kind: model.UsePolicy, Key: "g", Outcome: done, Index: 4}}, 0},
		{"written before it was denied", []*history.Op{policy(model.Deny, 4, done), write(4), write(3)}, 0},
		{"two changes in one entry", []*history.Op{policy(model.Allow, 2, done), policy(model.Deny, 2, done), write(3)}, 0},
		{"perhaps allowed again", []*history.Op{policy(model.Deny, 2, done), policy(model.Allow, 0, unsaid), write(4)}, 0},
		{"another policy", []*history.Op{{Kind: model.SetPolicy, Key: "h", Value: model.Deny, Index: 1, Outcome: done}, write(4)}, 0},

		{"a lease of its time", []*history.Op{grant(100, 110), grant(100, 112)}, 0},
		{"too short", []*history.Op{grant(100, 109)}, 1},
		{"too long", []*history.Op{grant(100, 113)}, 1},
		{"of an index that nobody applied", []*history.Op{grant(0, 10)}, 1},
	} {
		at := func(o *history.Op) (least, most time.Time, applied bool) {
			return time.Unix(int64(o.Index), 0), time.Unix(int64(o.Index)+2, 0), o.Index > 0
		}
		if found := Judge(c.ops, at); len(found) != c.found {
			t.Errorf("%s: %d findings, want %d: %v", c.name, len(found), c.found, found)
		}
	}
}

// Money that a read shows is all there, and moved by exactly the transfers up to the
// read's index.
func TestBanksAreJudged(t *testing.T) {
	move := func(index uint64, outcome history.Outcome) *history.Op {
		return &history.Op{Kind: history.Transfer, Key: "bank-0", Value: model.Order{From: 0, To: 1, Amount: 4}.String(), Outcome: outcome, Index: index}
	}
	read := func(index uint64, text string) *history.Op {
		return &history.Op{Kind: history.Balances, Key: "bank-0", Read: text, Outcome: history.Done, Index: index}
	}
	for _, c := range []struct {
		name  string
		ops   []*history.Op
		found bool
	}{
		{"before and after", []*history.Op{read(1, "10 10 10 10"), move(2, history.Done), read(2, "6 14 10 10")}, false},
		{"half a transfer", []*history.Op{move(2, history.Done), read(2, "6 10 10 10")}, true},
		{"more than there is", []*history.Op{read(2, "-4 24 10 10")}, true},
		{"not what it says", []*history.Op{read(2, "ten 10 10 10")}, true},
		{"older than its index", []*history.Op{move(2, history.Done), read(3, "10 10 10 10")}, true},
		{"newer than its index", []*history.Op{move(5, history.Done), read(3, "6 14 10 10")}, true},
		{"nobody knows", []*history.Op{move(0, history.Unknown), read(3, "6 14 10 10")}, false},
	} {
		if found := judgeBanks(c.ops); (len(found) > 0) != c.found {
			t.Errorf("%s: %q", c.name, found)
		}
	}
}
