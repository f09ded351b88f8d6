// Package testpostgres runs a PostgreSQL server of its own for tests, from the programs of
// the Debian packages, on a free port of loopback, with TLS, and logging every statement.
//
// It never touches a server of somebody else, and ends its own by its process id. Where
// the programs are missing, tests are skipped; scripts/test-deps installs them. Start at
// Main and Get.
package testpostgres

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the name of the server's first user.
const Superuser = "admin"

// Server is a running server.
type Server struct {
	Port     int
	Password string // of Superuser
	// Authority is the certificate, in PEM, that signed the server's, which is for
	// 127.0.0.1 and localhost.
	Authority string

	dir     string
	process *exec.Cmd
	ended   chan error
}

// errMissing: PostgreSQL is not installed.
var errMissing = errors.New("PostgreSQL is not installed (scripts/test-deps installs it)")

// shared is the server of this process, started when a test first asks for it.
var shared struct {
	mu     sync.Mutex
	server *Server
	err    error
}

// Main runs the tests of a package and ends the server that they had, if any. It belongs
// into TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return code
}

// Stop ends the server of this process, if there is one.
func Stop() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		return nil
	}
	defer func() { shared.server = nil }()
	return shared.server.stop()
}

// Get returns the server of this process. Tests share it, and must not disturb each other.
func Get(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start()
	}
	if errors.Is(shared.err, errMissing) {
		t.Skip("SKIPPED, and nothing is proved: ", shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

func program(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		return "", errMissing
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

// servant is whom to run the server as: PostgreSQL refuses root. nil: as this user.
func servant() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
	}
	return nil, errors.New("there is no user to run PostgreSQL as, neither postgres nor nobody")
}

func start() (s *Server, err error) {
	initdb, err := program("initdb")
	if err != nil {
		return nil, err
	}
	postgres, err := program("postgres")
	if err != nil {
		return nil, err
	}
	as, err := servant()
	if err != nil {
		return nil, err
	}
	s = &Server{ended: make(chan error, 1)}
	if s.dir, err = os.MkdirTemp("", "testpostgres"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
			s = nil
		}
	}()
	if err := s.prepare(initdb, as); err != nil {
		return s, err
	}
	if s.Port, err = freePort(); err != nil {
		return s, err
	}
	log, err := os.Create(s.logFile())
	if err != nil {
		return s, err
	}
	defer log.Close()
	s.process = s.command(as, postgres, "-D", s.data(), "-p", strconv.Itoa(s.Port))
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		s.process = nil
		return s, err
	}
	go func() { s.ended <- s.process.Wait() }()
	return s, s.await()
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *Server) command(as *syscall.Credential, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir, c.Env = s.dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return c
}

// settings: what a test loses when the machine fails it can make again.
const settings = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 16MB
log_statement = all
log_min_duration_statement = 0
log_connections = on
ssl = on
`

// prepare makes the files of the server, all owned by whom it runs as.
func (s *Server) prepare(initdb string, as *syscall.Credential) error {
	drawn := make([]byte, 12)
	if _, err := rand.Read(drawn); err != nil {
		return err
	}
	s.Password = hex.EncodeToString(drawn)
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(s.Password), 0o600); err != nil {
		return err
	}
	if err := s.giveAway(as); err != nil {
		return err
	}
	if out, err := s.command(as, initdb, "-D", s.data(), "-U", Superuser, "--auth=scram-sha-256", "--pwfile="+passwordFile,
		"-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	certificate, key, err := s.certify()
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"server.crt": certificate, "server.key": key, "postgresql.auto.conf": []byte(settings)} {
		if err := os.WriteFile(filepath.Join(s.data(), name), text, 0o600); err != nil {
			return err
		}
	}
	return s.giveAway(as)
}

func (s *Server) giveAway(as *syscall.Credential) error {
	if as == nil {
		return nil
	}
	return filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(as.Uid), int(as.Gid))
	})
}

// certify makes an authority and a certificate of it.
func (s *Server) certify() (certificate, key []byte, err error) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testpostgres"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	own := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: from, NotAfter: to,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ownKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	rootRaw, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, err
	}
	ownRaw, err := x509.CreateCertificate(rand.Reader, own, root, &ownKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, err
	}
	keyRaw, err := x509.MarshalECPrivateKey(ownKey)
	if err != nil {
		return nil, nil, err
	}
	text := func(kind string, raw []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}) }
	s.Authority = string(text("CERTIFICATE", rootRaw))
	return text("CERTIFICATE", ownRaw), text("EC PRIVATE KEY", keyRaw), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// await waits until the server takes logins.
func (s *Server) await() error {
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := s.Login(ctx, Superuser, s.Password)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case ended := <-s.ended:
			s.process = nil
			log, logErr := os.ReadFile(s.logFile())
			return errors.Join(fmt.Errorf("PostgreSQL ended: %w\n%s", errors.Join(err, ended), log), logErr)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not come up: %w", err)
		}
	}
}

func (s *Server) stop() error {
	var err error
	if s.process != nil {
		err = s.process.Process.Signal(syscall.SIGINT) // ends sessions, then itself
		select {
		case ended := <-s.ended:
			err = errors.Join(err, ended)
		case <-time.After(time.Minute):
			err = errors.Join(err, errors.New("PostgreSQL does not end"), s.process.Process.Kill())
		}
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// URL is that of a config, for the named database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgresql://{{username}}:{{password}}@127.0.0.1:%d/%s?sslmode=require", s.Port, database)
}

// connect logs in to the database "postgres".
func (s *Server) connect(ctx context.Context, name, password string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, strings.NewReplacer("{{username}}", name, "{{password}}", password).Replace(s.URL("postgres")))
}

// Login tells whether a user can log in.
func (s *Server) Login(ctx context.Context, name, password string) error {
	c, err := s.connect(ctx, name, password)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// Session is a session of a user, which ends with the test.
func (s *Server) Session(t testing.TB, name, password string) *pgx.Conn {
	t.Helper()
	c, err := s.connect(t.Context(), name, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) }) // it may have been ended
	return c
}

// Exec runs statements as the superuser.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	c := s.Session(t, Superuser, s.Password)
	for _, statement := range statements {
		if _, err := c.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Users are the names of the users like a pattern, sorted.
func (s *Server) Users(t testing.TB, like string) []string {
	t.Helper()
	rows, err := s.Session(t, Superuser, s.Password).Query(t.Context(), "SELECT rolname FROM pg_roles WHERE rolname LIKE $1 ORDER BY 1", like)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Logged tells whether the server's log has a text.
func (s *Server) Logged(t testing.TB, text string) bool {
	t.Helper()
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(log, []byte(text))
}
