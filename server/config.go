package server

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/core"
)

// A Config is everything that can be set about a node. Zero means the stated
// default. Errors name settings as configuration files do: "api.address".
type Config struct {
	// DataDir holds everything that survives a restart. Required.
	DataDir string
	// NodeName is what operators call this node. Empty: its id.
	NodeName string
	API      APIConfig
	HTTP     HTTPConfig
	Audit    AuditConfig
	Peer     ListenConfig // Raft and node-to-node calls. Default 127.0.0.1:8201
	Gossip   ListenConfig // discovery. Default 127.0.0.1:8202
	Join     JoinConfig
	Limits   LimitsConfig
	Raft     RaftConfig
	Log      LogConfig
	// ShutdownTimeout bounds a clean stop; after it, calls in progress are cut.
	// Zero: 10 s.
	ShutdownTimeout time.Duration

	// Catalog is what can be mounted on this node: what the binary carries.
	Catalog core.Catalog
}

// A ListenConfig is an address to listen on and the one that others dial.
type ListenConfig struct {
	// Address is HOST:PORT to listen on. Port 0 picks a free one.
	Address string
	// Advertise is the HOST:PORT that others dial. Empty: the one listened on,
	// which must then not be a wildcard.
	Advertise string
}

// An APIConfig is the public gRPC API. Default 127.0.0.1:8210.
type APIConfig struct {
	ListenConfig
	// TLSCertFile and TLSKeyFile replace the certificate from the cluster's own
	// authority, and are read again when they change. Both or none.
	TLSCertFile string
	TLSKeyFile  string
}

// A JoinConfig says which cluster an empty data directory joins. It is ignored
// by a node that already belongs to one.
type JoinConfig struct {
	// Addresses are HOST:PORT of the API of unsealed nodes.
	Addresses []string
	// Token proves that the node may join. It can be given by flag or
	// environment, but a file's setting is TokenFile.
	Token JoinToken
	// TokenFile is a file that holds the token.
	TokenFile string
}

// A JoinToken prints as redacted.
type JoinToken string

// Format prints a redacted token for every verb. There is nobody to tell about
// a failed write.
func (JoinToken) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalText marshals a redacted token.
func (JoinToken) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Reveal returns the text of the token. Whoever calls it must not log it.
func (t JoinToken) Reveal() string { return string(t) }

// A LimitsConfig bounds what callers may ask for.
type LimitsConfig struct {
	MaxValueBytes int // of all fields of a secret together. Zero: 1 MiB
	MaxPathBytes  int // Zero: 1024
	MaxInFlight   int // calls at a time; more are refused as overload. Zero: 4096
}

// A RaftConfig tunes the consensus. The defaults suit one data centre.
type RaftConfig struct {
	// Heartbeat is a follower's patience with a silent leader, and a
	// candidate's. A killed leader stops writers for about twice as long, three
	// times at worst. Zero: 300 ms.
	Heartbeat         time.Duration
	SnapshotThreshold uint64        // entries between snapshots. Zero: 8192
	SnapshotInterval  time.Duration // how often that is looked at. Zero: 30 s
	// PromoteAfter is how long a caught-up non-voter must be stable before it
	// becomes a voter. Zero: 10 s.
	PromoteAfter time.Duration

	// CleanupDeadServers has the leader remove members that have not answered it
	// for DeadServerThreshold. Off by default, as in Vault: a removed node does
	// not come back by itself, so an outage that ends late would cost nodes that
	// a restart would have brought back. Set it, and the next two, alike on all
	// nodes; the leader's count.
	CleanupDeadServers bool
	// DeadServerThreshold is counted from the start of the leader's term at the
	// earliest. Zero: 24 h. Negative: nobody is ever removed.
	DeadServerThreshold time.Duration
	// MinQuorum is how many voters the cleanup leaves at least. Zero: 3.
	MinQuorum int
}

// deadAfter is the silence after which a member is removed; 0: never.
func (c RaftConfig) deadAfter() time.Duration {
	if !c.CleanupDeadServers || c.DeadServerThreshold < 0 {
		return 0
	}
	return c.DeadServerThreshold
}

// A LogConfig says what is logged and how.
type LogConfig struct {
	Level  string // debug, info, warn or error. Empty: info
	Format string // text or json. Empty: text
}

// Defaults fills every field that is zero.
func (c *Config) Defaults() {
	def(&c.API.Address, "127.0.0.1:8210")
	def(&c.HTTP.Address, "127.0.0.1:8200")
	def(&c.HTTP.ReportedVersion, reportedVersion)
	c.Audit.defaults(c.DataDir)
	def(&c.Peer.Address, "127.0.0.1:8201")
	def(&c.Gossip.Address, "127.0.0.1:8202")
	def(&c.Limits.MaxValueBytes, 1<<20)
	def(&c.Limits.MaxPathBytes, 1024)
	def(&c.Limits.MaxInFlight, 4096)
	def(&c.Raft.Heartbeat, 300*time.Millisecond)
	def(&c.Raft.SnapshotThreshold, 8192)
	def(&c.Raft.SnapshotInterval, 30*time.Second)
	def(&c.Raft.PromoteAfter, 10*time.Second)
	def(&c.Raft.DeadServerThreshold, 24*time.Hour)
	def(&c.Raft.MinQuorum, minQuorumLeast)
	def(&c.Log.Level, "info")
	def(&c.Log.Format, "text")
	def(&c.ShutdownTimeout, 10*time.Second)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A SettingError says which setting is wrong and what is allowed.
type SettingError struct {
	Key     string // as in a file: "api.address"
	Problem string // "must be …"
	// Origin is where the value came from, when it is known: a place in a file,
	// a flag or a variable.
	Origin string
}

func (e *SettingError) Error() string {
	if e.Origin == "" {
		return e.Key + " " + e.Problem
	}
	return e.Origin + ": " + e.Key + " " + e.Problem
}

// Validate checks a configuration after Defaults. It reports every wrong
// setting, joined; each is a *SettingError.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, &SettingError{Key: key, Problem: fmt.Sprintf(format, args...)})
	}
	if c.DataDir == "" {
		wrong("data_dir", "must be set: the directory in which the node keeps everything")
	}
	c.validateAddresses(wrong)
	c.validateJoin(wrong)
	c.validateNumbers(wrong)
	c.Audit.validate(wrong)
	if !oneOf(c.Log.Level, "debug", "info", "warn", "error") {
		wrong("log.level", "must be debug, info, warn or error, not %q", c.Log.Level)
	}
	if !oneOf(c.Log.Format, "text", "json") {
		wrong("log.format", "must be text or json, not %q", c.Log.Format)
	}
	return errors.Join(errs...)
}

type complaint func(key, format string, args ...any)

func (c *Config) validateAddresses(wrong complaint) {
	for _, l := range []struct {
		key string
		ListenConfig
	}{{"api", c.API.ListenConfig}, {"peer", c.Peer}, {"gossip", c.Gossip}} {
		host, ok := hostPort(l.Address, true)
		if !ok {
			wrong(l.key+".address", "must be HOST:PORT, not %q", l.Address)
			continue
		}
		if l.Advertise != "" {
			if h, ok := hostPort(l.Advertise, false); !ok || wildcard(h) {
				wrong(l.key+".advertise", "must be a HOST:PORT that other machines can dial, not %q", l.Advertise)
			}
		} else if wildcard(host) {
			wrong(l.key+".advertise", "must be set, because %s.address %q is no address that others can dial", l.key, l.Address)
		}
	}
	c.HTTP.validate(wrong)
	if (c.API.TLSCertFile == "") != (c.API.TLSKeyFile == "") {
		wrong("api.tls_cert_file", "and api.tls_key_file must be set together")
	}
}

func (c *Config) validateJoin(wrong complaint) {
	for _, a := range c.Join.Addresses {
		if host, ok := hostPort(a, false); !ok || wildcard(host) {
			wrong("join.addresses", "must be HOST:PORT of the API of unsealed nodes, not %q", a)
		}
	}
	if c.Join.Token != "" && c.Join.TokenFile != "" {
		wrong("join.token_file", "must not be set together with a join token")
	}
	if (c.Join.TokenFile != "" || c.Join.Token != "") && len(c.Join.Addresses) == 0 {
		wrong("join.addresses", "must be set when a join token is")
	}
}

// Bounds of numbers. The value bound keeps a batch well inside one peer frame.
const (
	maxValueBytesMost = 16 << 20
	maxPathBytesMost  = 16 << 10
	heartbeatLeast    = 20 * time.Millisecond
	// The library refuses shorter ones.
	snapshotIntervalLeast = 5 * time.Millisecond
	// Shorter, a restart of a machine would look like its death.
	deadServerLeast = time.Minute
	// With fewer voters the next failure stops the cluster.
	minQuorumLeast = 3
)

func (c *Config) validateNumbers(wrong complaint) {
	if n := c.Limits.MaxValueBytes; n < 1 || n > maxValueBytesMost {
		wrong("limits.max_value_bytes", "must be from 1 to %d, not %d", maxValueBytesMost, n)
	}
	if n := c.Limits.MaxPathBytes; n < 1 || n > maxPathBytesMost {
		wrong("limits.max_path_bytes", "must be from 1 to %d, not %d", maxPathBytesMost, n)
	}
	if n := c.Limits.MaxInFlight; n < 1 {
		wrong("limits.max_in_flight", "must be 1 or more, not %d", n)
	}
	if d := c.Raft.Heartbeat; d < heartbeatLeast {
		wrong("raft.heartbeat", "must be %v or more, not %v", heartbeatLeast, d)
	}
	if d := c.Raft.SnapshotInterval; d < snapshotIntervalLeast {
		wrong("raft.snapshot_interval", "must be %v or more, not %v", snapshotIntervalLeast, d)
	}
	if d := c.Raft.PromoteAfter; d < 0 {
		wrong("raft.promote_after", "must not be negative, not %v", d)
	}
	if d := c.Raft.DeadServerThreshold; d >= 0 && d < deadServerLeast {
		wrong("raft.dead_server_threshold", "must be %v or more, or 0 for never, not %v", deadServerLeast, d)
	}
	if n := c.Raft.MinQuorum; n < minQuorumLeast {
		wrong("raft.min_quorum", "must be %d or more, not %d", minQuorumLeast, n)
	}
	if d := c.ShutdownTimeout; d < 0 {
		wrong("shutdown_timeout", "must not be negative, not %v", d)
	}
}

func oneOf(s string, allowed ...string) bool { return slices.Contains(allowed, s) }

// hostPort splits an address and says whether it is well-formed.
func hostPort(address string, zeroPort bool) (host string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return host, err == nil && (n > 0 || zeroPort)
}

func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || (ip != nil && ip.IsUnspecified())
}

// CAPath is where a node writes the certificate of the authority that clients
// must trust: its own at first, the cluster's from init or join on.
func (c *Config) CAPath() string { return filepath.Join(c.DataDir, "ca.pem") }

// ReadToken returns the join token, from the file when it was named by one. It
// is for the moment of joining: a node that already belongs to a cluster must
// start although that file is long gone.
func (j JoinConfig) ReadToken(readFile func(string) ([]byte, error)) (JoinToken, error) {
	if j.TokenFile == "" {
		return j.Token, nil
	}
	text, err := readFile(j.TokenFile)
	if err != nil {
		return "", fmt.Errorf("reading join.token_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", &SettingError{Key: "join.token_file", Problem: fmt.Sprintf("%s is empty", j.TokenFile)}
	}
	return JoinToken(token), nil
}
