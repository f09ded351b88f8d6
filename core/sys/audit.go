package sys

import (
	"encoding/json"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/engine"
)

// auditing is what the routes of this file need of a transaction.
type auditing interface {
	AuditSinks() []audit.Description
	AuditHash(sink, value string) (string, error)
	AuditAnchors() (map[string][]audit.Anchor, error)
}

// auditDevice is a sink in the words of the API.
type auditDevice struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Path        string            `json:"path"`
	Local       bool              `json:"local"`
}

type auditPath struct {
	Path string `path:"path" doc:"the name of a sink"`
}

type auditHashRequest struct {
	auditPath
	Input *engine.Text `json:"input" doc:"the value"`
}

type auditHash struct {
	Hash string `json:"hash" doc:"as the records of the audit log show the value"`
}

type auditAnchors struct {
	Nodes map[string][]auditAnchor `json:"nodes" doc:"by the id of the node; the oldest first"`
}

type auditAnchor struct {
	Seq  uint64     `json:"seq"`
	Hash audit.Hash `json:"hash"`
	Time time.Time  `json:"time"`
}

// auditRoutes show where the node that answers records requests, and what the ledger
// knows of all nodes' records. Nothing can be set here: sinks are each node's own
// configuration, so that no token, however mighty, can turn a record off.
func auditRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "audit", Sudo: true, Summary: "List the audit sinks of this node."}, listAudit),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "audit", Sudo: true, Summary: "List the audit sinks of this node."}, listAudit),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "audit/anchors", Summary: "List the heads of all nodes' audit logs that the ledger keeps."}, listAnchors),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "audit/{path...}", Sudo: true, Summary: "Refused: sinks are configured on each node."}, configured("enable")),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "audit/{path...}", Sudo: true, Summary: "Refused: sinks are configured on each node."}, configured("disable")),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "audit-hash/{path...}", Summary: "Hash a value as the audit log does."}, hashForAudit),
	}
}

func listAudit(c *engine.Call, _ *struct{}) (*engine.Object, error) {
	out := engine.Object{}
	for _, sink := range ask[auditing](c).AuditSinks() {
		options := map[string]string{"strictness": sink.Strictness.String()}
		for name, value := range sink.Options {
			options[name] = value
		}
		raw, err := json.Marshal(auditDevice{Type: sink.Type, Options: options, Path: sink.Name + "/"})
		if err != nil {
			return nil, err
		}
		out[sink.Name+"/"] = raw
	}
	return &out, nil
}

func listAnchors(c *engine.Call, _ *struct{}) (*auditAnchors, error) {
	nodes, err := ask[auditing](c).AuditAnchors()
	if err != nil {
		return nil, err
	}
	out := &auditAnchors{Nodes: map[string][]auditAnchor{}}
	for node, anchors := range nodes {
		for _, a := range anchors {
			out.Nodes[node] = append(out.Nodes[node], auditAnchor{a.Seq, a.Hash, a.Time})
		}
	}
	return out, nil
}

func configured(act string) func(*engine.Call, *auditPath) (*none, error) {
	return func(*engine.Call, *auditPath) (*none, error) {
		return nil, &engine.InvalidError{Why: "cannot " + act + " audit device via API; use declarative configuration"}
	}
}

func hashForAudit(c *engine.Call, r *auditHashRequest) (*auditHash, error) {
	if r.Input == nil {
		return nil, &engine.InvalidError{Why: `the "input" parameter is empty`}
	}
	hash, err := ask[auditing](c).AuditHash(r.Path, string(*r.Input))
	if err != nil {
		return nil, err
	}
	return &auditHash{Hash: hash}, nil
}
