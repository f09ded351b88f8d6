package testforeign

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

//lint:file-ignore SA1019 what a client deprecates it still offers, and people still call

// Each node tells how it is, without a token; one of them is active, and all agree
// on which.
func TestVaultNode(t *testing.T) {
	h := newVaultHand(t)
	h.SetToken("")
	active, addresses := 0, map[string]bool{}
	for _, c := range h.nodes {
		health := need[*vault.HealthResponse](t)(did(t, c.Sys().Health)())
		if !health.Initialized || health.Sealed || health.ClusterID == "" || health.ServerTimeUTC == 0 || !strings.HasPrefix(health.Version, "1.") {
			t.Errorf("health %+v", health)
		}
		leader := need[*vault.LeaderResponse](t)(did(t, c.Sys().Leader)())
		if leader.IsSelf == health.Standby || !leader.HAEnabled || leader.RaftCommittedIndex == 0 || leader.RaftAppliedIndex == 0 {
			t.Errorf("leader %+v, health %+v", leader, health)
		}
		if leader.IsSelf {
			active++
		}
		addresses[leader.LeaderAddress] = true
		s := need[*vault.SealStatusResponse](t)(did(t, c.Sys().SealStatus)())
		if s.Sealed || !s.Initialized || s.T != 2 || s.N != 3 || s.Type != "shamir" || s.ClusterID != health.ClusterID || s.StorageType == "" {
			t.Errorf("seal status %+v", s)
		}
		if !need[bool](t)(did(t, c.Sys().InitStatus)()) {
			t.Error("the cluster is not initialized")
		}
	}
	if active != 1 || len(addresses) != 1 || addresses[""] {
		t.Errorf("%d active nodes, at %v", active, addresses)
	}
	_, err := h.sys().HAStatus()
	denied(t, h, err, http.StatusForbidden, "permission denied")
	h.SetToken(rootToken(t))
	status := need[*vault.HAStatusResponse](t)(did(t, h.sys().HAStatus)())
	active = 0
	for _, n := range status.Nodes {
		if n.ActiveNode {
			active++
		}
		if n.Hostname == "" || !strings.HasPrefix(n.APIAddress, "https://") || !strings.HasPrefix(n.ClusterAddress, "https://") || n.Version == "" {
			t.Errorf("node %+v", n)
		}
	}
	if active != 1 || len(status.Nodes) != len(cluster.Nodes) {
		t.Errorf("nodes %+v", status.Nodes)
	}
}

// leader is the client of the node that leads.
func (h *vaultHand) leader(t *testing.T) (leads *vault.Client) {
	t.Helper()
	eventually(t, "finding the leader", func() error {
		for _, c := range h.nodes {
			if s, err := c.Sys().Leader(); err == nil && s.IsSelf {
				leads = c
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leads
}

// The active node hands over when it is told to, and writes go on.
func TestVaultStepDown(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	before := h.leader(t)
	done(t, did(t, before.Sys().StepDown)())
	eventually(t, "another node leads", func() error {
		if after := h.leader(t); after == before {
			return errors.New("the same node leads")
		}
		return nil
	})
	for i := range h.nodes {
		need[*vault.Secret](t)(h.logical().Write(path, map[string]any{"data": map[string]any{"n": i}}))
	}
	h.SetToken(need[*vault.Secret](t)(h.tokens().Create(&vault.TokenCreateRequest{Policies: []string{"default"}})).Auth.ClientToken)
	denied(t, h, h.sys().StepDown(), http.StatusForbidden, "permission denied")
}

// A sealed node says so to everybody, before it looks at a token, and takes shares
// until it is open; the others serve on.
func TestVaultSeal(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	need[*vault.Secret](t)(h.logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}}))
	sealed, others := h.nodes[2], h.nodes[:2]
	nobody := newVaultClient(t, cluster.Nodes[2], "")
	denied(t, h, nobody.Sys().Seal(), http.StatusForbidden, "permission denied")
	done(t, did(t, sealed.Sys().Seal)())

	if s := need[*vault.SealStatusResponse](t)(sealed.Sys().SealStatus()); !s.Sealed || s.Progress != 0 || s.ClusterID != "" {
		t.Errorf("seal status %+v", s)
	}
	if s := need[*vault.HealthResponse](t)(sealed.Sys().Health()); !s.Sealed || !s.Initialized {
		t.Errorf("health %+v", s)
	}
	for _, c := range []*vault.Client{sealed, nobody} {
		_, err := c.Logical().Read(path)
		denied(t, h, err, http.StatusServiceUnavailable, "Vault is sealed")
	}
	for _, c := range others {
		if s := need[*vault.Secret](t)(c.Logical().Read(path)); s == nil {
			t.Error("another node does not serve")
		}
	}
	unseal := did(t, nobody.Sys().Unseal)
	_, err := unseal("swordfish")
	denied(t, h, err, http.StatusBadRequest, "")
	s := need[*vault.SealStatusResponse](t)(did(t, nobody.Sys().UnsealWithOptions)(&vault.UnsealOpts{Key: cluster.Shares[0].Reveal()}))
	if !s.Sealed || s.Progress != 1 {
		t.Errorf("after a share: %+v", s)
	}
	if s = need[*vault.SealStatusResponse](t)(did(t, nobody.Sys().ResetUnsealProcess)()); !s.Sealed || s.Progress != 0 {
		t.Errorf("after a reset: %+v", s)
	}
	need[*vault.SealStatusResponse](t)(unseal(cluster.Shares[1].Reveal()))
	if s = need[*vault.SealStatusResponse](t)(unseal(cluster.Shares[2].Reveal())); s.Sealed {
		t.Errorf("after all shares: %+v", s)
	}
	if s := need[*vault.Secret](t)(sealed.Logical().Read(path)); s == nil {
		t.Error("the secret is not there after unsealing")
	}
}

// A client asks again where a node says that it cannot answer now, and is answered
// as soon as it can: here when it is unsealed between the first try and the second.
func TestVaultRetries(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	need[*vault.Secret](t)(h.logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}}))
	done(t, h.nodes[1].Sys().Seal())
	tries, open := 0, false
	patient := newVaultClient(t, cluster.Nodes[1], rootToken(t), func(c *vault.Config) {
		c.MaxRetries = 2
		c.MinRetryWait, c.MaxRetryWait = time.Millisecond, 10*time.Millisecond
		c.CheckRetry = func(ctx context.Context, r *http.Response, err error) (bool, error) {
			tries++
			if open {
				if err := cluster.Nodes[1].Unseal(ctx); err != nil {
					return false, err
				}
			}
			return vault.DefaultRetryPolicy(ctx, r, err)
		}
	})
	_, err := patient.Logical().Read(path)
	if denied(t, h, err, http.StatusServiceUnavailable, "Vault is sealed"); tries != 3 {
		t.Errorf("a sealed node was asked %d times, want 3", tries)
	}
	tries, open = 0, true
	if s := need[*vault.Secret](t)(patient.Logical().Read(path)); s == nil || tries != 2 {
		t.Errorf("read %+v after %d tries, want 2", s, tries)
	}
}

// A node of its own is founded, and opened with the keys in either spelling.
func TestVaultInit(t *testing.T) {
	n := emptyNode(t)
	nobody := newVaultClient(t, n, "")
	if need[bool](t)(nobody.Sys().InitStatus()) {
		t.Error("nobody has founded it")
	}
	if s := need[*vault.HealthResponse](t)(nobody.Sys().Health()); s.Initialized || !s.Sealed {
		t.Errorf("health %+v", s)
	}
	init := did(t, nobody.Sys().Init)
	made := need[*vault.InitResponse](t)(init(&vault.InitRequest{SecretShares: 3, SecretThreshold: 2}))
	if len(made.Keys) != 3 || len(made.KeysB64) != 3 || len(made.RootToken) != 28 || slices.Contains(made.Keys, made.KeysB64[0]) {
		t.Fatalf("%d keys, %d in base64, a token of %d", len(made.Keys), len(made.KeysB64), len(made.RootToken))
	}
	root := newVaultClient(t, n, made.RootToken) // with the authority of the new cluster
	h := &vaultHand{t: t}
	_, err := root.Sys().Init(&vault.InitRequest{SecretShares: 1, SecretThreshold: 1})
	denied(t, h, err, http.StatusBadRequest, "Vault is already initialized")
	for i, key := range []string{made.Keys[0], made.KeysB64[2]} {
		s := need[*vault.SealStatusResponse](t)(root.Sys().Unseal(key))
		if got, want := fmt.Sprint(s.Sealed, s.T, s.N), fmt.Sprint(i == 0, 2, 3); got != want {
			t.Errorf("after %d keys: %s, want %s", i+1, got, want)
		}
	}
	if s := need[*vault.Secret](t)(root.Auth().Token().LookupSelf()); s.Data["id"] != made.RootToken {
		t.Error("the root token is another")
	}
}

// The data key changes, for all nodes at once, and what an older one has sealed
// opens still.
func TestVaultKeys(t *testing.T) {
	h := newVaultHand(t)
	path := "secret/data/" + unique(t)
	need[*vault.Secret](t)(h.logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}}))
	before := need[*vault.KeyStatus](t)(did(t, h.sys().KeyStatus)())
	done(t, did(t, h.sys().Rotate)())
	for range h.nodes {
		after := need[*vault.KeyStatus](t)(h.sys().KeyStatus())
		if after.Term != before.Term+1 || !after.InstallTime.After(before.InstallTime) {
			t.Errorf("key %+v after %+v", after, before)
		}
		if s := need[*vault.Secret](t)(h.logical().Read(path)); s == nil {
			t.Error("the secret is gone")
		}
	}
}
