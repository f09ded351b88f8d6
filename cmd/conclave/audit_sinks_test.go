package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/server"
)

func loadAudit(file string, env, flags map[string]string) (server.AuditConfig, error) {
	cfg, err := sources{
		file:     "node.hcl",
		readFile: func(string) ([]byte, error) { return []byte("data_dir = \"d\"\n" + file), nil },
		env:      func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		flags:    flags,
	}.load()
	return cfg.Audit, err
}

// Sinks come from the file, in its order; what concerns the log itself from flags and
// variables as well.
func TestAuditSettings(t *testing.T) {
	const file = `audit {
  strictness = "best-effort"
  max_age    = "24h"
  keep       = 7
  sink "siem" {
    type       = "socket"
    address    = "tls://siem.example:6514"
    strictness = "required"
    deadline   = "500ms"
  }
  sink "journal" {
    type       = "syslog"
    strictness = "best-effort"
    buffer_kib = 64
  }
}`
	got, err := loadAudit(file, map[string]string{"CONCLAVE_AUDIT_STRICTNESS": "required", "CONCLAVE_AUDIT_KEEP_DAYS": "30"}, map[string]string{"audit-keep": "9", "audit-deadline": "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Strictness != "required" || got.MaxAge != 24*time.Hour || got.Keep != 9 || got.KeepDays != 30 || got.Deadline != time.Second {
		t.Errorf("got %+v", got)
	}
	want := []server.AuditSinkConfig{
		{Name: "siem", Type: "socket", Address: "tls://siem.example:6514", Strictness: "required", Deadline: 500 * time.Millisecond},
		{Name: "journal", Type: "syslog", Strictness: "best-effort", BufferKiB: 64},
	}
	if !slices.Equal(got.Sinks, want) {
		t.Errorf("got  %+v\nwant %+v", got.Sinks, want)
	}
	if got, err := loadAudit("", nil, nil); err != nil || got.Strictness != "required" || got.Deadline != 5*time.Second || got.Sinks != nil {
		t.Errorf("by default %+v, %v", got, err)
	}
}

// What is wrong with a sink has a place: that of the value, or of the block that lacks it.
func TestAuditSinksHavePlaces(t *testing.T) {
	for text, want := range map[string][2]string{
		"audit {\n  sink \"a\" {\n    type = \"stdout\"\n  }\n}":                           {"audit.sink.a.strictness", "node.hcl:3:3"},
		"audit {\n  sink \"a\" {\n    strictness = \"required\"\n    type = \"x\"\n  }\n}": {"audit.sink.a.type", "node.hcl:5:12"},
		"audit {\n  deadline = \"1ms\"\n}":                                                 {"audit.deadline", "node.hcl:3:14"},
	} {
		_, err := loadAudit(text, nil, nil)
		var wrong *server.SettingError
		if !errors.As(err, &wrong) || wrong.Key != want[0] || wrong.Origin != want[1] {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"sink \"a\" {}", "raft {\n  sink \"a\" {}\n}", "audit {\n  sink \"a\" \"b\" {}\n}", "audit {\n  sink \"a\" {\n    type = true\n  }\n}"} {
		if _, err := loadAudit(text, nil, nil); err == nil {
			t.Errorf("accepted %s", text)
		}
	}
}
