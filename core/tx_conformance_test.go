package core

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine/enginetest"
	"github.com/conclave-secrets/conclave/fsm"
)

// The transactions of core keep the contract of engine.Tx: sealed, guarded and
// ordered by a real machine they do what the reference does.
func TestTxContract(t *testing.T) {
	enginetest.TestTx(t, func(t *testing.T) enginetest.Harness {
		h := newHouse(t)
		h.ledger.advance(0) // from now on log time is the ledger's
		return txHarness{h}
	})
}

type txHarness struct{ *house }

func (h txHarness) Begin(mount string) enginetest.Transaction {
	k, err := h.gate.open()
	if err != nil {
		h.t.Fatal(err)
	}
	view, err := h.ledger.View()
	if err != nil {
		h.t.Fatal(err)
	}
	return txEnd{newTx(view, k, rand.Reader, true).on(mount), h}
}

func (h txHarness) Advance(d time.Duration) { h.ledger.advance(d) }

type txEnd struct {
	*tx
	h txHarness
}

func (e txEnd) Discard() {
	if err := e.view.Close(); err != nil {
		e.h.t.Error(err)
	}
}

func (e txEnd) Commit() error {
	defer e.Discard()
	result, err := e.h.ledger.Propose(e.h.t.Context(), &e.batch)
	switch {
	case err != nil:
		return err
	case result.Code == fsm.Conflict:
		return enginetest.ErrConflict
	case result.Code == fsm.Refused:
		return enginetest.ErrRefused
	case result.Code != fsm.Applied:
		return errors.New("neither applied nor refused")
	}
	return nil
}

// tokenLease is the lease that stands for a token in the suite.
func tokenLease(token string) fsm.Key { return append(fsm.Key{byte(spaceToken)}, token...) }

// BeginAs implements enginetest.TokenHarness.
func (h txHarness) BeginAs(mount, token string) enginetest.Transaction {
	h.t.Helper()
	r, err := h.ledger.Propose(h.t.Context(), &fsm.Batch{Guards: []fsm.Guard{{Kind: fsm.GuardLeaseAbsent, Key: tokenLease(token)}},
		Operations: []fsm.Operation{{Kind: fsm.OpGrantLease, Key: tokenLease(token), TTL: time.Hour, State: fsm.LeaseActive}}})
	if err != nil || r.Code != fsm.Applied && r.Code != fsm.Conflict {
		h.t.Fatalf("granting a token: %+v %v", r, err)
	}
	end := h.Begin(mount).(txEnd)
	end.who = &identity{lease: tokenLease(token)}
	return end
}

// EndToken implements enginetest.TokenHarness.
func (h txHarness) EndToken(token string) {
	h.t.Helper()
	r, err := h.ledger.Propose(h.t.Context(), &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpRevokeLease, Key: tokenLease(token)}}})
	if err != nil || r.Code != fsm.Applied {
		h.t.Fatalf("revoking a token: %+v %v", r, err)
	}
	h.ledger.advance(0)
}
