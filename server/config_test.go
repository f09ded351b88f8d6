package server

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
)

func valid() Config {
	c := Config{DataDir: "/var/lib/conclave"}
	c.Defaults()
	return c
}

// A data directory is all that must be given.
func TestDefaultsAreValid(t *testing.T) {
	c := valid()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.API.Address != "127.0.0.1:8210" || c.Limits.MaxValueBytes != 1<<20 || c.CAPath() != "/var/lib/conclave/ca.pem" {
		t.Errorf("unexpected defaults: %+v", c)
	}
}

// What is set stays.
func TestDefaultsKeepWhatIsSet(t *testing.T) {
	c := Config{Raft: RaftConfig{Heartbeat: 2 * time.Second}}
	c.Defaults()
	if c.Raft.Heartbeat != 2*time.Second {
		t.Errorf("got %+v", c.Raft)
	}
}

// Each wrong setting is named, with what is allowed.
func TestValidateNamesTheSetting(t *testing.T) {
	for key, spoil := range map[string]func(*Config){
		"data_dir":                   func(c *Config) { c.DataDir = "" },
		"api.address":                func(c *Config) { c.API.Address = "nowhere" },
		"peer.address":               func(c *Config) { c.Peer.Address = "127.0.0.1:99999" },
		"gossip.advertise":           func(c *Config) { c.Gossip.Address = "0.0.0.0:8202" },
		"peer.advertise":             func(c *Config) { c.Peer.Advertise = "0.0.0.0:8201" },
		"api.tls_cert_file":          func(c *Config) { c.API.TLSKeyFile = "key.pem" },
		"join.addresses":             func(c *Config) { c.Join.Addresses = []string{"host:0"} },
		"join.token_file":            func(c *Config) { c.Join = JoinConfig{Addresses: []string{"h:1"}, Token: "t", TokenFile: "f"} },
		"limits.max_value_bytes":     func(c *Config) { c.Limits.MaxValueBytes = 1 << 30 },
		"limits.max_path_bytes":      func(c *Config) { c.Limits.MaxPathBytes = -1 },
		"limits.max_in_flight":       func(c *Config) { c.Limits.MaxInFlight = -1 },
		"raft.heartbeat":             func(c *Config) { c.Raft.Heartbeat = time.Millisecond },
		"raft.promote_after":         func(c *Config) { c.Raft.PromoteAfter = -1 },
		"raft.dead_server_threshold": func(c *Config) { c.Raft.DeadServerThreshold = time.Second },
		"raft.min_quorum":            func(c *Config) { c.Raft.MinQuorum = 2 },
		"audit.strictness":           func(c *Config) { c.Audit.Strictness = "perhaps" },
		"audit.deadline":             func(c *Config) { c.Audit.Deadline = time.Hour },
		"audit.max_age":              func(c *Config) { c.Audit.MaxAge = time.Second },
		"audit.keep":                 func(c *Config) { c.Audit.Keep = -1 },
		"audit.keep_days":            func(c *Config) { c.Audit.KeepDays = -1 },
		"audit.max_size_mib":         func(c *Config) { c.Audit.MaxSizeMiB = -1 },
		"log.level":                  func(c *Config) { c.Log.Level = "loud" },
		"log.format":                 func(c *Config) { c.Log.Format = "xml" },
		"shutdown_timeout":           func(c *Config) { c.ShutdownTimeout = -1 },
	} {
		c := valid()
		spoil(&c)
		err := c.Validate()
		var setting *SettingError
		if !errors.As(err, &setting) {
			t.Errorf("%s: got %v, want a *SettingError", key, err)
			continue
		}
		if setting.Key != key {
			t.Errorf("spoiling %s: the error names %s (%v)", key, setting.Key, err)
		}
	}
}

// Dead servers are removed only when that was asked for.
func TestCleanupIsOffByDefault(t *testing.T) {
	if c := valid(); c.Raft.deadAfter() != 0 {
		t.Errorf("by default after %v", c.Raft.deadAfter())
	}
	for set, want := range map[time.Duration]time.Duration{0: 24 * time.Hour, time.Hour: time.Hour, -1: 0} {
		c := Config{DataDir: "d", Raft: RaftConfig{CleanupDeadServers: true, DeadServerThreshold: set}}
		c.Defaults()
		if err := c.Validate(); err != nil || c.Raft.deadAfter() != want || c.Raft.MinQuorum != 3 {
			t.Errorf("threshold %v: removed after %v, want %v; at least %d voters, %v", set, c.Raft.deadAfter(), want, c.Raft.MinQuorum, err)
		}
	}
}

// A token without a cluster to join is a mistake worth telling.
func TestTokenNeedsAddresses(t *testing.T) {
	c := valid()
	c.Join.Token = "t"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "join.addresses") {
		t.Errorf("got %v", err)
	}
}

// The token file is read when it is needed, trimmed; the token never prints.
func TestReadToken(t *testing.T) {
	files := map[string]string{"full": " swordfish\n", "empty": "\n"}
	read := func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
	token, err := JoinConfig{TokenFile: "full"}.ReadToken(read)
	if err != nil || token.Reveal() != "swordfish" {
		t.Errorf("got a token of %d bytes and %v", len(token.Reveal()), err)
	}
	if shown := fmt.Sprintf("%v %s %q %#v %x", token, token, token, JoinConfig{Token: token}, token); strings.Contains(shown, "swordfish") || strings.Contains(shown, fmt.Sprintf("%x", "swordfish")) {
		t.Errorf("the token shows in %s", shown)
	}
	if _, err := (JoinConfig{TokenFile: "none"}).ReadToken(read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	var setting *SettingError
	if _, err := (JoinConfig{TokenFile: "empty"}).ReadToken(read); !errors.As(err, &setting) {
		t.Errorf("got %v, want a *SettingError", err)
	}
}
