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
