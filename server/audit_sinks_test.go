package server

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/audit"
)

func sinkOf(change func(*AuditSinkConfig)) AuditSinkConfig {
	s := AuditSinkConfig{Name: "siem", Type: "socket", Address: "tcp://127.0.0.1:9", Strictness: "required"}
	change(&s)
	return s
}

// Addresses are read as package net wants them, and nothing else passes.
func TestAuditSinkAddresses(t *testing.T) {
	for _, c := range []struct{ kind, address, network, target string }{
		{"socket", "tcp://siem.example:514", "tcp", "siem.example:514"},
		{"socket", "tls://[::1]:6514", "tls", "[::1]:6514"},
		{"socket", "unix:///run/siem", "unix", "/run/siem"},
		{"syslog", "udp://127.0.0.1:514", "udp", "127.0.0.1:514"},
		{"syslog", "tcp://127.0.0.1:601", "tcp", "127.0.0.1:601"},
		{"syslog", "", "unixgram", "/dev/log"},
		{"syslog", "unixgram:///run/log", "unixgram", "/run/log"},
		{"stdout", "", "", ""},
	} {
		s := sinkOf(func(s *AuditSinkConfig) { s.Type, s.Address = c.kind, c.address })
		if network, target, err := s.target(); err != nil || network != c.network || target != c.target {
			t.Errorf("%s %q: got %q, %q, %v", c.kind, c.address, network, target, err)
		}
	}
	for _, c := range [][2]string{
		{"socket", ""}, {"socket", "siem:514"}, {"socket", "udp://siem:514"}, {"socket", "tcp://siem"}, {"socket", "tcp://:514"}, {"socket", "tcp://siem:0"},
		{"socket", "unix://run/siem"}, {"socket", "unix:///"[:7]}, {"socket", "http://siem:80"}, {"syslog", "tls://siem:6514"}, {"syslog", "unix:///dev/log"},
		{"stdout", "tcp://siem:514"}, {"stdout", "/dev/stdout"},
	} {
		s := sinkOf(func(s *AuditSinkConfig) { s.Type, s.Address = c[0], c[1] })
		if network, target, err := s.target(); err == nil {
			t.Errorf("%s %q: accepted as %q, %q", c[0], c[1], network, target)
		}
	}
}

// Each wrong setting of a sink is named.
func TestAuditSinkSettings(t *testing.T) {
	for key, change := range map[string]func(*AuditSinkConfig){
		"audit.sink.siem.type":       func(s *AuditSinkConfig) { s.Type = "" },
		"audit.sink.siem.address":    func(s *AuditSinkConfig) { s.Address = "" },
		"audit.sink.siem.strictness": func(s *AuditSinkConfig) { s.Strictness = "" },
		"audit.sink.siem.deadline":   func(s *AuditSinkConfig) { s.Deadline = time.Millisecond },
		"audit.sink.siem.buffer_kib": func(s *AuditSinkConfig) { s.BufferKiB = -1 },
		"audit.sink.file":            func(s *AuditSinkConfig) { s.Name = "file" },
		"audit.sink.":                func(s *AuditSinkConfig) { s.Name = "" },
		"audit.sink.a b":             func(s *AuditSinkConfig) { s.Name = "a b" },
	} {
		if got := wrongSettings(t, sinkOf(change)); !slices.Equal(got, []string{key}) {
			t.Errorf("spoiling %s: the errors name %v", key, got)
		}
	}
	same := func(*AuditSinkConfig) {}
	if got := wrongSettings(t, sinkOf(same)); got != nil {
		t.Errorf("a good sink: %v", got)
	}
	if got := wrongSettings(t, sinkOf(same), sinkOf(same)); !slices.Equal(got, []string{"audit.sink.siem"}) {
		t.Errorf("twice the same sink: %v", got)
	}
}

func wrongSettings(t *testing.T, sinks ...AuditSinkConfig) (keys []string) {
	t.Helper()
	c := valid()
	c.Audit.Sinks = sinks
	c.Audit.validate(func(key, _ string, _ ...any) { keys = append(keys, key) })
	if err := c.Validate(); (err == nil) != (keys == nil) {
		t.Errorf("Validate says %v", err)
	}
	return keys
}

// A sink that was opened by its settings gets what the log writes, and is described.
func TestAuditSinkOpens(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "siem"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := sinkOf(func(s *AuditSinkConfig) { s.Address, s.Strictness = "unix://"+l.Addr().String(), "best-effort" })
	sink, err := s.open("host")
	if err != nil {
		t.Fatal(err)
	}
	if sink.Strictness != audit.BestEffort || sink.Type != "socket" || sink.Options["address"] != s.Address {
		t.Errorf("got %+v", sink)
	}
	if err := sink.Writer.Write(context.Background(), []byte("a record\n")); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || strings.TrimSpace(line) != "a record" {
		t.Errorf("heard %q, %v", line, err)
	}
	if err := sink.Writer.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, address := range map[string]string{"stdout": "", "syslog": "", "socket": "tls://127.0.0.1:9"} {
		s := sinkOf(func(s *AuditSinkConfig) { s.Type, s.Address = kind, address })
		if sink, err := s.open("host"); err != nil || sink.Writer == nil || sink.Strictness != audit.Required {
			t.Errorf("%s: %+v, %v", kind, sink, err)
		}
	}
}
