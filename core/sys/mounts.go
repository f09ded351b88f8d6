package sys

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// mounts is what the routes of this file need of a transaction.
type mounts interface {
	Mounts() ([]*storev1.Mount, error)
	Enable(row *storev1.Mount) (conflict string, err error)
	Change(path string, change func(*storev1.Mount) error) error
	Move(from, to string) (id, conflict string, err error)
	Disable(path string) error
	MayAny(path string) bool
}

// half is one of the two kinds of mounts, which have the same routes: engines
// under sys/mounts, auth methods under sys/auth.
type half struct {
	route  string // "mounts" or "auth"
	prefix string // what the paths of its mounts start with
	thing  string // what is mounted, for people
}

var halves = []half{
	{route: "mounts", thing: "secret engine"},
	{route: "auth", prefix: "auth/", thing: "auth method"},
}

// fixed mounts are part of every cluster.
var fixed = map[string]bool{"sys/": true, "cubbyhole/": true, "auth/token/": true}

// singletons are types that are mounted where fixed says, and nowhere else: under another path
// the administration would answer to rules that speak of that path.
var singletons = map[string]bool{"system": true, "cubbyhole": true, "token": true}

// maxMountPath bounds the path of a mount, in bytes.
const maxMountPath = 256

// path checks what a client calls a mount and returns its path in the table.
func (h half) path(sent string) (string, error) {
	p, err := engine.ParsePath(strings.Trim(sent, "/"), maxMountPath)
	if err != nil {
		return "", err
	}
	// Whoever writes a rule for such a mount would write one for others, too.
	if slices.Contains(p, "+") || strings.ContainsFunc(sent, func(r rune) bool { return r == '*' || unicode.Is(unicode.Cf, r) }) {
		return "", &engine.InvalidError{Why: "the path of a mount has no *, no segment + and nothing that cannot be seen"}
	}
	path := h.prefix + p.String() + "/"
	if h.prefix == "" && (strings.HasPrefix(path, "auth/") || path == "sys/") {
		return "", &engine.InvalidError{Why: fmt.Sprintf("cannot mount in %q", path)}
	}
	return path, nil
}

// has tells whether a mount is of this half.
func (h half) has(row *storev1.Mount) bool {
	return strings.HasPrefix(row.Path, "auth/") == (h.prefix != "")
}

// halfOf is the half that a mount is of.
func halfOf(row *storev1.Mount) half {
	if halves[1].has(row) {
		return halves[1]
	}
	return halves[0]
}

type mountPath struct {
	Path string `path:"path" doc:"where it is mounted"`
}

type mountConfig struct {
	DefaultLeaseTTL   leaseTTL        `json:"default_lease_ttl" doc:"time to live when nothing says otherwise; 0 or system: the system's; empty: as it is"`
	MaxLeaseTTL       leaseTTL        `json:"max_lease_ttl" doc:"longest time to live; 0 or system: the system's; empty: as it is"`
	Description       *string         `json:"description" doc:"for people"`
	ListingVisibility *string         `json:"listing_visibility" doc:"unauth: shown to who is not logged in"`
	TokenType         *string         `json:"token_type" doc:"of the tokens of an auth method"`
	Options           engine.Map      `json:"options" doc:"of the type"`
	AuditRequestKeys  *engine.Strings `json:"audit_non_hmac_request_keys" doc:"fields of requests that the audit log shows in clear"`
	AuditResponseKeys *engine.Strings `json:"audit_non_hmac_response_keys" doc:"fields of answers that the audit log shows in clear"`
}

// A leaseTTL is seconds or a duration in words. Clients that tune one of two send the
// other one, too, with nothing in it.
type leaseTTL = engine.Text

// setTTL changes a time to live, if one was sent.
func setTTL(ttl **durationpb.Duration, name string, sent leaseTTL) error {
	switch sent {
	case "":
		return nil
	case "system":
		sent = "0"
	}
	d, err := engine.ParseDuration(string(sent))
	if err != nil {
		return &engine.InvalidError{Why: fmt.Sprintf("the field %q %v", name, err)}
	}
	*ttl = durationpb.New(d)
	return nil
}

type enableMount struct {
	mountPath
	Type        string      `json:"type" doc:"what to mount"`
	Description string      `json:"description" doc:"for people"`
	Config      mountConfig `json:"config" doc:"TTLs and visibility, as for tune"`
	Options     engine.Map  `json:"options" doc:"of the type"`
	Local       engine.Bool `json:"local" doc:"accepted, without effect"`
	SealWrap    engine.Bool `json:"seal_wrap" doc:"accepted: everything is sealed"`
}

func (m *mountConfig) apply(row *storev1.Mount) error {
	if err := setTTL(&row.DefaultTtl, "default_lease_ttl", m.DefaultLeaseTTL); err != nil {
		return err
	}
	if err := setTTL(&row.MaxTtl, "max_lease_ttl", m.MaxLeaseTTL); err != nil {
		return err
	}
	if row.MaxTtl.AsDuration() > 0 && row.DefaultTtl.AsDuration() > row.MaxTtl.AsDuration() {
		return &engine.InvalidError{Why: "default_lease_ttl is above max_lease_ttl"}
	}
	if m.Description != nil {
		row.Description = *m.Description
	}
	if m.ListingVisibility != nil {
		if !slices.Contains([]string{"", "hidden", "unauth"}, *m.ListingVisibility) {
			return &engine.InvalidError{Why: "listing_visibility is hidden or unauth"}
		}
		row.ListingVisibility = *m.ListingVisibility
	}
	if m.TokenType != nil {
		if !slices.Contains([]string{"", "default-service", "default-batch", "service", "batch"}, *m.TokenType) {
			return &engine.InvalidError{Why: "token_type is default-service, default-batch, service or batch"}
		}
		row.TokenType = *m.TokenType
	}
	if m.AuditRequestKeys != nil {
		row.AuditClearRequestKeys = *m.AuditRequestKeys
	}
	if m.AuditResponseKeys != nil {
		row.AuditClearResponseKeys = *m.AuditResponseKeys
	}
	return m.applyOptions(row)
}

// applyOptions changes options of a mount. A kv mount may go from version 1 to 2.
func (m *mountConfig) applyOptions(row *storev1.Mount) error {
	for k, v := range m.Options {
		if row.Options[k] == v {
			continue
		}
		if row.Type == "kv" && k == "version" && v != "2" {
			return &engine.InvalidError{Why: "a kv mount goes from version 1 to 2, and not back"}
		}
		if row.Options == nil {
			row.Options = map[string]string{}
		}
		row.Options[k] = v
	}
	return nil
}

// mountData is how a mount is shown.
type mountData struct {
	Type                  string            `json:"type"`
	Description           string            `json:"description"`
	Accessor              string            `json:"accessor"`
	UUID                  string            `json:"uuid"`
	Local                 bool              `json:"local"`
	SealWrap              bool              `json:"seal_wrap"`
	ExternalEntropyAccess bool              `json:"external_entropy_access"`
	Options               map[string]string `json:"options"`
	Config                mountConfigData   `json:"config"`
	PluginVersion         string            `json:"plugin_version"`
	RunningVersion        string            `json:"running_plugin_version"`
	RunningSHA256         string            `json:"running_sha256"`
	DeprecationStatus     string            `json:"deprecation_status"`
}

type mountConfigData struct {
	DefaultLeaseTTL   int64    `json:"default_lease_ttl"`
	MaxLeaseTTL       int64    `json:"max_lease_ttl"`
	ForceNoCache      bool     `json:"force_no_cache"`
	ListingVisibility string   `json:"listing_visibility,omitempty"`
	TokenType         string   `json:"token_type,omitempty"`
	AuditRequestKeys  []string `json:"audit_non_hmac_request_keys,omitempty"`
	AuditResponseKeys []string `json:"audit_non_hmac_response_keys,omitempty"`
}

type tuneData struct {
	mountConfigData
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
}

func (h half) show(row *storev1.Mount) *mountData {
	return &mountData{Type: row.Type, Description: row.Description, Accessor: row.Accessor, UUID: row.Id,
		Options: options(row), Config: h.config(row), DeprecationStatus: "supported"}
}

func options(row *storev1.Mount) map[string]string {
	if len(row.Options) == 0 {
		return nil
	}
	return maps.Clone(row.Options)
}

func (h half) config(row *storev1.Mount) mountConfigData {
	c := mountConfigData{
		DefaultLeaseTTL: seconds(row.DefaultTtl), MaxLeaseTTL: seconds(row.MaxTtl), ListingVisibility: row.ListingVisibility,
		TokenType: row.TokenType, AuditRequestKeys: row.AuditClearRequestKeys, AuditResponseKeys: row.AuditClearResponseKeys,
	}
	if h.prefix != "" && c.TokenType == "" {
		c.TokenType = "default-service"
	}
	return c
}

func seconds(d *durationpb.Duration) int64 { return int64(d.AsDuration() / time.Second) }

// mountTable is all mounts of a half, by path.
type mountTable map[string]*mountData

func mountRoutes() []engine.Route {
	var routes []engine.Route
	for _, h := range halves {
		one := h.route + "/{path...}"
		routes = append(routes,
			engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: h.route, Summary: "List what is mounted."}, h.list),
			engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one, Writes: true, Summary: "Mount a " + h.thing + ".", Sudo: h.prefix != ""}, h.enable),
			engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one, Summary: "Describe a mount."}, h.read),
			engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: one + "/tune", Writes: true, Summary: "Tune a mount.", Sudo: h.prefix != ""}, h.tune),
			engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: one + "/tune", Summary: "Tell how a mount is tuned.", Sudo: h.prefix != ""}, h.tuning),
			engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: one, Writes: true, Summary: "End a mount, with its tokens, its leases and what lies in it.", Sudo: h.prefix != ""}, h.disable),
		)
	}
	return append(routes,
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "remount", Writes: true, Sudo: true, Summary: "Move a mount."}, remount),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "remount/status/{id}", Summary: "Tell how a move went; it is over when it is answered."}, remountStatus),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "internal/ui/mounts", Summary: "List the mounts that the caller may use."}, visible),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "internal/ui/mounts/{path...}", Summary: "Describe the mount that a path lies in."}, preflight),
	)
}

func (h half) list(c *engine.Call, _ *struct{}) (*mountTable, error) {
	rows, err := ask[mounts](c).Mounts()
	if err != nil {
		return nil, err
	}
	table := mountTable{}
	for _, row := range rows {
		if h.has(row) {
			table[strings.TrimPrefix(row.Path, h.prefix)] = h.show(row)
		}
	}
	return &table, nil
}

// find returns the row at a path as a client calls it. Clients ask for an auth method
// under sys/mounts, too, where that takes no sudo.
func (h half) find(c *engine.Call, sent string) (*storev1.Mount, error) {
	if name, below := strings.CutPrefix(strings.Trim(sent, "/"), halves[1].prefix); below && h.prefix == "" {
		return halves[1].find(c, name)
	}
	path, err := h.path(sent)
	if err != nil {
		return nil, err
	}
	rows, err := ask[mounts](c).Mounts()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Path == path {
			return row, nil
		}
	}
	if h.prefix != "" {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("No auth engine at %s", strings.TrimPrefix(path, h.prefix))}
	}
	return nil, &engine.InvalidError{Why: fmt.Sprintf("No secret engine mount at %s", path)}
}

func (h half) read(c *engine.Call, r *mountPath) (*mountData, error) {
	row, err := h.find(c, r.Path)
	if err != nil {
		return nil, err
	}
	return halfOf(row).show(row), nil
}

// tuning tells the effective values: those of the system where the mount has none.
func (h half) tuning(c *engine.Call, r *mountPath) (*tuneData, error) {
	row, err := h.find(c, r.Path)
	if err != nil {
		return nil, err
	}
	data := &tuneData{halfOf(row).config(row), row.Description, options(row)}
	if data.DefaultLeaseTTL == 0 {
		data.DefaultLeaseTTL = int64(core.SystemTTL / time.Second)
	}
	if data.MaxLeaseTTL == 0 {
		data.MaxLeaseTTL = int64(core.SystemTTL / time.Second)
	}
	return data, nil
}

type tuneMount struct {
	mountPath
	mountConfig
}

func (h half) tune(c *engine.Call, r *tuneMount) (*none, error) {
	row, err := h.find(c, r.Path)
	if err != nil {
		return nil, err
	}
	return nil, ask[mounts](c).Change(row.Path, r.apply)
}

func (h half) enable(c *engine.Call, r *enableMount) (*none, error) {
	path, err := h.path(r.Path)
	if err != nil {
		return nil, err
	}
	row := &storev1.Mount{Path: path, Type: r.Type, Description: r.Description, Options: maps.Clone(map[string]string(r.Options))}
	switch row.Type { // names under which kv was known at times
	case "kv-v2":
		row.Type, row.Options = "kv", with(row.Options, "version", "2")
	case "kv-v1", "generic":
		row.Type, row.Options = "kv", with(row.Options, "version", "1")
	case "":
		return nil, &engine.InvalidError{Why: "backend type must be specified as a string"}
	}
	if singletons[row.Type] {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("mount type of %q is not mountable", row.Type)}
	}
	config := r.Config
	config.Options = nil
	if err := config.apply(row); err != nil {
		return nil, err
	}
	conflict, err := ask[mounts](c).Enable(row)
	switch {
	case errors.Is(err, core.ErrPathInUse):
		return nil, inUse(strings.TrimPrefix(conflict, h.prefix))
	case errors.Is(err, core.ErrUnknownType):
		return nil, &engine.InvalidError{Why: "plugin not found in the catalog: " + strconv.QuoteToASCII(r.Type)}
	}
	return nil, err
}

func inUse(path string) error {
	return &engine.InvalidError{Why: fmt.Sprintf("path is already in use at %s", path)}
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// disable ends a mount. One that is not there has ended.
func (h half) disable(c *engine.Call, r *mountPath) (*none, error) {
	path, err := h.path(r.Path)
	if err != nil {
		return nil, err
	}
	if fixed[path] {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("%s cannot be unmounted", path)}
	}
	if err := ask[mounts](c).Disable(path); err != nil && !errors.Is(err, core.ErrNoMount) {
		return nil, err
	}
	return nil, nil
}

type remountRequest struct {
	From string `json:"from" doc:"where it is; an auth method's starts with auth/"`
	To   string `json:"to" doc:"where it shall be"`
}

type remountAnswer struct {
	MigrationID string `json:"migration_id"`
}

// remount moves a mount, at once: what lies in it is filed under its id.
func remount(c *engine.Call, r *remountRequest) (*remountAnswer, error) {
	from, to := strings.Trim(r.From, "/")+"/", strings.Trim(r.To, "/")+"/"
	if strings.HasPrefix(from, "auth/") != strings.HasPrefix(to, "auth/") {
		return nil, &engine.InvalidError{Why: "an auth method moves within auth/, an engine outside of it"}
	}
	h := halves[0]
	if strings.HasPrefix(from, "auth/") {
		h = halves[1]
	}
	if fixed[from] {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("cannot remount %q", from)}
	}
	path, err := h.path(strings.TrimPrefix(to, h.prefix))
	if err != nil {
		return nil, err
	}
	id, conflict, err := ask[mounts](c).Move(from, path)
	switch {
	case errors.Is(err, core.ErrPathInUse):
		return nil, inUse(conflict)
	case errors.Is(err, core.ErrNoMount):
		return nil, &engine.InvalidError{Why: fmt.Sprintf("no matching mount at %q", from)}
	}
	return &remountAnswer{MigrationID: id}, err
}

type remountID struct {
	ID string `path:"id" doc:"of the move"`
}

type remountStatusAnswer struct {
	MigrationID   string            `json:"migration_id"`
	MigrationInfo map[string]string `json:"migration_info"`
}

func remountStatus(c *engine.Call, r *remountID) (*remountStatusAnswer, error) {
	rows, err := ask[mounts](c).Mounts()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Id == r.ID {
			return &remountStatusAnswer{r.ID, map[string]string{"status": "success", "target_mount": row.Path}}, nil
		}
	}
	return nil, &engine.NotFoundError{What: "move"}
}

type visibleMounts struct {
	Secret mountTable `json:"secret"`
	Auth   mountTable `json:"auth"`
}

func visible(c *engine.Call, _ *struct{}) (*visibleMounts, error) {
	m := ask[mounts](c)
	rows, err := m.Mounts()
	if err != nil {
		return nil, err
	}
	out := &visibleMounts{mountTable{}, mountTable{}}
	for _, row := range rows {
		if row.ListingVisibility != "unauth" && !m.MayAny(row.Path) {
			continue
		}
		if halves[1].has(row) {
			out.Auth[strings.TrimPrefix(row.Path, "auth/")] = halves[1].show(row)
		} else {
			out.Secret[row.Path] = halves[0].show(row)
		}
	}
	return out, nil
}

type preflightAnswer struct {
	Path string `json:"path"`
	mountData
}

// preflight tells which mount a path lies in to who may use anything there. No
// mount and no right to see one look alike.
func preflight(c *engine.Call, r *mountPath) (*preflightAnswer, error) {
	m := ask[mounts](c)
	rows, err := m.Mounts()
	if err != nil {
		return nil, err
	}
	path := strings.Trim(r.Path, "/") + "/"
	var best *storev1.Mount
	for _, row := range rows {
		if strings.HasPrefix(path, row.Path) && (best == nil || len(row.Path) > len(best.Path)) {
			best = row
		}
	}
	if best == nil || !m.MayAny(best.Path) {
		return nil, core.Denied(fmt.Sprintf("preflight capability check returned 403, please ensure client's policies grant access to path %q", path))
	}
	return &preflightAnswer{best.Path, *halfOf(best).show(best)}, nil
}
