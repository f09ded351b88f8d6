package enginetest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/conclave-secrets/conclave/engine"
)

var rewrite = flag.Bool("enginetest.rewrite", false, "write what was answered into the transcripts")

var verbs = map[string]engine.Verb{"read": engine.VerbRead, "list": engine.VerbList, "write": engine.VerbWrite,
	"patch": engine.VerbPatch, "delete": engine.VerbDelete}

// TestTranscripts plays the transcripts that match glob: txtar archives whose
// comment says what is held, and whose files are, in order,
//
//	-- mount k=v … --        options of the mount; first, if at all
//	-- write PATH?QUERY --   an ask, by verb; its text is the body
//	-- answer --             what the ask before it is answered; without it, it must succeed
//	-- token NAME --         from here on the caller has this token
//	-- end token NAME --     the token is revoked, or expires
//	-- advance 1h --         time goes by
//
// Each transcript has a store of its own, which begins empty at 2026-01-01. With
// -enginetest.rewrite the answers are replaced by those that were given: a changed
// file is a claim to be defended.
func TestTranscripts(t *testing.T, b engine.Backend, glob string) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts %s: %d found, %v", glob, len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), func(t *testing.T) { play(t, b, name) })
	}
}

func play(t *testing.T, b engine.Backend, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Error("the transcript does not say what it holds")
	}
	s := &script{T: t, backend: b}
	answers := 0
	for i, f := range archive.Files {
		if f.Name == "answer" {
			answers++
			if *rewrite {
				archive.Files[i].Data = []byte(s.last)
			} else if string(f.Data) != s.last {
				t.Errorf("%s is answered\n%swant\n%s", s.asked, s.last, f.Data)
			}
			continue
		}
		wanted := i+1 < len(archive.Files) && archive.Files[i+1].Name == "answer"
		if s.step(f.Name, f.Data); s.failed && !wanted {
			t.Errorf("%s fails: %s", s.asked, s.last)
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

// script is a transcript being played.
type script struct {
	*testing.T
	backend engine.Backend
	desk    *desk
	asked   string
	last    string // what was answered last
	failed  bool
}

func (s *script) step(name string, body []byte) {
	s.failed = false
	command, rest, _ := strings.Cut(name, " ")
	if command == "mount" {
		s.desk = newDesk(s, s.backend, RouteOptions{Options: options(rest)})
		return
	}
	if s.desk == nil {
		s.desk = newDesk(s, s.backend, RouteOptions{})
	}
	if verb, ok := verbs[command]; ok {
		s.asked = name
		s.ask(Asking(verb, rest, strings.TrimSpace(string(body))))
		return
	}
	switch command {
	case "token":
		s.desk.Token = rest
	case "end":
		s.desk.store.EndToken(strings.TrimPrefix(rest, "token "))
	case "advance":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.Fatal(err)
		}
		s.desk.store.Advance(d)
	default:
		s.Fatalf("the transcript has an unknown step: %s", name)
	}
}

func options(text string) map[string]string {
	out := map[string]string{}
	for pair := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(pair, "=")
		out[k] = v
	}
	return out
}

// told is an answer as transcripts show it.
type told struct {
	Creates       bool     `json:"creates,omitempty"` // the capability create was asked for, not update
	Missing       bool     `json:"missing,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
	LeaseDuration string   `json:"lease_duration,omitempty"`
	Data          any      `json:"data"`
}

func (s *script) ask(a Ask) {
	got := s.desk.do(a)
	s.failed = got.err != nil || got.route == nil
	switch {
	case got.err != nil:
		s.last = fmt.Sprintf("%T: %v\n", got.err, got.err)
		return
	case !got.known:
		s.last = "no route has this path\n"
		return
	case got.route == nil:
		s.last = "no route has this verb\n"
		return
	}
	out := told{Creates: got.creates, Missing: got.answer.Missing, Warnings: got.answer.Warnings, Data: got.answer.Data}
	if got.answer.LeaseDuration != 0 {
		out.LeaseDuration = got.answer.LeaseDuration.String()
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(out); err != nil {
		s.Fatalf("spelling the answer: %v", err)
	}
	s.last = text.String()
}
