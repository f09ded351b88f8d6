package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// NodeMeta is what a node spreads about itself by gossip. It is a rumour: it
// finds nodes and feeds displays, and decides nothing that must be right.
type NodeMeta struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	ID          string
	PeerAddress string // Raft and node-to-node calls
	APIAddress  string
	Unsealed    bool
	Version     string
	Applied     uint64 // coarse: as of the last UpdateMeta
	// GossipAddress is where others can join gossip through this node.
	GossipAddress string
	// Disowned are the ids, separated by spaces, of nodes that are up but that
	// this node, a leader, knows to be no members.
	Disowned string
}

// GossipConfig is what gossip is made of. Zero means the stated default; fields
// without one are required.
type GossipConfig struct {
	Meta NodeMeta
	// Key encrypts and authenticates every message: 32 bytes, the same on all nodes.
	Key []byte
	// Bind is the address to listen at (UDP and TCP), as host:port. Unused
	// with Transport.
	Bind string
	// Advertise is what others reach this node's gossip at. Zero: Bind.
	Advertise string
	// Transport replaces the network, for simulations.
	Transport memberlist.NodeAwareTransport
	Local     bool         // timings for nodes on one machine
	Logger    *slog.Logger // zero: discards
	// Changed is called, soon after, when what is known of the nodes changed.
	// It must not block.
	Changed func()
}

// ErrGossipMeta: the node's meta does not fit in gossip's 512 bytes.
var ErrGossipMeta = errors.New("node meta is too long for gossip")

// Gossip finds the other nodes from one that is reachable and spreads where
// they are and how they do. It takes no part in consensus.
type Gossip struct {
	list    *memberlist.Memberlist
	changed func()

	mu    sync.Mutex
	meta  NodeMeta
	nodes map[string]NodeMeta // by id; the nodes that are alive, this one too
}

// StartGossip begins to listen. Nobody is known until Join, or until another joins.
func StartGossip(cfg GossipConfig) (*Gossip, error) {
	if len(cfg.Key) != 32 {
		return nil, fmt.Errorf("starting gossip: the key has %d bytes, want 32", len(cfg.Key))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gossip{meta: cfg.Meta, nodes: map[string]NodeMeta{}, changed: cfg.Changed}
	if _, err := encodeMeta(cfg.Meta); err != nil {
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	mc, err := gossipConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	mc.Delegate, mc.Events = gossipMeta{g}, gossipEvents{g}
	list, err := memberlist.Create(mc)
	if err != nil {
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	g.list = list
	return g, nil
}

func gossipConfig(cfg GossipConfig) (*memberlist.Config, error) {
	mc := memberlist.DefaultLANConfig()
	if cfg.Local {
		mc = memberlist.DefaultLocalConfig()
	}
	mc.Name = cfg.Meta.ID
	mc.SecretKey = cfg.Key
	mc.GossipVerifyIncoming, mc.GossipVerifyOutgoing = true, true
	mc.Logger = log.New(lineWriter{func(line string) { cfg.Logger.Debug(line, "part", "gossip") }}, "", 0)
	// A restarted node comes back under its id and may have another address.
	mc.DeadNodeReclaimTime = time.Second
	if cfg.Transport != nil {
		mc.Transport = cfg.Transport
		return mc, nil
	}
	var err error
	if mc.BindAddr, mc.BindPort, err = splitAddress(cfg.Bind); err != nil {
		return nil, err
	}
	mc.AdvertisePort = mc.BindPort
	if cfg.Advertise != "" {
		if mc.AdvertiseAddr, mc.AdvertisePort, err = splitAddress(cfg.Advertise); err != nil {
			return nil, err
		}
	}
	return mc, nil
}

func splitAddress(a string) (string, int, error) {
	host, text, err := net.SplitHostPort(a)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", a, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", a, err)
	}
	return host, int(port), nil
}

// Address is where this node's gossip listens.
func (g *Gossip) Address() string { return g.list.LocalNode().Address() }

// Join asks the nodes at addresses who else there is, and returns when one of
// them has answered. It may be called again, and ends with ctx at the latest;
// the attempt under way then ends by itself.
func (g *Gossip) Join(ctx context.Context, addresses []string) error {
	type result struct {
		reached int
		err     error
	}
	done := make(chan result, 1)
	go func() {
		n, err := g.list.Join(addresses)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		if r.reached == 0 && len(addresses) > 0 {
			return fmt.Errorf("joining gossip: %w", errors.Join(errors.New("no node answered"), r.err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("joining gossip: %w", context.Cause(ctx))
	}
}

// Members lists what is known of the nodes that are alive, by id, this one too.
func (g *Gossip) Members() []NodeMeta {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]NodeMeta, 0, len(g.nodes))
	for _, m := range g.nodes {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b NodeMeta) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}

// PeerAddress is the newest peer address of the node id, while it is alive. It
// serves as Config.Addresses: a node that moved is found before the membership
// learns of it. The peer's certificate, not gossip, proves who is there.
func (g *Gossip) PeerAddress(id string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.nodes[id]
	return m.PeerAddress, ok && m.PeerAddress != ""
}

// UpdateMeta changes what this node spreads. The id stays. It returns when the
// change is on its way, or with ctx's error.
func (g *Gossip) UpdateMeta(ctx context.Context, change func(*NodeMeta)) error {
	g.mu.Lock()
	next := g.meta
	change(&next)
	next.ID = g.meta.ID
	if _, err := encodeMeta(next); err != nil {
		g.mu.Unlock()
		return err
	}
	same := next == g.meta
	g.meta = next
	g.mu.Unlock()
	if same {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- g.list.UpdateNode(gossipWait) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("spreading node meta: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("spreading node meta: %w", context.Cause(ctx))
	}
}

// Heard implements Rumours.
func (g *Gossip) Heard() []string {
	var ids []string
	for _, m := range g.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// Disown implements Rumours.
func (g *Gossip) Disown(ctx context.Context, ids []string) error {
	return g.UpdateMeta(ctx, func(m *NodeMeta) { m.Disowned = strings.Join(ids, " ") })
}

// Disowned implements Rumours.
func (g *Gossip) Disowned() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, m := range g.nodes {
		if id != g.meta.ID && slices.Contains(strings.Fields(m.Disowned), g.meta.ID) {
			return true
		}
	}
	return false
}

// gossipWait bounds how long leaving and updating wait for their message to go out.
const gossipWait = 2 * time.Second

// Leave tells the others that this node goes on purpose, and stops.
func (g *Gossip) Leave() error {
	return errors.Join(g.list.Leave(gossipWait), g.list.Shutdown())
}

// Close stops without telling anybody, as a crash would.
func (g *Gossip) Close() error { return g.list.Shutdown() }

var gossipHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 512
	return h
}()

func encodeMeta(m NodeMeta) ([]byte, error) {
	var p []byte
	if err := codec.NewEncoderBytes(&p, gossipHandle).Encode(&m); err != nil {
		return nil, fmt.Errorf("encoding node meta: %w", err)
	}
	if len(p) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrGossipMeta, len(p), memberlist.MetaMaxSize)
	}
	return p, nil
}

// gossipMeta gives memberlist this node's meta; nothing else is spread.
type gossipMeta struct{ g *Gossip }

func (d gossipMeta) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	p, err := encodeMeta(d.g.meta)
	if err != nil {
		panic(fmt.Sprintf("cluster: node meta was checked when it was set: %v", err))
	}
	return p
}
func (gossipMeta) NotifyMsg([]byte)                {}
func (gossipMeta) GetBroadcasts(int, int) [][]byte { return nil }
func (gossipMeta) LocalState(bool) []byte          { return nil }
func (gossipMeta) MergeRemoteState([]byte, bool)   {}

// gossipEvents keeps Gossip.nodes. memberlist calls it one event at a time.
type gossipEvents struct{ g *Gossip }

func (e gossipEvents) NotifyJoin(n *memberlist.Node)   { e.learn(n) }
func (e gossipEvents) NotifyUpdate(n *memberlist.Node) { e.learn(n) }

func (e gossipEvents) NotifyLeave(n *memberlist.Node) {
	e.g.mu.Lock()
	delete(e.g.nodes, n.Name)
	e.g.mu.Unlock()
	e.tell()
}

// learn takes a node's meta. One that cannot be read, or claims to be of another
// node, leaves the node unknown.
func (e gossipEvents) learn(n *memberlist.Node) {
	var m NodeMeta
	err := codec.NewDecoderBytes(n.Meta, gossipHandle).Decode(&m)
	e.g.mu.Lock()
	if err == nil && m.ID == n.Name {
		e.g.nodes[n.Name] = m
	} else {
		delete(e.g.nodes, n.Name)
	}
	e.g.mu.Unlock()
	e.tell()
}

func (e gossipEvents) tell() {
	if e.g.changed != nil {
		e.g.changed()
	}
}
