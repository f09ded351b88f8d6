package testforeign

import (
	"errors"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

//lint:file-ignore SA1019 what a client deprecates it still offers, and people still call

// watched is how often a watcher renewed until it was done, and what with.
func (h *vaultHand) watched(t *testing.T, w *vault.LifetimeWatcher) (renewals int, err error) {
	t.Helper()
	renewed, over := did(t, w.RenewCh)(), did(t, w.DoneCh)()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case <-renewed:
			renewals++
		case err := <-over:
			for len(renewed) > 0 {
				<-renewed
				renewals++
			}
			return renewals, err
		case <-limit.C:
			t.Fatalf("after %d renewals the watcher goes on", renewals)
		}
	}
}

// A watcher renews a token until it is at its maximum, and says that it is done in
// time for another login.
func TestVaultLifetimeOfToken(t *testing.T) {
	t.Parallel()
	h := newVaultHand(t)
	made := need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "2s", ExplicitMaxTTL: "3s"}))
	own := h.as(made.Auth.ClientToken)
	began := time.Now()
	w := need[*vault.LifetimeWatcher](t)(did(t, own.client().NewLifetimeWatcher)(&vault.LifetimeWatcherInput{Secret: made}))
	go did(t, w.Start)()
	renewals, err := h.watched(t, w)
	if took := time.Since(began); err != nil || renewals < 2 || took < time.Second || took > 4*time.Second {
		t.Errorf("%d renewals in %v, %v", renewals, took, err)
	}
}

// A watcher renews a lease until it is told to stop. What has ended it cannot renew.
func TestVaultLifetimeOfLease(t *testing.T) {
	t.Parallel()
	h := newVaultHand(t)
	id := grant(t, "leases/"+unique(t), 2*time.Second)
	lease := need[*vault.Secret](t)(h.sys().Renew(id, 0))
	w := need[*vault.LifetimeWatcher](t)(did(t, h.client().NewRenewer)(&vault.LifetimeWatcherInput{Secret: lease}))
	go did(t, w.Renew)()
	for range 2 {
		select {
		case r := <-w.RenewCh():
			if r.Secret.LeaseID != id || !r.Secret.Renewable || r.Secret.LeaseDuration != 2 {
				t.Errorf("renewed %+v", r.Secret)
			}
		case err := <-w.DoneCh():
			t.Fatalf("it is over: %v", err)
		}
	}
	did(t, w.Stop)()
	if _, err := h.watched(t, w); err != nil {
		t.Errorf("stopped with %v", err)
	}
	done(t, h.sys().Revoke(id))
	w = need[*vault.LifetimeWatcher](t)(h.client().NewRenewer(&vault.LifetimeWatcherInput{Secret: lease}))
	go w.Renew()
	if renewals, err := h.watched(t, w); h.Status(err) != 400 || renewals != 0 {
		t.Errorf("a lease that has ended: %d renewals, %v", renewals, err)
	}
}

// A token that cannot be renewed is watched until its end, or not at all, as the
// caller likes.
func TestVaultLifetimeOfFixedToken(t *testing.T) {
	t.Parallel()
	h := newVaultHand(t)
	fixed := false
	made := need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "1s", Renewable: &fixed}))
	w := need[*vault.LifetimeWatcher](t)(h.client().NewLifetimeWatcher(&vault.LifetimeWatcherInput{Secret: made}))
	go w.Start()
	if renewals, err := h.watched(t, w); err != nil || renewals != 0 {
		t.Errorf("%d renewals, %v", renewals, err)
	}
	w = need[*vault.LifetimeWatcher](t)(h.client().NewRenewer(&vault.LifetimeWatcherInput{Secret: made}))
	go w.Renew()
	if _, err := h.watched(t, w); !errors.Is(err, vault.ErrRenewerNotRenewable) {
		t.Errorf("the renewer says %v", err)
	}
}
