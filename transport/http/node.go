package http

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// ofNode are the endpoints that concern this node, by path and method. PUT is as
// good as POST everywhere. Their answers come without an envelope, but for those of
// haStatus and hostInfo.
func (h *handler) ofNode() map[string]map[string]http.HandlerFunc {
	const get, put = http.MethodGet, http.MethodPut
	return map[string]map[string]http.HandlerFunc{
		"sys/health":      {get: h.health, http.MethodHead: h.health},
		"sys/seal-status": {get: h.sealStatus},
		"sys/leader":      {get: h.leader},
		"sys/ha-status":   {get: h.haStatus},
		"sys/host-info":   {get: h.hostInfo},
		"sys/metrics":     {get: h.metrics},
		"sys/init":        {get: h.initialized, put: h.initialize},
		"sys/unseal":      {put: h.unseal},
		"sys/seal":        {put: h.seal},
		"sys/step-down":   {put: h.stepDown},
	}
}

// serveNode answers one of the node's own endpoints.
func (h *handler) serveNode(w http.ResponseWriter, r *http.Request, methods map[string]http.HandlerFunc) {
	method := r.Method
	if method == http.MethodPost {
		method = http.MethodPut
	}
	serve := methods[method]
	switch {
	case serve == nil:
		h.refuse(w, errMethod)
	case checkNamespace(r.Header.Get("X-Vault-Namespace")) != nil:
		h.refuse(w, bad("operation unavailable in namespaces"))
	default:
		if err := checkCaller(caller(r)); err != nil {
			h.refuse(w, err)
			return
		}
		serve(w, r)
	}
}

// decode reads a small JSON body into v.
func decode(r *http.Request, v any) error {
	raw, _, err := readBody(r)
	if err != nil || len(raw) == 0 {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return bad("failed to decode JSON input: a field has the wrong type")
	}
	return nil
}

type healthAnswer struct {
	Initialized        bool   `json:"initialized"`
	Sealed             bool   `json:"sealed"`
	Standby            bool   `json:"standby"`
	PerformanceStandby bool   `json:"performance_standby"`
	ReplicationMode    string `json:"replication_performance_mode"`
	ReplicationDRMode  string `json:"replication_dr_mode"`
	ServerTimeUTC      int64  `json:"server_time_utc"`
	Version            string `json:"version"`
	Enterprise         bool   `json:"enterprise"`
	ClusterName        string `json:"cluster_name,omitempty"`
	ClusterID          string `json:"cluster_id,omitempty"`
}

// health tells by its code what a load balancer wants to know. Each code can be
// overridden by a parameter.
func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	s, err := h.node.Status(r.Context())
	if err != nil {
		h.refuse(w, err)
		return
	}
	query := r.URL.Query()
	code := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(query.Get(name)); err == nil && n >= 100 && n <= 599 {
			return n
		}
		return otherwise
	}
	truth := func(name string) bool {
		_, there := query[name]
		v := query.Get(name)
		on, err := strconv.ParseBool(v)
		return there && (v == "" || err == nil && on)
	}
	active := code("activecode", http.StatusOK)
	standby := code("standbycode", http.StatusTooManyRequests)
	if truth("standbyok") || truth("perfstandbyok") {
		standby = active
	}
	leads := s.Role == "leader"
	status := standby
	switch {
	case !s.Initialized:
		status = code("uninitcode", http.StatusNotImplemented)
	case s.Sealed:
		status = code("sealedcode", http.StatusServiceUnavailable)
	case leads:
		status = active
	}
	out := healthAnswer{Initialized: s.Initialized, Sealed: s.Sealed, Standby: s.Initialized && !s.Sealed && !leads,
		ReplicationMode: "disabled", ReplicationDRMode: "disabled", ServerTimeUTC: time.Now().Unix(), Version: h.version}
	if !s.Sealed {
		out.ClusterName, out.ClusterID = clusterName(s), s.ClusterId
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	write(w, status, out)
}

func clusterName(s *conclavev1.GetStatusResponse) string {
	if len(s.ClusterId) < 8 {
		return ""
	}
	return "conclave-cluster-" + s.ClusterId[:8]
}

type sealStatusAnswer struct {
	Type         string `json:"type"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	T            uint32 `json:"t"`
	N            uint32 `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	CommitDate   string `json:"commit_date"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty"`
	ClusterID    string `json:"cluster_id,omitempty"`
	RecoverySeal bool   `json:"recovery_seal"`
	StorageType  string `json:"storage_type"`
}

func (h *handler) sealStatus(w http.ResponseWriter, r *http.Request) {
	s, err := h.node.Status(r.Context())
	if err != nil {
		h.refuse(w, err)
		return
	}
	h.writeSealStatus(w, s)
}

func (h *handler) writeSealStatus(w http.ResponseWriter, s *conclavev1.GetStatusResponse) {
	out := sealStatusAnswer{Type: "shamir", Initialized: s.Initialized, Sealed: s.Sealed || !s.Initialized, T: s.Threshold, N: s.Shares,
		Version: h.version, StorageType: "raft"}
	if out.Sealed {
		out.Progress = len(s.ShareIndexes)
	} else {
		out.ClusterName, out.ClusterID = clusterName(s), s.ClusterId
	}
	write(w, http.StatusOK, out)
}

type leaderAnswer struct {
	HAEnabled            bool   `json:"ha_enabled"`
	IsSelf               bool   `json:"is_self"`
	ActiveTime           string `json:"active_time"`
	LeaderAddress        string `json:"leader_address"`
	LeaderClusterAddress string `json:"leader_cluster_address"`
	PerformanceStandby   bool   `json:"performance_standby"`
	LastRemoteWAL        uint64 `json:"performance_standby_last_remote_wal"`
	CommittedIndex       uint64 `json:"raft_committed_index"`
	AppliedIndex         uint64 `json:"raft_applied_index"`
}

func (h *handler) leader(w http.ResponseWriter, r *http.Request) {
	s, err := h.node.Status(r.Context())
	if err != nil {
		h.refuse(w, err)
		return
	}
	out := leaderAnswer{HAEnabled: true, IsSelf: s.Role == "leader", ActiveTime: time.Time{}.Format(time.RFC3339),
		CommittedIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex}
	if s.LeaderApiAddress != "" {
		out.LeaderAddress = "https://" + s.LeaderApiAddress
	}
	write(w, http.StatusOK, out)
}

type haNode struct {
	Hostname       string `json:"hostname"`
	APIAddress     string `json:"api_address"`
	ClusterAddress string `json:"cluster_address"`
	ActiveNode     bool   `json:"active_node"`
	LastEcho       any    `json:"last_echo"`
	Version        string `json:"version"`
}

func (h *handler) haStatus(w http.ResponseWriter, r *http.Request) {
	m, err := h.node.Members(r.Context(), caller(r))
	if err != nil {
		h.refuse(w, err)
		return
	}
	id, err := auth.NewUUID(rand.Reader)
	if err != nil {
		h.refuse(w, err)
		return
	}
	nodes := []haNode{}
	for _, n := range m.Members {
		nodes = append(nodes, haNode{Hostname: n.Id, APIAddress: "https://" + n.ApiAddress, ClusterAddress: "https://" + n.PeerAddress,
			ActiveNode: n.Leader, Version: n.Version})
	}
	e := envelope{RequestID: id, Data: map[string]any{"nodes": nodes}}
	write(w, http.StatusOK, atTop(&e))
}

func (h *handler) initialized(w http.ResponseWriter, r *http.Request) {
	s, err := h.node.Status(r.Context())
	if err != nil {
		h.refuse(w, err)
		return
	}
	write(w, http.StatusOK, map[string]bool{"initialized": s.Initialized})
}

type initRequest struct {
	Shares    uint32 `json:"secret_shares"`
	Threshold uint32 `json:"secret_threshold"`
}

type initAnswer struct {
	Keys       []string `json:"keys"`
	KeysBase64 []string `json:"keys_base64"`
	RootToken  string   `json:"root_token"`
}

func (h *handler) initialize(w http.ResponseWriter, r *http.Request) {
	var in initRequest
	if err := decode(r, &in); err != nil {
		h.refuse(w, err)
		return
	}
	made, err := h.node.Init(r.Context(), &conclavev1.InitRequest{Shares: in.Shares, Threshold: in.Threshold})
	if err != nil {
		h.refuse(w, err)
		return
	}
	out := initAnswer{RootToken: made.RootToken}
	for _, share := range made.Shares {
		// A share's own text has a checksum and names its cluster. Clients that
		// take hex and base64 for what they are hand back these bytes.
		out.Keys = append(out.Keys, hex.EncodeToString([]byte(share)))
		out.KeysBase64 = append(out.KeysBase64, base64.StdEncoding.EncodeToString([]byte(share)))
	}
	write(w, http.StatusOK, out)
}

type unsealRequest struct {
	Key     string `json:"key"`
	Reset   bool   `json:"reset"`
	Migrate bool   `json:"migrate"`
}

func (h *handler) unseal(w http.ResponseWriter, r *http.Request) {
	var in unsealRequest
	err := decode(r, &in)
	if err == nil && in.Key == "" && !in.Reset {
		err = bad("'key' must be specified in request body as JSON, or 'reset' set to true")
	}
	if err == nil {
		text, encoded := shareText(in.Key)
		_, err = h.node.Unseal(r.Context(), &conclavev1.UnsealRequest{Share: text, Reset_: in.Reset})
		var e *core.Error
		if !encoded && errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_SHARE_GARBLED && !strings.Contains(in.Key, "-") {
			err = bad("'key' must be a valid hex or base64 string")
		}
	}
	if err != nil {
		h.refuse(w, err)
		return
	}
	h.sealStatus(w, r)
}

// shareText undoes what initialize did to a share; the text of a share is taken
// as it is. encoded tells whether there was anything to undo.
func shareText(key string) (text string, encoded bool) {
	if raw, err := hex.DecodeString(key); err == nil {
		return orAsItIs(raw, key), true
	}
	if raw, err := base64.StdEncoding.DecodeString(key); err == nil {
		return orAsItIs(raw, key), true
	}
	return key, false
}

// orAsItIs is the text that was encoded, or the key if that was none: the bytes of a
// share, which have a text form of their own.
func orAsItIs(raw []byte, key string) string {
	if printable(raw) {
		return string(raw)
	}
	return key
}

func (h *handler) seal(w http.ResponseWriter, r *http.Request) {
	if err := h.node.Seal(r.Context(), caller(r)); err != nil {
		h.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// stepDown hands leadership over.
func (h *handler) stepDown(w http.ResponseWriter, r *http.Request) {
	if _, err := h.node.TransferLeadership(r.Context(), caller(r), ""); err != nil {
		h.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
