package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/server"
)

// A setting is one field of server.Config by the three names under which it can
// be set. "api.address" in a file is --api-address as a flag and
// CONCLAVE_API_ADDRESS in the environment.
type setting struct {
	key    string
	value  string // what the value looks like, for the help
	usage  string
	set    func(*server.Config, string) error
	noFile bool // not in a file
	rename string
	list   bool
	truth  bool // true or false; the flag alone says true
}

func (s setting) flag() string {
	if s.rename != "" {
		return s.rename
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

func (s setting) env() string {
	return "CONCLAVE_" + strings.ToUpper(strings.ReplaceAll(s.flag(), "-", "_"))
}

// settings is the whole list, in the order of the help.
var settings = []setting{
	{key: "data_dir", value: "DIR", usage: "keep everything here (required)", set: text(func(c *server.Config) *string { return &c.DataDir })},
	{key: "node_name", value: "NAME", usage: "what operators call this node (default: its id)", set: text(func(c *server.Config) *string { return &c.NodeName })},
	{key: "api.address", value: "HOST:PORT", usage: "listen here for clients, gRPC (default 127.0.0.1:8210)", set: text(func(c *server.Config) *string { return &c.API.Address })},
	{key: "api.advertise", value: "HOST:PORT", usage: "where clients reach this node (default: api.address)", set: text(func(c *server.Config) *string { return &c.API.Advertise })},
	{key: "api.tls_cert_file", value: "FILE", usage: "certificate chain for clients (PEM), read again when it changes; default: one of the cluster's own", set: text(func(c *server.Config) *string { return &c.API.TLSCertFile })},
	{key: "api.tls_key_file", value: "FILE", usage: "its private key (PEM)", set: text(func(c *server.Config) *string { return &c.API.TLSKeyFile })},
	{key: "http.address", value: "HOST:PORT", usage: "listen here for clients of Vault, HTTP; off: do not (default 127.0.0.1:8200)", set: text(func(c *server.Config) *string { return &c.HTTP.Address })},
	{key: "http.tls_disable", truth: true, value: "BOOL", usage: "serve HTTP in plain text; on loopback only", set: truth(func(c *server.Config) *bool { return &c.HTTP.TLSDisable })},
	{key: "http.tls_disable_anywhere", truth: true, value: "BOOL", usage: "in plain text on any address: tokens and secrets cross the network in clear", set: truth(func(c *server.Config) *bool { return &c.HTTP.TLSDisableAnywhere })},
	{key: "http.tls_cert_file", value: "FILE", usage: "certificate chain for clients of Vault (PEM), read again when it changes; default: one of the cluster's own", set: text(func(c *server.Config) *string { return &c.HTTP.TLSCertFile })},
	{key: "http.tls_key_file", value: "FILE", usage: "its private key (PEM)", set: text(func(c *server.Config) *string { return &c.HTTP.TLSKeyFile })},
	{key: "http.client_ca_file", value: "FILE", usage: "clients of Vault show a certificate of one of these authorities (PEM), beside their token", set: text(func(c *server.Config) *string { return &c.HTTP.ClientCAFile })},
	{key: "http.client_certs", value: "WHETHER", usage: "required, or optional: who has no certificate is let in (default required)", set: text(func(c *server.Config) *string { return &c.HTTP.ClientCerts })},
	{key: "http.reported_version", value: "VERSION", usage: "version that HTTP clients are told, who compare it with Vault's (default 1.17.0+conclave)", set: text(func(c *server.Config) *string { return &c.HTTP.ReportedVersion })},
	{key: "audit.disable", truth: true, value: "BOOL", usage: "keep no record of who did what", set: truth(func(c *server.Config) *bool { return &c.Audit.Disable })},
	{key: "audit.file", value: "FILE", usage: "record who did what here (default: audit/audit.log in the data directory); copies go to the sinks of the file of --config", set: text(func(c *server.Config) *string { return &c.Audit.File })},
	{key: "audit.strictness", value: "STRICTNESS", usage: "required: no record in the file, no answer; best-effort: answer all the same (default required)", set: text(func(c *server.Config) *string { return &c.Audit.Strictness })},
	{key: "audit.deadline", value: "DURATION", usage: "a record takes at most this long to the file (default 5s)", set: duration(func(c *server.Config) *time.Duration { return &c.Audit.Deadline })},
	{key: "audit.max_size_mib", value: "N", usage: "begin a new file at this size (default 100)", set: number(func(c *server.Config) *int { return &c.Audit.MaxSizeMiB })},
	{key: "audit.max_age", value: "DURATION", usage: "begin a new file at this age (default: any age)", set: duration(func(c *server.Config) *time.Duration { return &c.Audit.MaxAge })},
	{key: "audit.keep", value: "N", usage: "old files that stay (default: all)", set: number(func(c *server.Config) *int { return &c.Audit.Keep })},
	{key: "audit.keep_days", value: "N", usage: "days that an old file stays (default: for ever)", set: number(func(c *server.Config) *int { return &c.Audit.KeepDays })},
	{key: "peer.address", value: "HOST:PORT", usage: "listen here for other nodes (default 127.0.0.1:8201)", set: text(func(c *server.Config) *string { return &c.Peer.Address })},
	{key: "peer.advertise", value: "HOST:PORT", usage: "where other nodes reach this one (default: peer.address)", set: text(func(c *server.Config) *string { return &c.Peer.Advertise })},
	{key: "gossip.address", value: "HOST:PORT", usage: "listen here for discovery, TCP and UDP (default 127.0.0.1:8202)", set: text(func(c *server.Config) *string { return &c.Gossip.Address })},
	{key: "gossip.advertise", value: "HOST:PORT", usage: "where discovery reaches this node (default: gossip.address)", set: text(func(c *server.Config) *string { return &c.Gossip.Advertise })},
	{key: "join.addresses", rename: "join", list: true, value: "HOST:PORT", usage: "join the cluster of these unsealed nodes, by their API addresses; repeated or separated by commas", set: setJoinAddresses},
	{key: "join.token", rename: "join-token", noFile: true, value: "TOKEN", usage: "the token of 'conclave operator join-token'; it shows in process lists, so prefer the environment or a file", set: func(c *server.Config, v string) error { c.Join.Token = server.JoinToken(v); return nil }},
	{key: "join.token_file", value: "FILE", usage: "read the join token from here", set: text(func(c *server.Config) *string { return &c.Join.TokenFile })},
	{key: "limits.max_value_bytes", value: "N", usage: "refuse larger secrets (default 1048576)", set: number(func(c *server.Config) *int { return &c.Limits.MaxValueBytes })},
	{key: "limits.max_path_bytes", value: "N", usage: "refuse longer paths (default 1024)", set: number(func(c *server.Config) *int { return &c.Limits.MaxPathBytes })},
	{key: "limits.max_in_flight", value: "N", usage: "refuse more calls at a time (default 4096)", set: number(func(c *server.Config) *int { return &c.Limits.MaxInFlight })},
	{key: "raft.heartbeat", value: "DURATION", usage: "patience with a silent leader (default 300ms)", set: duration(func(c *server.Config) *time.Duration { return &c.Raft.Heartbeat })},
	{key: "raft.snapshot_threshold", value: "N", usage: "entries between snapshots (default 8192)", set: setSnapshotThreshold},
	{key: "raft.snapshot_interval", value: "DURATION", usage: "look this often whether a snapshot is due (default 30s)", set: duration(func(c *server.Config) *time.Duration { return &c.Raft.SnapshotInterval })},
	{key: "raft.promote_after", value: "DURATION", usage: "a caught-up node is stable this long before it votes (default 10s)", set: duration(func(c *server.Config) *time.Duration { return &c.Raft.PromoteAfter })},
	{key: "raft.cleanup_dead_servers", truth: true, value: "BOOL", usage: "remove members that stay silent; set alike on all nodes (default false)", set: truth(func(c *server.Config) *bool { return &c.Raft.CleanupDeadServers })},
	{key: "raft.dead_server_threshold", value: "DURATION", usage: "remove a member after this silence, 0 for never (default 24h)", set: setDeadServerThreshold},
	{key: "raft.min_quorum", value: "N", usage: "voters that the cleanup leaves, 3 or more (default 3)", set: number(func(c *server.Config) *int { return &c.Raft.MinQuorum })},
	{key: "log.level", value: "LEVEL", usage: "debug, info, warn or error (default info)", set: text(func(c *server.Config) *string { return &c.Log.Level })},
	{key: "log.format", value: "FORMAT", usage: "text or json (default text)", set: text(func(c *server.Config) *string { return &c.Log.Format })},
	{key: "shutdown_timeout", value: "DURATION", usage: "bound of a clean stop (default 10s)", set: duration(func(c *server.Config) *time.Duration { return &c.ShutdownTimeout })},
}

func text[C any](field func(*C) *string) func(*C, string) error {
	return func(c *C, v string) error { *field(c) = v; return nil }
}

func number[C any](field func(*C) *int) func(*C, string) error {
	return func(c *C, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return errors.New("must be a number from 1 on")
		}
		*field(c) = int(n)
		return nil
	}
}

func duration[C any](field func(*C) *time.Duration) func(*C, string) error {
	return func(c *C, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return errors.New(`must be a duration such as "500ms" or "10s"`)
		}
		*field(c) = d
		return nil
	}
}

func truth(field func(*server.Config) *bool) func(*server.Config, string) error {
	return func(c *server.Config, v string) error {
		switch v {
		case "true":
			*field(c) = true
		case "false":
			*field(c) = false
		default:
			return errors.New("must be true or false")
		}
		return nil
	}
}

// setDeadServerThreshold takes 0 for never, which the zero value cannot say.
func setDeadServerThreshold(c *server.Config, v string) error {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil || d < 0:
		return errors.New(`must be a duration such as "24h", or 0 for never`)
	case d == 0:
		d = -1
	}
	c.Raft.DeadServerThreshold = d
	return nil
}

func setSnapshotThreshold(c *server.Config, v string) error {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n == 0 {
		return errors.New("must be a number from 1 on")
	}
	c.Raft.SnapshotThreshold = n
	return nil
}

func setJoinAddresses(c *server.Config, v string) error {
	c.Join.Addresses = nil
	for a := range strings.SplitSeq(v, ",") {
		if a = strings.TrimSpace(a); a != "" {
			c.Join.Addresses = append(c.Join.Addresses, a)
		}
	}
	return nil
}

// sources are the places that settings come from, weakest first: file,
// environment, flags.
type sources struct {
	file     string // empty: none
	env      func(string) (string, bool)
	flags    map[string]string // by flag, only those given
	readFile func(string) ([]byte, error)
}

// load merges all sources into one validated configuration. Every mistake is
// reported, each with its place.
func (s sources) load() (server.Config, error) {
	var cfg server.Config
	origins := map[string]string{}
	var mistakes []error
	note := func(key, origin string, err error) {
		origins[key] = origin
		if err != nil {
			mistakes = append(mistakes, &server.SettingError{Key: key, Problem: err.Error(), Origin: origin})
		}
	}
	if s.file != "" {
		values, err := readConfigFile(s.file, s.readFile)
		if err != nil {
			return cfg, err
		}
		for _, v := range values {
			note(v.setting.key, v.place, v.setting.set(&cfg, v.text))
		}
	}
	for _, each := range settings {
		if v, ok := s.env(each.env()); ok && v != "" {
			note(each.key, "environment "+each.env(), each.set(&cfg, v))
		}
		if v, ok := s.flags[each.flag()]; ok {
			note(each.key, "flag --"+each.flag(), each.set(&cfg, v))
		}
	}
	// A token on a stronger level replaces one of either form on a weaker.
	if from := origins["join.token"]; from != "" && cfg.Join.TokenFile != "" && strength(from) > strength(origins["join.token_file"]) {
		cfg.Join.TokenFile = ""
	} else if from := origins["join.token_file"]; from != "" && cfg.Join.Token != "" && strength(from) > strength(origins["join.token"]) {
		cfg.Join.Token = ""
	}
	if len(mistakes) > 0 {
		return cfg, errors.Join(mistakes...)
	}
	cfg.Defaults()
	return cfg, withOrigins(cfg.Validate(), origins)
}

// strength orders origins: file, environment, flag.
func strength(origin string) int {
	switch {
	case strings.HasPrefix(origin, "flag "):
		return 2
	case strings.HasPrefix(origin, "environment "):
		return 1
	}
	return 0
}

// withOrigins tells for each wrong setting where its value came from.
func withOrigins(err error, origins map[string]string) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, withOrigins(e, origins))
		}
		return errors.Join(out...)
	}
	var wrong *server.SettingError
	if errors.As(err, &wrong) && wrong.Origin == "" {
		placed := *wrong
		placed.Origin = origins[wrong.Key]
		if block, _, inside := cutLast(wrong.Key, "."); inside && placed.Origin == "" {
			placed.Origin = origins[block] // what is missing has the place of its block
		}
		return &placed
	}
	return err
}

// readFileNamed reads a file and keeps the reason short.
func readFileNamed(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return b, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
