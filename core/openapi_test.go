package core_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// spec fetches the OpenAPI document that a caller sees.
func (o *office) spec(c core.Caller, query string) map[string]any {
	o.t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := o.pipeline.Serve(o.t.Context(), c, core.Request{Verb: engine.VerbRead, Path: "sys/internal/specs/openapi", Input: engine.Input{Query: values}})
	if err != nil {
		o.t.Fatal(err)
	}
	return asJSON(o.t, r.Data)
}

func asJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The document keeps the rules of OpenAPI 3.0 and has every route of every mount.
func TestOpenAPI(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "sys/mounts/old", `{"type":"kv"}`)
	o.must(o.root, engine.VerbWrite, "sys/mounts/second", `{"type":"kv","options":{"version":"2"}}`)
	for _, query := range []string{"", "generic_mount_paths=true"} {
		doc := o.spec(o.root, query)
		v := &openAPI{doc: doc}
		for _, wrong := range v.check() {
			t.Errorf("%q: %s", query, wrong)
		}
		paths := doc["paths"].(map[string]any)
		for _, want := range map[string][]string{
			"": {"get /secret/data/{path}", "post /secret/data/{path}", "patch /second/data/{path}", "get /secret/metadata/{path}/", "get /secret/metadata/",
				"get /old/{path}", "delete /sys/mounts/{path}", "post /sys/mounts/{path}/tune", "post /auth/token/create", "post /sys/wrapping/unwrap", "get /cubbyhole/{path}"},
			"generic_mount_paths=true": {"get /{kv_mount_path}/data/{path}", "get /{kv_mount_path}/{path}", "post /auth/token/create", "get /sys/mounts"},
		}[query] {
			method, path, _ := strings.Cut(want, " ")
			item, _ := paths[path].(map[string]any)
			if item[method] == nil {
				t.Errorf("%q: the document lacks %s", query, want)
			}
		}
	}
	paths := o.spec(o.root, "")["paths"].(map[string]any)
	if item := paths["/sys/wrapping/unwrap"].(map[string]any); item["x-vault-unauthenticated"] != true {
		t.Errorf("unwrap: %v", item)
	}
	if item := paths["/sys/remount"].(map[string]any); item["x-vault-sudo"] != true {
		t.Errorf("remount: %v", item)
	}
	if item := paths["/secret/data/{path}"].(map[string]any); item["x-vault-createSupported"] != true {
		t.Errorf("data: %v", item)
	}
	if paths["/secret/{path}"] != nil {
		t.Error("the document describes what only tells that a path is wrong")
	}
}

// A caller sees the mounts that it may use, and no other.
func TestOpenAPIShowsWhatMayBeUsed(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "sys/mounts/hidden", `{"type":"kv"}`)
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/team", teamPolicy)
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/spec", `{"policy":"path \"sys/internal/specs/openapi\" { capabilities = [\"read\"] }"}`)
	member, _ := o.token(`{"policies":["team","spec"]}`)
	seen := map[string]bool{}
	for path := range o.spec(member, "")["paths"].(map[string]any) {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		seen[first] = true
	}
	if seen["hidden"] || !seen["secret"] || !seen["sys"] {
		t.Errorf("seen: %v", seen)
	}
	team, _ := o.token(`{"policies":["team"],"no_default_policy":true}`)
	_, err := o.do(team, engine.VerbRead, "sys/internal/specs/openapi", "")
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	_, err = o.do(core.Caller{}, engine.VerbRead, "sys/internal/specs/openapi", "")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
}

// Help is for who may do anything in the mount, and is asked of any path in it.
func TestHelp(t *testing.T) {
	o := newOffice(t)
	o.must(o.root, engine.VerbWrite, "sys/mounts/hidden", `{"type":"kv"}`)
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/team", teamPolicy)
	team, _ := o.token(`{"policies":["team"],"no_default_policy":true}`)
	help := func(c core.Caller, path string) (map[string]any, error) {
		r, err := o.pipeline.Serve(t.Context(), c, core.Request{Verb: engine.VerbRead, Path: path, Help: true})
		if err != nil {
			return nil, err
		}
		return asJSON(t, r.Data), nil
	}
	got, err := help(team, "secret/data/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := got["help"].(string)
	if !strings.Contains(text, "READ secret/data/{path...}") || strings.Contains(text, "metadata/") || got["see_also"] == nil {
		t.Errorf("help: %v", got)
	}
	for _, wrong := range (&openAPI{doc: got["openapi"].(map[string]any)}).check() {
		t.Error(wrong)
	}
	got, err = help(team, "secret")
	if text, _ := got["help"].(string); err != nil || !strings.Contains(text, "LIST secret/metadata/{path*}") {
		t.Errorf("help for a mount: %v %v", text, err)
	}
	if e := o.log.last(); e.Path != "secret" || e.Auth.Accessor == "" {
		t.Errorf("the log says %+v", e)
	}
	for _, path := range []string{"hidden/x", "nowhere", "sys/mounts"} {
		_, err := help(team, path)
		wants(t, err, conclavev1.Reason_REASON_DENIED)
	}
	_, err = help(core.Caller{}, "secret/data/a")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
	once, _ := o.token(`{"policies":["team"],"num_uses":1}`)
	if _, err = help(once, "secret"); err != nil {
		t.Error(err)
	}
	_, err = help(once, "secret")
	wants(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
}

// Counts are of what there is.
func TestCounts(t *testing.T) {
	o := newOffice(t)
	count := func(path, query string) map[string]any {
		t.Helper()
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		r, err := o.pipeline.Serve(t.Context(), o.root, core.Request{Verb: engine.VerbRead, Path: path, Input: engine.Input{Query: values}})
		if err != nil {
			t.Fatal(err)
		}
		return asJSON(t, r.Data)
	}
	total := func() any {
		return count("sys/internal/counters/tokens", "")["counters"].(map[string]any)["service_tokens"].(map[string]any)["total"]
	}
	if total() != 1.0 {
		t.Errorf("the root token alone counts %v", total())
	}
	_, a := o.token(`{}`)
	o.token(`{}`)
	o.must(o.root, engine.VerbWrite, "auth/token/revoke-accessor", `{"accessor":"`+a.Token.Accessor+`"}`)
	if total() != 2.0 {
		t.Errorf("after one of two was revoked: %v", total())
	}
	leases := core.NewLeases(o.pipeline)
	for _, prefix := range []string{"secret/a", "secret/b", "elsewhere"} {
		if _, err := leases.Grant(t.Context(), o.root, &conclavev1.GrantLeaseRequest{Prefix: prefix, Ttl: hour}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(count("sys/leases/count", "")); got != "map[counts:map[:1 secret/:2] lease_count:3]" {
		t.Error(got)
	}
	if got := fmt.Sprint(count("sys/leases/count", "type=irrevocable")); got != "map[counts:map[] lease_count:0]" {
		t.Error(got)
	}
	_, err := o.pipeline.Serve(t.Context(), o.root, core.Request{Verb: engine.VerbRead, Path: "sys/leases/count", Input: engine.Input{Query: url.Values{"type": {"other"}}}})
	wants(t, err, conclavev1.Reason_REASON_INVALID)
	if r := o.must(o.root, engine.VerbWrite, "sys/leases/tidy", ""); len(r.Warnings) != 1 {
		t.Errorf("tidy: %+v", r)
	}
}

// openAPI checks a document against the rules of OpenAPI 3.0.3 that a generator of
// clients trips over: required fields, parameters of paths, references, ids.
type openAPI struct {
	doc   map[string]any
	wrong []string
	ids   map[string]bool
}

func (v *openAPI) bad(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

func (v *openAPI) check() []string {
	v.ids = map[string]bool{}
	if s, _ := v.doc["openapi"].(string); !strings.HasPrefix(s, "3.0.") {
		v.bad("openapi is %q", s)
	}
	info, _ := v.doc["info"].(map[string]any)
	if info["title"] == "" || info["version"] == "" || info["title"] == nil || info["version"] == nil {
		v.bad("info is %v", info)
	}
	paths, _ := v.doc["paths"].(map[string]any)
	if len(paths) == 0 {
		v.bad("there are no paths")
	}
	forms := map[string]string{}
	for path, item := range paths {
		form := path
		for _, name := range variables(path) {
			form = strings.Replace(form, "{"+name+"}", "{}", 1)
		}
		if other, twice := forms[form]; twice {
			v.bad("%s and %s are one path", path, other)
		}
		forms[form] = path
		v.path(path, item.(map[string]any))
	}
	for name, s := range v.doc["components"].(map[string]any)["schemas"].(map[string]any) {
		if strings.ContainsFunc(name, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
		}) {
			v.bad("the name %q is not allowed", name)
		}
		v.schema("schema "+name, s)
	}
	return v.wrong
}

func variables(path string) []string {
	var all []string
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
			all = append(all, segment[1:len(segment)-1])
		}
	}
	return all
}

func (v *openAPI) path(path string, item map[string]any) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.ContainsAny(path, "*.") {
		v.bad("path %s", path)
	}
	inPath := variables(path)
	var declared []string
	parameters := func(where string, list any) {
		all, _ := list.([]any)
		seen := map[string]bool{}
		for _, p := range all {
			p := p.(map[string]any)
			name, _ := p["name"].(string)
			if in := p["in"]; name == "" || in != "path" && in != "query" || seen[name] {
				v.bad("%s: parameter %v", where, p)
			}
			seen[name] = true
			if p["in"] == "path" {
				declared = append(declared, name)
				if p["required"] != true {
					v.bad("%s: the parameter %s of the path is not required", where, name)
				}
			}
			v.schema(where+" parameter "+name, p["schema"])
		}
	}
	parameters(path, item["parameters"])
	if slices.Sort(declared); !slices.Equal(declared, slices.Sorted(slices.Values(inPath))) {
		v.bad("%s declares the parameters %v", path, declared)
	}
	operations := 0
	for key, value := range item {
		if strings.HasPrefix(key, "x-") || key == "parameters" || key == "description" {
			continue
		}
		if !slices.Contains([]string{"get", "post", "put", "patch", "delete"}, key) {
			v.bad("%s has the field %s", path, key)
			continue
		}
		operations++
		op := value.(map[string]any)
		where := key + " " + path
		id, _ := op["operationId"].(string)
		if id == "" || v.ids[id] {
			v.bad("%s: operationId %q", where, id)
		}
		v.ids[id] = true
		parameters(where, op["parameters"])
		v.operation(where, key, op)
	}
	if operations == 0 {
		v.bad("%s has no operation", path)
	}
}

func (v *openAPI) operation(where, method string, op map[string]any) {
	if op["summary"] == "" || op["summary"] == nil {
		v.bad("%s has no summary", where)
	}
	if body, ok := op["requestBody"].(map[string]any); ok {
		if method == "get" || method == "delete" {
			v.bad("%s has a body", where)
		}
		v.content(where+" body", body)
	}
	responses, _ := op["responses"].(map[string]any)
	if len(responses) == 0 {
		v.bad("%s has no responses", where)
	}
	for code, r := range responses {
		r := r.(map[string]any)
		if r["description"] == "" || r["description"] == nil {
			v.bad("%s: response %s has no description", where, code)
		}
		if r["content"] != nil {
			v.content(where+" "+code, r)
		}
	}
}

func (v *openAPI) content(where string, holder map[string]any) {
	content, _ := holder["content"].(map[string]any)
	if len(content) == 0 {
		v.bad("%s has no content", where)
	}
	for kind, m := range content {
		v.schema(where+" "+kind, m.(map[string]any)["schema"])
	}
}

func (v *openAPI) schema(where string, value any) {
	s, ok := value.(map[string]any)
	if !ok {
		v.bad("%s is no schema: %v", where, value)
		return
	}
	if ref, ok := s["$ref"].(string); ok {
		name, local := strings.CutPrefix(ref, "#/components/schemas/")
		if _, there := v.doc["components"].(map[string]any)["schemas"].(map[string]any)[name]; !local || !there || len(s) != 1 {
			v.bad("%s: reference %v", where, s)
		}
		return
	}
	kind, _ := s["type"].(string)
	if kind != "" && !slices.Contains([]string{"string", "integer", "number", "boolean", "array", "object"}, kind) {
		v.bad("%s: type %q", where, kind)
	}
	if (kind == "array") != (s["items"] != nil) {
		v.bad("%s: type %q, items %v", where, kind, s["items"])
	}
	if s["items"] != nil {
		v.schema(where+" items", s["items"])
	}
	if properties, ok := s["properties"].(map[string]any); ok {
		for name, p := range properties {
			v.schema(where+"."+name, p)
		}
	}
	if more, ok := s["additionalProperties"]; ok {
		v.schema(where+" values", more)
	}
	if all, ok := s["allOf"].([]any); ok {
		for _, part := range all {
			v.schema(where, part)
		}
	}
}

var hour = durationpb.New(time.Hour)
