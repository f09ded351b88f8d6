package http

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/core"
)

// envelope is what nearly every answer comes in. All keys are always there.
type envelope struct {
	RequestID     string     `json:"request_id"`
	LeaseID       string     `json:"lease_id"`
	Renewable     bool       `json:"renewable"`
	LeaseDuration int64      `json:"lease_duration"`
	Data          any        `json:"data"`
	WrapInfo      *wrapInfo  `json:"wrap_info"`
	Warnings      []string   `json:"warnings"`
	Auth          *authBlock `json:"auth"`
	MountType     string     `json:"mount_type"`
}

type authBlock struct {
	ClientToken    string            `json:"client_token"`
	Accessor       string            `json:"accessor"`
	Policies       []string          `json:"policies"`
	TokenPolicies  []string          `json:"token_policies"`
	Metadata       map[string]string `json:"metadata"`
	LeaseDuration  int64             `json:"lease_duration"`
	Renewable      bool              `json:"renewable"`
	EntityID       string            `json:"entity_id"`
	TokenType      string            `json:"token_type"`
	Orphan         bool              `json:"orphan"`
	MFARequirement any               `json:"mfa_requirement"`
	NumUses        uint64            `json:"num_uses"`
}

type wrapInfo struct {
	Token           string `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"`
	CreationTime    string `json:"creation_time"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`
}

// answer writes what became of a request.
func (h *handler) answer(w http.ResponseWriter, q *core.Request, r *core.Reply) {
	if mark := h.mark(r.Index); mark != "" {
		w.Header().Set(indexHeader, mark)
	}
	if r.Data == nil && r.Auth == nil && r.Wrap == nil && r.LeaseID == "" && len(r.Warnings) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	code := http.StatusOK
	if r.Missing {
		code = http.StatusNotFound
	}
	if bare(q) && r.Wrap == nil {
		write(w, code, r.Data)
		return
	}
	e := envelope{RequestID: r.RequestID, Data: r.Data, Warnings: r.Warnings, Auth: spellAuth(r.Auth), MountType: r.MountType,
		LeaseID: r.LeaseID, LeaseDuration: int64(r.LeaseDuration / time.Second), Renewable: r.Renewable}
	if r.Wrap != nil {
		e.RequestID = "" // nothing leads from the wrapping to what it wraps
		e.WrapInfo = &wrapInfo{string(r.Wrap.Token.Expose()), r.Wrap.Accessor, int64(r.Wrap.TTL / time.Second),
			r.Wrap.CreatedAt.UTC().Format(time.RFC3339Nano), r.Wrap.CreationPath, r.Wrap.WrappedAccessor}
	}
	if r.Data != nil && repeated(q) {
		write(w, code, atTop(&e))
		return
	}
	write(w, code, &e)
}

func spellAuth(a *core.Auth) *authBlock {
	if a == nil {
		return nil
	}
	return &authBlock{
		ClientToken: string(a.Text), Accessor: a.Token.Accessor, Policies: a.Token.Policies, TokenPolicies: a.Token.Policies,
		Metadata: a.Token.Metadata, LeaseDuration: int64(a.TTL / time.Second), Renewable: a.Renewable, EntityID: a.Token.EntityID, TokenType: a.Token.Type(),
		Orphan: a.Token.Orphan, NumUses: a.Token.UsesLeft,
	}
}

// bare tells whether clients expect the data of an answer alone, as what it is.
func bare(q *core.Request) bool { return q.Help || q.Path == "sys/internal/specs/openapi" }

// repeated tells whether clients expect the data of an answer at the top, too.
func repeated(q *core.Request) bool {
	for _, prefix := range []string{"sys/audit", "sys/audit-hash", "sys/auth", "sys/mounts", "sys/capabilities", "sys/capabilities-self",
		"sys/capabilities-accessor", "sys/policy", "sys/key-status", "sys/ha-status", "sys/rotate", "sys/remount", "sys/wrapping/wrap"} {
		if q.Path == prefix || strings.HasPrefix(q.Path, prefix+"/") {
			return true
		}
	}
	return false
}

// atTop is an envelope with the data's keys beside its own.
func atTop(e *envelope) any {
	raw, err := json.Marshal(e.Data)
	if err != nil {
		return e
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(raw, &data) != nil {
		return e
	}
	raw, err = json.Marshal(e)
	if err != nil {
		return e
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return e
	}
	for k, v := range data {
		if _, own := all[k]; !own {
			all[k] = v
		}
	}
	return all
}

func write(w http.ResponseWriter, code int, v any) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		fail(w, http.StatusInternalServerError, "internal error")
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(code)
	// Nobody is left to tell of a failed write: the client is gone.
	_, _ = w.Write(buf.Bytes())
}

// fail answers with errors; no text means that there is none to give.
func fail(w http.ResponseWriter, code int, texts ...string) {
	if texts == nil {
		texts = []string{}
	}
	write(w, code, map[string][]string{"errors": texts})
}
