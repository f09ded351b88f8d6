package main

import (
	"errors"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/server"
)

// loadRaft reads the settings of the block raft from a file, variables and flags.
func loadRaft(file string, env, flags map[string]string) (server.RaftConfig, error) {
	cfg, err := sources{
		file:     "node.hcl",
		readFile: func(string) ([]byte, error) { return []byte("data_dir = \"d\"\n" + file), nil },
		env:      func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		flags:    flags,
	}.load()
	return cfg.Raft, err
}

// The cleanup of dead servers is off until it is asked for, in any of the three
// ways, and can be turned off again on a stronger level.
func TestCleanupSettings(t *testing.T) {
	const on = "raft {\n  cleanup_dead_servers = true\n  dead_server_threshold = \"2h\"\n  min_quorum = 5\n}"
	type raft struct {
		on    bool
		after time.Duration
		least int
	}
	for name, c := range map[string]struct {
		file       string
		env, flags map[string]string
		want       raft
	}{
		"nothing set":    {"", nil, nil, raft{false, 24 * time.Hour, 3}},
		"file":           {on, nil, nil, raft{true, 2 * time.Hour, 5}},
		"environment":    {"", map[string]string{"CONCLAVE_RAFT_CLEANUP_DEAD_SERVERS": "true"}, nil, raft{true, 24 * time.Hour, 3}},
		"flag over file": {on, nil, map[string]string{"raft-cleanup-dead-servers": "false"}, raft{false, 2 * time.Hour, 5}},
		"never":          {on, nil, map[string]string{"raft-dead-server-threshold": "0"}, raft{true, -1, 5}},
	} {
		got, err := loadRaft(c.file, c.env, c.flags)
		if have := (raft{got.CleanupDeadServers, got.DeadServerThreshold, got.MinQuorum}); err != nil || have != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, have, err, c.want)
		}
	}
}

// Wrong values are refused under the name and place of the setting.
func TestCleanupSettingsAreChecked(t *testing.T) {
	for key, lines := range map[string][]string{
		"raft.dead_server_threshold": {`dead_server_threshold = "59s"`, `dead_server_threshold = "-1h"`, `dead_server_threshold = "soon"`},
		"raft.min_quorum":            {`min_quorum = 2`, `min_quorum = 0`},
	} {
		for _, line := range lines {
			_, err := loadRaft("raft {\n  "+line+"\n}", nil, nil)
			var wrong *server.SettingError
			if !errors.As(err, &wrong) || wrong.Key != key || wrong.Origin == "" {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	for _, line := range []string{`cleanup_dead_servers = "yes"`, `cleanup_dead_servers = 1`} {
		if _, err := loadRaft("raft {\n  "+line+"\n}", nil, nil); err == nil {
			t.Errorf("accepted %s", line)
		}
	}
	if _, err := loadRaft("", map[string]string{"CONCLAVE_RAFT_CLEANUP_DEAD_SERVERS": "yes"}, nil); err == nil {
		t.Error("accepted yes for true")
	}
}
