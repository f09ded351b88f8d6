package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/transport/grpc"
)

// This file is the node as its API sees it: grpc.Node.

func refuse(reason conclavev1.Reason, message, hint string) *core.Error {
	return &core.Error{Reason: reason, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, Message: message, Hint: hint}
}

func errNotInitialized() *core.Error {
	return refuse(conclavev1.Reason_REASON_NOT_INITIALIZED, "this node belongs to no cluster yet", "found one with conclave operator init, or start it with --join")
}

// membership returns the rooms of a member.
func (n *Node) membership() (*member, error) {
	if _, m := n.current(); m != nil {
		return m, nil
	}
	return nil, errNotInitialized()
}

// Rooms implements grpc.Node.
func (n *Node) Rooms() (*grpc.Rooms, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	return m.rooms, nil
}

// sealConfig reads the seal configuration from what this node has applied.
func (m *member) sealConfig() (cfg seal.Config, ok bool, err error) {
	v, err := m.machine.View()
	if err != nil {
		return cfg, false, err
	}
	cfg, ok, err = core.ReadSealConfig(v)
	return cfg, ok, errors.Join(err, v.Close())
}

// Status implements grpc.Node. It needs no credential and shows no name.
func (n *Node) Status(context.Context) (*conclavev1.GetStatusResponse, error) {
	id, m := n.current()
	s := &conclavev1.GetStatusResponse{NodeId: id.NodeID, Version: Version, Sealed: true, Role: "uninitialized"}
	if m == nil {
		return s, nil
	}
	cfg, ok, err := m.sealConfig()
	if err != nil {
		return nil, err
	}
	s.Initialized, s.ClusterId, s.Sealed = true, id.Cluster, m.gate.Sealed()
	if ok {
		s.Shares, s.Threshold, s.ShareGeneration = uint32(cfg.Shares), uint32(cfg.Threshold()), cfg.Generation
		for _, i := range m.gate.Progress(cfg).Indexes {
			s.ShareIndexes = append(s.ShareIndexes, uint32(i))
		}
	}
	stats := m.node.Stats()
	s.Role, s.Term, s.CommitIndex = m.role(stats), stats.Term, stats.Commit
	s.LeaderId = stats.Leader.ID
	if meta, ok := m.heard()[stats.Leader.ID]; ok {
		s.LeaderApiAddress = meta.APIAddress
	}
	index, hash := m.machine.StateHash()
	s.AppliedIndex, s.StateHash = index, hex.EncodeToString(hash[:])
	return s, nil
}

// role says what the node is in the cluster, in lower case.
func (m *member) role(s cluster.Stats) string {
	for _, other := range m.node.Members() {
		if other.ID == m.id.NodeID && !other.Voter {
			return "non-voter"
		}
	}
	return strings.ToLower(s.State)
}

// heard is what gossip knows of the nodes that are alive, by id.
func (m *member) heard() map[string]cluster.NodeMeta {
	all := map[string]cluster.NodeMeta{}
	for _, meta := range m.gossip.Members() {
		all[meta.ID] = meta
	}
	return all
}

// Unseal implements grpc.Node: one step of the ceremony on this node.
func (n *Node) Unseal(ctx context.Context, r *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	cfg, ok, err := m.sealConfig()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(conclavev1.Reason_REASON_NO_LEADER, "this node has not received the cluster's state yet", "try again when it has caught up: conclave status")
	}
	if r.Reset_ {
		m.gate.Reset()
	}
	var progress seal.Progress
	if r.Share != "" {
		if progress, err = m.gate.Submit(cfg, r.Share); err != nil {
			return nil, err
		}
	} else {
		progress = m.gate.Progress(cfg)
	}
	resp := &conclavev1.UnsealResponse{Sealed: m.gate.Sealed(), Threshold: uint32(cfg.Threshold())}
	for _, i := range progress.Indexes {
		resp.ShareIndexes = append(resp.ShareIndexes, uint32(i))
	}
	if !resp.Sealed {
		n.showSealed(ctx, m, false)
		n.lookAtCertificate()
	}
	return resp, nil
}

// lookAtCertificate has the renewal make use of the keys that are there now.
func (n *Node) lookAtCertificate() {
	n.mu.Lock()
	r := n.renew
	n.mu.Unlock()
	if r != nil {
		r.lookNow()
	}
}

// Seal implements grpc.Node. It works without a quorum.
func (n *Node) Seal(ctx context.Context, c core.Caller) error {
	m, err := n.membership()
	if err != nil {
		return err
	}
	if _, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/seal", Capability: policy.CapabilityUpdate, Sudo: true}); err != nil {
		return err
	}
	m.anchor(ctx, anchorLastTime) // the keys that would do it later are about to go
	if err := m.gate.Close(); err != nil {
		return err
	}
	// What requests left on the heap goes back to the system, which hands it
	// out zeroed; pages that are still in use keep what is on them.
	debug.FreeOSMemory()
	n.showSealed(ctx, m, true)
	return nil
}

// showSealed tells health checks and the other nodes.
func (n *Node) showSealed(ctx context.Context, m *member, sealed bool) {
	n.api.SetServing(!sealed)
	n.logger.Info("seal changed", "node", m.id.NodeID, "sealed", sealed)
	if err := m.gossip.UpdateMeta(ctx, func(meta *cluster.NodeMeta) { meta.Unsealed = !sealed }); err != nil {
		n.logger.Warn("the other nodes were not told of the seal", "error", err)
	}
}

// admissionTime bounds a change of the membership.
const admissionTime = 15 * time.Second

// Join implements grpc.Node: it takes a new node in. The token is spent first;
// a node that is then not taken in needs a new one.
func (n *Node) Join(ctx context.Context, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	answer, err := m.rooms.Admission.Admit(ctx, r, func() error { return m.addressFree(r.PeerAddress) })
	if err != nil {
		return nil, err
	}
	if err := m.change(ctx, cluster.Change{Kind: cluster.ChangeAdd, ID: r.NodeId, Address: r.PeerAddress}); err != nil {
		return nil, err
	}
	for _, meta := range m.gossip.Members() {
		answer.Members = append(answer.Members, &conclavev1.Member{Id: meta.ID, PeerAddress: meta.PeerAddress,
			ApiAddress: meta.APIAddress, GossipAddress: meta.GossipAddress})
	}
	n.logger.Info("node admitted", "node", r.NodeId, "peer", r.PeerAddress)
	return answer, nil
}

// addressFree refuses the peer address of a member: Raft would, but only after
// the token is spent. It is the usual mistake when a node's directory was lost.
func (m *member) addressFree(address string) error {
	for _, other := range m.node.Members() {
		if other.Address == address {
			return refuse(conclavev1.Reason_REASON_CONFLICT, fmt.Sprintf("member %s has the peer address %s already", other.ID, address),
				"if that node is gone for good, take it out with conclave operator remove "+other.ID+", and start this one again; or give this one another peer.address")
		}
	}
	return nil
}

// change makes a change of the cluster, whoever leads. Its errors are explained.
func (m *member) change(ctx context.Context, c cluster.Change) error {
	ctx, cancel := context.WithTimeout(ctx, admissionTime)
	defer cancel()
	return explainChange(m.node.Change(ctx, c))
}

// explainChange says why a change of membership failed.
func explainChange(err error) error {
	switch {
	case errors.Is(err, cluster.ErrUnknownMember):
		return refuse(conclavev1.Reason_REASON_NOT_FOUND, "no member has this id", "see the members with 'conclave operator members'")
	case errors.Is(err, cluster.ErrUnsafe):
		return refuse(conclavev1.Reason_REASON_UNSAFE, "this would leave too few live voters for a quorum", "bring the other nodes back first, or add one")
	case errors.Is(err, cluster.ErrNoTarget):
		return refuse(conclavev1.Reason_REASON_UNSAFE, "no voter is fit to take over leadership", "see conclave operator members for who is behind or unreachable")
	case errors.Is(err, cluster.ErrTransferRunning), errors.Is(err, cluster.ErrMembershipMoved):
		return refuse(conclavev1.Reason_REASON_CONFLICT, "another change of the cluster is under way", "try again")
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrNoLeader), errors.Is(err, context.DeadlineExceeded):
		return refuse(conclavev1.Reason_REASON_NO_LEADER, "no leader carried out the change", "try again; conclave operator members shows who runs")
	}
	return err
}

// Members implements grpc.Node. It works without a leader: that is when one
// looks at it.
func (n *Node) Members(ctx context.Context, c core.Caller) (*conclavev1.MembersResponse, error) {
	m, err := n.membership()
	if err != nil {
		return nil, err
	}
	if _, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/members", Capability: policy.CapabilityRead, Sudo: true}); err != nil {
		return nil, err
	}
	resp := &conclavev1.MembersResponse{Members: m.askMembers(ctx)}
	resp.Index, _ = m.machine.Applied()
	var ahead uint64
	for _, other := range resp.Members {
		ahead = max(ahead, other.AppliedIndex)
	}
	for _, other := range resp.Members {
		if other.Alive {
			other.Lag = ahead - other.AppliedIndex
		}
	}
	return resp, nil
}

// askTime bounds how long a member is waited for when it is asked how it does.
const askTime = time.Second

// askMembers asks every member how it does, all at once.
func (m *member) askMembers(ctx context.Context) []*conclavev1.Member {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	rumours := m.heard()
	var group sync.WaitGroup
	var all []*conclavev1.Member
	for _, other := range m.node.Members() {
		meta := rumours[other.ID]
		out := &conclavev1.Member{Id: other.ID, PeerAddress: other.Address, ApiAddress: meta.APIAddress,
			GossipAddress: meta.GossipAddress, Voter: other.Voter, Leader: other.Leader, Sealed: true, Version: meta.Version}
		all = append(all, out)
		group.Go(func() {
			status, err := m.ask(ctx, other.Peer)
			if err != nil {
				return // not alive, as far as this node can tell
			}
			out.Alive, out.Sealed, out.AppliedIndex, out.Version = true, !status.Unsealed, status.Applied, status.Version
		})
	}
	group.Wait()
	slices.SortFunc(all, func(a, b *conclavev1.Member) int { return strings.Compare(a.Id, b.Id) })
	return all
}

func (m *member) ask(ctx context.Context, p cluster.Peer) (cluster.Status, error) {
	if p.ID != m.id.NodeID {
		return m.transport.Status(ctx, p)
	}
	applied, _ := m.machine.Applied()
	return cluster.Status{ID: p.ID, Applied: applied, Unsealed: !m.gate.Sealed(), Version: Version}, nil
}

// RemoveMember implements grpc.Node.
func (n *Node) RemoveMember(ctx context.Context, c core.Caller, id string) error {
	m, err := n.membership()
	if err != nil {
		return err
	}
	if _, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/members/remove", Capability: policy.CapabilityUpdate, Sudo: true, Quorum: true}); err != nil {
		return err
	}
	if id == "" {
		return refuse(conclavev1.Reason_REASON_INVALID, "the id of a member is missing", "see conclave operator members")
	}
	if err := m.change(ctx, cluster.Change{Kind: cluster.ChangeRemove, ID: id}); err != nil {
		return err
	}
	m.transport.CloseRemoved()
	n.logger.Info("member removed", "node", id)
	return nil
}

// TransferLeadership implements grpc.Node.
func (n *Node) TransferLeadership(ctx context.Context, c core.Caller, id string) (string, error) {
	m, err := n.membership()
	if err != nil {
		return "", err
	}
	if _, err := m.rooms.Pipeline.Permit(ctx, c, core.Act{Path: "sys/members/transfer", Capability: policy.CapabilityUpdate, Sudo: true, Quorum: true}); err != nil {
		return "", err
	}
	if err := m.change(ctx, cluster.Change{Kind: cluster.ChangeLeader, ID: id}); err != nil {
		return "", err
	}
	return m.node.Stats().Leader.ID, nil
}
