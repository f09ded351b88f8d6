package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/audit"
)

// An AuditSinkConfig is one copy of the audit log, beside the file.
type AuditSinkConfig struct {
	// Name is in logs and at sys/audit. Letters, digits, dashes and underscores; not
	// "file".
	Name string
	// Type is "socket", "syslog" or "stdout". Required.
	Type string
	// Address is where a socket or syslog is:
	//
	//	socket  tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH
	//	syslog  udp://HOST:PORT, tcp://HOST:PORT or unixgram:///PATH; empty: unixgram:///dev/log
	//
	// With tls the certificate is checked against the system's authorities.
	Address string
	// Strictness is "required" (a request whose record this sink does not take in time
	// fails) or "best-effort" (the record is counted as lost, and the request goes on).
	// Required, because a default should err on neither side.
	Strictness string
	// Deadline is how long a group of records may take. Zero: 2 s.
	Deadline time.Duration
	// BufferKiB is how much may wait for a best-effort sink. Zero: 8192.
	BufferKiB int
}

// The words of Strictness in configurations.
const (
	strictRequired   = "required"
	strictBestEffort = "best-effort"
)

func strictness(word string) audit.Strictness {
	if word == strictBestEffort {
		return audit.BestEffort
	}
	return audit.Required
}

// Bounds of deadlines and buffers.
const (
	auditDeadlineLeast = 10 * time.Millisecond
	auditDeadlineMost  = time.Minute
	auditBufferMost    = 1 << 20 // KiB
	maxAuditSinks      = 16
)

// validate checks the settings of the file and of each sink.
func (c *AuditConfig) validate(wrong complaint) {
	if !oneOf(c.Strictness, strictRequired, strictBestEffort) {
		wrong("audit.strictness", "must be required or best-effort, not %q", c.Strictness)
	}
	if c.Deadline < auditDeadlineLeast || c.Deadline > auditDeadlineMost {
		wrong("audit.deadline", "must be from %v to %v, not %v", auditDeadlineLeast, auditDeadlineMost, c.Deadline)
	}
	if c.MaxAge != 0 && c.MaxAge < time.Minute {
		wrong("audit.max_age", "must be a minute or more, not %v", c.MaxAge)
	}
	for _, limit := range []struct {
		key string
		n   int
	}{{"max_size_mib", c.MaxSizeMiB}, {"keep", c.Keep}, {"keep_days", c.KeepDays}} {
		if limit.n < 0 {
			wrong("audit."+limit.key, "must not be negative, not %d", limit.n)
		}
	}
	if len(c.Sinks) > maxAuditSinks {
		wrong("audit.sink", "must be there %d times at most, not %d", maxAuditSinks, len(c.Sinks))
	}
	seen := map[string]bool{}
	for i := range c.Sinks {
		c.Sinks[i].validate(seen, wrong)
	}
}

func (s *AuditSinkConfig) validate(seen map[string]bool, wrong complaint) {
	key := "audit.sink." + s.Name
	switch {
	case s.Name == "file" || !sinkName(s.Name):
		wrong(key, `must have a name of 1 to 64 letters, digits, dashes and underscores that is not "file"`)
	case seen[s.Name]:
		wrong(key, "is there twice")
	}
	seen[s.Name] = true
	if !oneOf(s.Type, "socket", "syslog", "stdout") {
		wrong(key+".type", "must be socket, syslog or stdout, not %q", s.Type)
	} else if _, _, err := s.target(); err != nil {
		wrong(key+".address", "%v", err)
	}
	if !oneOf(s.Strictness, strictRequired, strictBestEffort) {
		wrong(key+".strictness", "must be required or best-effort, not %q", s.Strictness)
	}
	if s.Deadline < 0 || s.Deadline > auditDeadlineMost || s.Deadline > 0 && s.Deadline < auditDeadlineLeast {
		wrong(key+".deadline", "must be from %v to %v, not %v", auditDeadlineLeast, auditDeadlineMost, s.Deadline)
	}
	if s.BufferKiB < 0 || s.BufferKiB > auditBufferMost {
		wrong(key+".buffer_kib", "must be from 1 to %d, not %d", auditBufferMost, s.BufferKiB)
	}
}

func sinkName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// target reads the address: network and address as package net has them, except
// that "tls" is a network.
func (s *AuditSinkConfig) target() (network, address string, err error) {
	networks := map[string][]string{"socket": {"tcp", "tls", "unix"}, "syslog": {"udp", "tcp", "unixgram"}}[s.Type]
	switch {
	case s.Type == "stdout" && s.Address == "":
		return "", "", nil
	case s.Type == "stdout":
		return "", "", fmt.Errorf("must not be set for a sink of type stdout")
	case s.Type == "syslog" && s.Address == "":
		return "unixgram", "/dev/log", nil
	}
	network, address, ok := strings.Cut(s.Address, "://")
	if ok && slices.Contains(networks, network) {
		if strings.HasPrefix(network, "unix") {
			if strings.HasPrefix(address, "/") {
				return network, address, nil
			}
		} else if host, ok := hostPort(address, false); ok && host != "" {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("must be NETWORK://HOST:PORT or NETWORK:///PATH with one of %s, not %q", strings.Join(networks, ", "), s.Address)
}

// open makes the sink.
func (s *AuditSinkConfig) open(host string) (audit.Sink, error) {
	out := audit.Sink{Name: s.Name, Strictness: strictness(s.Strictness), Deadline: s.Deadline, Buffer: s.BufferKiB << 10,
		Type: s.Type, Options: map[string]string{}}
	network, address, err := s.target()
	if err != nil {
		return out, fmt.Errorf("audit sink %s: address %w", s.Name, err)
	}
	switch s.Type {
	case "stdout":
		out.Writer = audit.NewStream(os.Stdout)
	case "syslog":
		out.Options["address"] = network + "://" + address
		out.Writer = audit.NewSyslog(network, address, "conclave", host, time.Now, nil)
	default:
		out.Options["address"] = network + "://" + address
		var dialer audit.Dialer = &net.Dialer{}
		if network == "tls" {
			network, dialer = "tcp", &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		}
		out.Writer = audit.NewSocket(network, address, dialer)
	}
	return out, nil
}
