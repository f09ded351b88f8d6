package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/conclave-secrets/conclave/storage/vfs"
	"github.com/conclave-secrets/conclave/transport/grpc"
)

// Version is the version of this build. The linker may set it.
var Version = "0.1.0-dev"

// Node is a running node. It serves its API from the start; what it can answer
// depends on its life: an empty node can be initialised, a sealed one unsealed.
type Node struct {
	cfg       Config
	logger    *slog.Logger
	repeats   *repeats // of logger
	lock      *os.File
	creds     *credentials
	listeners listeners
	http      *httpServer // nil: none
	api       *grpc.Server

	changing sync.Mutex // one founding or joining at a time

	mu     sync.Mutex
	id     *identity // guarded by mu; swapped whole
	member *member   // guarded by mu; nil until the node belongs to a cluster
	renew  *renewal  // guarded by mu; of member

	fatal  chan error // capacity 1
	served chan error // capacity 1: what ended the API
	closed chan struct{}
	once   sync.Once
}

// listeners are the node's ports. Gossip binds its own, TCP and UDP, later.
type listeners struct {
	api, peer net.Listener
	gossip    string
}

// Start starts a node and returns when it serves: as a member if its data
// directory says so, after joining if the configuration says so, or else empty,
// waiting to be initialised. ctx bounds the start, not the node's life.
func Start(ctx context.Context, cfg Config, logger *slog.Logger) (n *Node, err error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	repeats := newRepeats(afterFunc)
	logger = repeats.logger(logger)
	n = &Node{cfg: cfg, logger: logger, repeats: repeats, fatal: make(chan error, 1), served: make(chan error, 1), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			if cerr := n.Close(); cerr != nil {
				logger.Debug("closing after a failed start", "error", cerr) // mostly the same again
			}
			n = nil
		}
	}()
	if err := n.openDataDir(); err != nil {
		return n, err
	}
	if err := n.listen(); err != nil {
		return n, err
	}
	if n.creds, err = newCredentials(n.id, n.cfg, n.logger); err != nil {
		return n, err
	}
	if err := n.publishAuthority(); err != nil {
		return n, err
	}
	n.api = grpc.New(grpc.Options{TLS: n.creds.forClients(), Node: n, Logger: logger.With("part", "api"),
		MaxInFlight: n.cfg.Limits.MaxInFlight, MaxMessageBytes: n.cfg.Limits.MaxValueBytes + (1 << 20)})
	switch {
	case n.id.member():
		err = n.openMember(ctx, n.id, false)
	case len(cfg.Join.Addresses) > 0:
		err = n.join(ctx)
	}
	if err != nil {
		return n, err
	}
	n.serveHTTP()
	go func() { n.served <- n.api.Serve(n.listeners.api) }()
	logger.Info("node serves", "node", n.id.NodeID, "api", n.APIAddress(), "member", n.id.member(), "version", Version)
	return n, nil
}

// openDataDir takes the data directory for this process alone and reads who the
// node is.
func (n *Node) openDataDir() error {
	dir := n.cfg.DataDir
	if err := vfs.MkdirAllSync(vfs.Default, dir); err != nil {
		return &DataDirError{dir, fmt.Sprintf("cannot be created: %v", err), "check the path and who may write there"}
	}
	if err := keepPrivate(dir, n.logger); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("locking data directory: %w", err)
	}
	n.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return &DataDirError{dir, "is in use by another process", "stop the other conclave server, or choose another data directory"}
	}
	if fast, err := vfs.FastCommit(dir); err != nil {
		n.logger.Warn("could not look at the file system of the data directory", "error", err)
	} else if fast {
		n.logger.Warn("the data directory lies on ext4 with fast_commit, under which the log can be damaged by a power cut; turn it off with tune2fs -O ^fast_commit")
	}
	if n.id, err = loadIdentity(dir); err != nil {
		return err
	}
	if err := n.id.takeRenewed(dir); err != nil {
		// The one in identity.json will do, or be renewed again.
		n.logger.Warn("the renewed certificate of the data directory cannot be used", "file", certificateFile, "error", err)
	}
	return nil
}

// A PortError says which address cannot be listened on.
type PortError struct {
	Setting string // as in a file: "api.address"
	Address string
	Cause   error
}

func (e *PortError) Error() string {
	return fmt.Sprintf("cannot listen on %s (%s): %v", e.Address, e.Setting, e.Cause)
}

func (e *PortError) Unwrap() error { return e.Cause }

// listen takes the ports before anything else starts, so that one in use is
// told at once. Addresses with port 0 become known here.
func (n *Node) listen() (err error) {
	open := func(setting, address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, &PortError{setting, address, errors.Unwrap(err)}
		}
		return l, nil
	}
	if n.listeners.api, err = open("api.address", n.cfg.API.Address); err != nil {
		return err
	}
	if err := n.openHTTP(); err != nil {
		return err
	}
	if n.listeners.peer, err = open("peer.address", n.cfg.Peer.Address); err != nil {
		return err
	}
	probe, err := open("gossip.address", n.cfg.Gossip.Address)
	if err != nil {
		return err
	}
	n.listeners.gossip = probe.Addr().String()
	if err := probe.Close(); err != nil {
		return fmt.Errorf("probing gossip.address: %w", err)
	}
	if err := probeUDP(n.listeners.gossip); err != nil {
		return err
	}
	n.cfg.API.Advertise = advertised(n.cfg.API.ListenConfig, n.listeners.api.Addr())
	n.cfg.Peer.Advertise = advertised(n.cfg.Peer, n.listeners.peer.Addr())
	return nil
}

// probeUDP tries whether gossip will get its other port.
func probeUDP(address string) error {
	probe, err := net.ListenPacket("udp", address)
	if err != nil {
		return &PortError{"gossip.address", address, errors.Unwrap(err)}
	}
	if err := probe.Close(); err != nil {
		return fmt.Errorf("probing gossip.address: %w", err)
	}
	return nil
}

// advertised is what others dial to reach a listener.
func advertised(cfg ListenConfig, bound net.Addr) string {
	if cfg.Advertise != "" {
		return cfg.Advertise
	}
	return bound.String()
}

// publishAuthority writes what clients of this node must trust.
func (n *Node) publishAuthority() error {
	path := filepath.Join(n.cfg.DataDir, authorityPEM)
	if err := vfs.AtomicWrite(vfs.Default, path, n.creds.trusted()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// openMember opens the rooms for id and takes them in.
func (n *Node) openMember(ctx context.Context, id *identity, found bool) error {
	m, err := openMember(ctx, n.cfg, id, n.creds, n.listeners, n.logger, found, n.fail)
	if err != nil {
		return err
	}
	r := n.startRenewal(m)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id, n.member, n.renew = id, m, r
	return nil
}

// fail notes what the node cannot survive. The first counts; Wait returns it.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

func (n *Node) current() (*identity, *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id, n.member
}

// APIAddress is the address that the API listens on.
func (n *Node) APIAddress() string { return n.listeners.api.Addr().String() }

// Wait returns what the node could not survive, or nil once it was closed.
func (n *Node) Wait() error {
	select {
	case err := <-n.fatal:
		return err
	case err := <-n.served:
		return err
	case <-n.closed:
		return nil
	}
}

// Close stops the node: it finishes calls in progress, hands leadership over,
// wipes the keys and closes the files. Closing again changes nothing.
func (n *Node) Close() (err error) {
	n.once.Do(func() {
		close(n.closed)
		err = n.shutDown()
	})
	return err
}

func (n *Node) shutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownTimeout)
	defer cancel()
	var errs []error
	errs = append(errs, n.http.close(ctx))
	if n.api != nil {
		n.api.Close(ctx)
	}
	if _, m := n.current(); m != nil {
		errs = append(errs, m.close())
	} else if n.listeners.peer != nil {
		errs = append(errs, ignoreClosed(n.listeners.peer.Close()))
	}
	if n.listeners.api != nil {
		errs = append(errs, ignoreClosed(n.listeners.api.Close()))
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	n.repeats.close()
	return errors.Join(errs...)
}

// ignoreClosed drops the complaint about a listener that its user has closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
