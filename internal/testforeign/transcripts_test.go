package testforeign

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

var rewrite = flag.Bool("transcripts.rewrite", false, "write what was answered into the transcripts where it is not what they say")

// TestTranscripts plays testdata/*.txtar against the cluster, each request on the
// next node: what goes over the wire, as people read it. The comment says what is
// held. The files are, in order,
//
//	-- node empty --     first, if at all: on a node of its own that nobody has initialised
//	-- METHOD PATH --    a request; its text is headers and then, after an empty line, the body
//	-- CODE --           its answer, whole; nothing: there is no body
//	-- CODE envelope --  the same, but the parts of the envelope that are left out say nothing
//
// A request has the root token, unless a header "Token: ${name}" or "Token: none"
// says otherwise. An answer may have headers, too. In the place of a value, of JSON or
// of a header,
//
//	"{any}" "{time}" "{uuid}" "{int}"  stand for any value, a time in UTC, an id, a whole number
//	"{save NAME}"                      a text that is used as ${NAME} from then on
//	"...": true                        says that an object may have more fields
//
// Requests without an answer after them must succeed. Headers that every answer
// must have are checked for all of them.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { play(t, name) })
	}
}

// transcript is one being played.
type transcript struct {
	*testing.T
	nodes []*testprocess.Node
	next  int
	saved map[string]string

	asked  string // the request at hand
	code   int
	header http.Header
	body   []byte
}

func play(t *testing.T, name string) {
	cleanUp(t)
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Error("the transcript does not say what it holds")
	}
	s := &transcript{T: t, nodes: cluster.Nodes, saved: map[string]string{"root": rootToken(t)}}
	answers := 0
	for i, f := range archive.Files {
		first, rest, _ := strings.Cut(f.Name, " ")
		switch {
		case f.Name == "node empty":
			s.startEmpty()
		case regexp.MustCompile(`^\d\d\d$`).MatchString(first):
			answers++
			if wrong := s.compare(first, rest == "envelope", string(f.Data)); wrong != "" {
				if !*rewrite {
					t.Errorf("%s: %s\nanswered %d %s", s.asked, wrong, s.code, s.body)
					continue
				}
				archive.Files[i].Name, archive.Files[i].Data = s.spell()
			}
		default:
			s.ask(first, rest, string(f.Data))
			if i+1 == len(archive.Files) || !regexp.MustCompile(`^\d\d\d`).MatchString(archive.Files[i+1].Name) {
				if s.code > 299 {
					t.Fatalf("%s: %d %s", s.asked, s.code, s.body)
				}
			}
		}
	}
	if answers == 0 {
		t.Error("the transcript pins no answer")
	}
	if *rewrite {
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// startEmpty starts a node that belongs to no cluster.
func (s *transcript) startEmpty() {
	s.Helper()
	s.nodes, s.saved = []*testprocess.Node{emptyNode(s.T)}, map[string]string{"root": "none"}
}

var header = regexp.MustCompile(`^[A-Za-z-]+: `)

// split takes the headers off a text.
func split(text string) (headers map[string]string, body string) {
	headers = map[string]string{}
	for header.MatchString(text) {
		line, rest, _ := strings.Cut(text, "\n")
		name, value, _ := strings.Cut(line, ": ")
		headers[name], text = strings.TrimSpace(value), rest
	}
	return headers, strings.TrimSpace(text)
}

func (s *transcript) expand(text string) string {
	return os.Expand(text, func(name string) string {
		value, ok := s.saved[name]
		if !ok {
			s.Fatalf("%s: nothing was saved as %s", s.asked, name)
		}
		return value
	})
}

func (s *transcript) ask(method, path, text string) {
	s.Helper()
	s.asked = method + " " + path
	headers, body := split(s.expand(text))
	token := s.saved["root"]
	if sent, ok := headers["Token"]; ok {
		token = sent
		delete(headers, "Token")
	}
	if token != "none" {
		headers["X-Vault-Token"] = token
	}
	s.next++
	answer, err := send(s.Context(), s.nodes[s.next%len(s.nodes)], method, s.expand(path), headers, body)
	if err != nil {
		s.Fatalf("%s: %v", s.asked, err)
	}
	s.code, s.header, s.body = answer.code, answer.header, answer.body
	s.checkHeaders()
}

// checkHeaders checks what clients rely on with each answer.
func (s *transcript) checkHeaders() {
	s.Helper()
	if kind := s.header.Get("Content-Type"); kind != "application/json" && !strings.Contains(s.asked, "format=prometheus") {
		s.Errorf("%s: Content-Type %q", s.asked, kind)
	}
	if s.header.Get("Cache-Control") != "no-store" {
		s.Errorf("%s: Cache-Control %q", s.asked, s.header.Get("Cache-Control"))
	}
	if _, err := http.ParseTime(s.header.Get("Date")); err != nil {
		s.Errorf("%s: Date: %v", s.asked, err)
	}
}

// silent are the parts of an envelope that say nothing.
var silent = map[string]any{"request_id": "{uuid}", "lease_id": "", "renewable": false, "lease_duration": json.Number("0"), "data": nil,
	"wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "{any}"}

func decode(text string) (v any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// compare tells how the answer differs from what the transcript says; "": it does not.
func (s *transcript) compare(code string, envelope bool, text string) string {
	headers, body := split(s.expand(text))
	if code != fmt.Sprint(s.code) {
		return "the code is not " + code
	}
	for name, want := range headers {
		if wrong := s.differs("the header "+name, want, s.header.Get(name)); wrong != "" {
			return wrong
		}
	}
	if body == "" {
		if len(s.body) > 0 {
			return "there is a body"
		}
		return ""
	}
	want, err := decode(body)
	if err != nil {
		s.Fatalf("%s: the transcript is no JSON: %v", s.asked, err)
	}
	got, err := decode(string(s.body))
	if err != nil {
		return "the body is no JSON"
	}
	if said, ok := want.(map[string]any); ok && envelope {
		for name, value := range silent {
			if _, there := said[name]; !there {
				said[name] = value
			}
		}
	}
	return s.differs("", want, got)
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// differs compares a value with the pattern for it.
func (s *transcript) differs(at string, want, got any) string {
	if pattern, ok := want.(string); ok && strings.HasPrefix(pattern, "{") && strings.HasSuffix(pattern, "}") {
		return s.fits(at, pattern, got)
	}
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v and no object", at, got)
		}
		for name, value := range want {
			if name == "..." {
				continue
			}
			inside, there := object[name]
			if !there {
				return fmt.Sprintf("%s lacks %s", at, name)
			}
			if wrong := s.differs(at+"."+name, value, inside); wrong != "" {
				return wrong
			}
		}
		for name := range object {
			if _, known := want[name]; !known && want["..."] != true {
				return fmt.Sprintf("%s has %s", at, name)
			}
		}
		return ""
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is %v, not %v", at, got, want)
		}
		for i := range want {
			if wrong := s.differs(fmt.Sprintf("%s[%d]", at, i), want[i], list[i]); wrong != "" {
				return wrong
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, not %v", at, got, want)
	}
	return ""
}

// fits compares a value with a pattern in braces.
func (s *transcript) fits(at, pattern string, got any) string {
	text, isText := got.(string)
	number, isNumber := got.(json.Number)
	name, save := strings.CutPrefix(pattern[1:len(pattern)-1], "save ")
	ok := false
	switch {
	case save:
		if ok = isText && text != ""; ok {
			s.saved[name] = text
		}
	case pattern == "{any}":
		ok = true
	case pattern == "{time}":
		_, err := time.Parse(time.RFC3339Nano, text)
		ok = err == nil && strings.HasSuffix(text, "Z")
	case pattern == "{uuid}":
		ok = uuid.MatchString(text)
	case pattern == "{int}":
		ok = isNumber && !strings.ContainsAny(number.String(), ".eE")
	}
	if !ok {
		return fmt.Sprintf("%s is %v, and no %s", at, got, pattern)
	}
	return ""
}

// spell writes the answer down as a transcript would have it.
func (s *transcript) spell() (name string, text []byte) {
	name = fmt.Sprint(s.code)
	value, err := decode(string(s.body))
	if err != nil {
		return name, s.body
	}
	value = s.pattern(value)
	if object, ok := value.(map[string]any); ok && object["request_id"] != nil {
		name += " envelope"
		for part, nothing := range silent {
			if reflect.DeepEqual(object[part], nothing) || part == "mount_type" {
				delete(object, part)
			}
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(value); err != nil {
		s.Fatal(err)
	}
	return name, out.Bytes()
}

// pattern puts patterns in the place of values that are others each time.
func (s *transcript) pattern(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inside := range v {
			v[name] = s.pattern(inside)
		}
	case []any:
		for i, inside := range v {
			v[i] = s.pattern(inside)
		}
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "{time}"
		}
		if uuid.MatchString(v) {
			return "{uuid}"
		}
		names := make([]string, 0, len(s.saved))
		for name := range s.saved {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if value := s.saved[name]; value == v && len(v) > 8 {
				return "${" + name + "}"
			}
		}
	}
	return v
}
