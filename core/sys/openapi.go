package sys

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
)

// routeTables is what the routes of this file need of a transaction.
type routeTables interface {
	MountRoutes() ([]core.MountRoutes, error)
}

// maxDescribed bounds the mounts of one document, which has all the paths of each.
const maxDescribed = 256

type specRequest struct {
	Generic engine.Bool `json:"generic_mount_paths" doc:"name mounts by a parameter of the path, and not by where they are"`
}

// A document describes the API in the form of OpenAPI 3.0. Clients take it as it
// is, without an envelope.
type document struct {
	OpenAPI    string               `json:"openapi"`
	Info       documentInfo         `json:"info"`
	Servers    []documentServer     `json:"servers"`
	Security   []map[string][]any   `json:"security"`
	Tags       []documentTag        `json:"tags"`
	Paths      map[string]*pathItem `json:"paths"`
	Components *components          `json:"components"`
}

type documentInfo struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Version     string `json:"version"`
}

type documentServer struct {
	URL string `json:"url"`
}

type documentTag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

type components struct {
	Schemas         map[string]*schema        `json:"schemas"`
	SecuritySchemes map[string]securityScheme `json:"securitySchemes"`
}

type securityScheme struct {
	Type        string `json:"type"`
	In          string `json:"in"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// A pathItem is one path. The fields with x- are those by which clients of Vault
// know what a policy must grant.
type pathItem struct {
	Description     string       `json:"description,omitempty"`
	Parameters      []*parameter `json:"parameters,omitempty"`
	Sudo            bool         `json:"x-vault-sudo,omitempty"`
	Unauthenticated bool         `json:"x-vault-unauthenticated,omitempty"`
	CreateSupported bool         `json:"x-vault-createSupported,omitempty"`
	Get             *operation   `json:"get,omitempty"`
	Post            *operation   `json:"post,omitempty"`
	Patch           *operation   `json:"patch,omitempty"`
	Delete          *operation   `json:"delete,omitempty"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *schema `json:"schema"`
}

type operation struct {
	Summary     string               `json:"summary"`
	Description string               `json:"description,omitempty"`
	OperationID string               `json:"operationId"`
	Tags        []string             `json:"tags"`
	Parameters  []*parameter         `json:"parameters,omitempty"`
	RequestBody *requestBody         `json:"requestBody,omitempty"`
	Responses   map[string]*response `json:"responses"`
	Security    *[]map[string][]any  `json:"security,omitempty"` // an empty list: no token
}

type requestBody struct {
	Required bool             `json:"required,omitempty"`
	Content  map[string]media `json:"content"`
}

type response struct {
	Description string           `json:"description"`
	Content     map[string]media `json:"content,omitempty"`
}

type media struct {
	Schema *schema `json:"schema"`
}

func openapiRoutes() []engine.Route {
	spec := func(c *engine.Call, r *specRequest) (*document, error) {
		mounts, err := ask[routeTables](c).MountRoutes()
		if err != nil {
			return nil, err
		}
		b := newBuilder(bool(r.Generic))
		for i, m := range mounts {
			if i == maxDescribed {
				b.doc.Info.Description += fmt.Sprintf(" Of the %d mounts that the caller may use, the first %d are described.", len(mounts), maxDescribed)
				break
			}
			b.mount(m, m.Of())
		}
		return b.doc, nil
	}
	const path, summary = "internal/specs/openapi", "Describe the API of the mounts that the caller may use, as an OpenAPI document."
	return append(helpRoutes(),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: path, Summary: summary}, spec),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: path, Summary: summary}, spec))
}

// builder makes a document, mount by mount.
type builder struct {
	doc     *document
	schemas *schemas
	generic bool
	ids     map[string]bool   // operation ids that are taken
	known   map[string]string // paths by their shape: with the names of variables left out
}

func newBuilder(generic bool) *builder {
	s := newSchemas()
	return &builder{generic: generic, schemas: s, ids: map[string]bool{}, known: map[string]string{}, doc: &document{
		OpenAPI: "3.0.3",
		Info: documentInfo{Title: "Conclave", Version: "1",
			Description: "The API of this cluster's mounts. Variables of a path may hold slashes where its description says so."},
		Servers:  []documentServer{{URL: "/v1"}},
		Security: []map[string][]any{{"token": {}}},
		Tags:     []documentTag{},
		Paths:    map[string]*pathItem{},
		Components: &components{Schemas: s.named, SecuritySchemes: map[string]securityScheme{
			"token": {Type: "apiKey", In: "header", Name: "X-Vault-Token", Description: "a token, of a login or made by another token"}}},
	}}
}

// single are the mounts that there is one of, at a path that never changes.
var single = map[string]bool{"sys/": true, "auth/token/": true, "cubbyhole/": true}

// mount adds some routes of a mount.
func (b *builder) mount(m core.MountRoutes, routes []engine.Route) {
	at, param := "/"+strings.TrimSuffix(m.Path, "/"), (*parameter)(nil)
	if b.generic && !single[m.Path] {
		name := strings.NewReplacer("-", "_", "/", "_").Replace(m.Type) + "_mount_path"
		half, where := "/", strings.TrimSuffix(m.Path, "/")
		if rest, isAuth := strings.CutPrefix(where, "auth/"); isAuth {
			half, where = "/auth/", rest
		}
		at = half + "{" + name + "}"
		param = &parameter{Name: name, In: "path", Required: true, Description: "where it is mounted", Schema: &schema{Type: "string", Default: where}}
	}
	tag := strings.TrimSuffix(m.Type, "/")
	if !b.tagged(tag) {
		b.doc.Tags = append(b.doc.Tags, documentTag{tag, m.Summary})
	}
	for _, r := range routes {
		if r.Stray {
			continue
		}
		for _, template := range templates(r) {
			b.add(at+template, param, tag, r)
		}
	}
}

func (b *builder) tagged(tag string) bool {
	for _, t := range b.doc.Tags {
		if t.Name == tag {
			return true
		}
	}
	return false
}

// templates are the paths of a route in the words of OpenAPI, where no variable is
// empty: what may be without one has two. What is listed ends in a slash.
func templates(r engine.Route) []string {
	var all []string
	for _, path := range []string{r.Path, without(r.Path)} {
		if len(all) > 0 && path == r.Path {
			break
		}
		var out strings.Builder
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "" {
				continue
			}
			if name, ok := engine.Variable(segment); ok {
				segment = "{" + name + "}"
			}
			out.WriteString("/" + segment)
		}
		if r.Verb == engine.VerbList || out.Len() == 0 {
			out.WriteString("/")
		}
		all = append(all, out.String())
	}
	return all
}

// without is a path without the variable that may be empty.
func without(path string) string {
	var out []string
	for segment := range strings.SplitSeq(path, "/") {
		if !strings.HasSuffix(segment, "*}") {
			out = append(out, segment)
		}
	}
	return strings.Join(out, "/")
}

// add describes a route under one path.
func (b *builder) add(path string, mount *parameter, tag string, r engine.Route) {
	path, item := b.item(path, mount, r)
	place := item.place(r.Verb)
	if *place != nil { // another mount of this type, and mounts have no names
		return
	}
	op := &operation{Summary: r.Summary, Description: r.Description, Tags: []string{tag}, OperationID: b.id(r.Verb, path), Responses: b.responses(r)}
	if op.Summary == "" {
		op.Summary = r.Verb.String() + " " + path
	}
	if r.Open {
		op.Security, item.Unauthenticated = &[]map[string][]any{}, true
	}
	item.Sudo = item.Sudo || r.Sudo
	item.CreateSupported = item.CreateSupported || r.TellsCreation()
	switch r.Verb {
	case engine.VerbRead, engine.VerbList, engine.VerbDelete:
		op.Parameters = b.query(r)
	default:
		op.RequestBody = b.body(r)
	}
	*place = op
}

// place is where a path has the operation for a verb.
func (i *pathItem) place(v engine.Verb) **operation {
	switch v {
	case engine.VerbWrite:
		return &i.Post
	case engine.VerbPatch:
		return &i.Patch
	case engine.VerbDelete:
		return &i.Delete
	}
	return &i.Get
}

// item returns the entry of a path. Two paths that differ in the names of their
// variables only are one.
func (b *builder) item(path string, mount *parameter, r engine.Route) (string, *pathItem) {
	form := shapeOf(path)
	if first, ok := b.known[form]; ok {
		return first, b.doc.Paths[first]
	}
	b.known[form] = path
	item := &pathItem{}
	if mount != nil {
		item.Parameters = append(item.Parameters, mount)
	}
	for _, p := range r.Parameters() {
		if !p.InPath || !strings.Contains(path, "{"+p.Name+"}") {
			continue
		}
		doc := p.Doc
		if strings.Contains(r.Path, "{"+p.Name+"...}") || strings.Contains(r.Path, "{"+p.Name+"*}") {
			doc += "; may hold slashes"
		}
		item.Parameters = append(item.Parameters, &parameter{Name: p.Name, In: "path", Required: true, Description: doc, Schema: &schema{Type: "string"}})
	}
	b.doc.Paths[path] = item
	return path, item
}

// shapeOf is a path with its variables' names left out.
func shapeOf(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

// id makes a name for an operation, which no other has.
func (b *builder) id(v engine.Verb, path string) string {
	words := strings.FieldsFunc(path, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	base := strings.Join(append([]string{v.String()}, words...), "-")
	id := base
	for n := 2; b.ids[id]; n++ {
		id = base + "-" + strconv.Itoa(n)
	}
	b.ids[id] = true
	return id
}

// query describes what a request without a body may carry.
func (b *builder) query(r engine.Route) []*parameter {
	var all []*parameter
	if r.Verb == engine.VerbList {
		all = append(all, &parameter{Name: "list", In: "query", Required: true, Description: "that this is a listing; the method LIST says so, too",
			Schema: &schema{Type: "string", Enum: []string{"true"}}})
	}
	for _, p := range r.Parameters() {
		if !p.InPath {
			all = append(all, &parameter{Name: p.Name, In: "query", Description: p.Doc, Schema: b.schemas.of(p.Type, asked)})
		}
	}
	return all
}

// body describes the body of a write; nil: it needs none.
func (b *builder) body(r engine.Route) *requestBody {
	object := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, p := range r.Parameters() {
		if !p.InPath {
			object.Properties[p.Name] = b.schemas.of(p.Type, asked).with(p.Doc)
		}
	}
	if r.TakesBody() {
		object.AdditionalProperties = &schema{}
	} else if len(object.Properties) == 0 {
		return nil
	}
	kind := "application/json"
	if r.Verb == engine.VerbPatch {
		kind = "application/merge-patch+json"
	}
	return &requestBody{Content: map[string]media{kind: {Schema: object}}}
}

// bare are the answers that go out as they are.
var bare = map[reflect.Type]bool{reflect.TypeFor[document](): true, reflect.TypeFor[helpAnswer](): true}

// responses describes what a route answers.
func (b *builder) responses(r engine.Route) map[string]*response {
	json := func(s *schema) map[string]media { return map[string]media{"application/json": {Schema: s}} }
	out := map[string]*response{"default": {Description: "a refusal, and why", Content: json(&schema{Ref: b.schemas.errors()})}}
	if bare[r.Response()] {
		out["200"] = &response{Description: "the document", Content: json(&schema{Type: "object"})}
		return out
	}
	data := b.schemas.data(r.Response())
	if data == nil {
		out["204"] = &response{Description: "done; there is nothing to say"}
		out["200"] = &response{Description: "done; with a token, a lease or a warning", Content: json(&schema{Ref: b.schemas.envelope()})}
		return out
	}
	out["200"] = &response{Description: "the answer", Content: json(&schema{AllOf: []*schema{{Ref: b.schemas.envelope()},
		{Type: "object", Properties: map[string]*schema{"data": data}}}})}
	return out
}
