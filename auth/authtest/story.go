package authtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

var rewrite = flag.Bool("rewrite", false, "write what stories say now into their files; read the difference")

// Stories replays the transcripts dir/*.txtar, each on a mount of its own. A file
// of an archive is a list of requests, one in a line, each followed by its answer:
//
//	VERB PATH {BODY}     read, list, write or delete
//	from ADDRESS         the address of the callers that follow
//	later DURATION       log time goes on
//
// The answers start with two spaces. The file named "options" holds the mount's,
// as a JSON object. Random ids follow from the name of the file.
func Stories(t *testing.T, dir string, backend func() engine.Backend) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories in %s: %v", dir, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { replay(t, file, backend()) })
	}
}

func replay(t *testing.T, file string, b engine.Backend) {
	story, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var options map[string]string
	if len(story.Files) > 0 && story.Files[0].Name == "options" {
		if err := json.Unmarshal(story.Files[0].Data, &options); err != nil {
			t.Fatal(err)
		}
	}
	s := &stage{mount: NewMount(t, b, options), dice: Dice(3)}
	for i, f := range story.Files {
		if f.Name == "options" {
			continue
		}
		var now bytes.Buffer
		for line := range strings.Lines(string(f.Data)) {
			if strings.HasPrefix(line, "  ") {
				continue
			}
			now.WriteString(line)
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				now.WriteString(s.line(t, line))
			}
		}
		if !bytes.Equal(now.Bytes(), f.Data) && !*rewrite {
			t.Errorf("%s: got\n%s\nwant\n%s", f.Name, now.Bytes(), f.Data)
		}
		story.Files[i].Data = now.Bytes()
	}
	if *rewrite {
		if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// stage is where a story plays.
type stage struct {
	mount *Mount
	dice  io.Reader
	from  netip.Addr
}

func (s *stage) line(t *testing.T, line string) string {
	t.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "from":
		s.from = netip.MustParseAddr(rest)
		return ""
	case "later":
		d, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatal(err)
		}
		s.mount.Store.Advance(d)
		return ""
	}
	path, body, _ := strings.Cut(rest, " ")
	verbs := map[string]engine.Verb{"read": engine.VerbRead, "list": engine.VerbList, "write": engine.VerbWrite, "delete": engine.VerbDelete}
	if verbs[verb] == 0 {
		t.Fatalf("the line %q starts with no verb", line)
	}
	return s.tell(t, Request{Verb: verbs[verb], Path: path, Body: body, Address: s.from})
}

func (s *stage) tell(t *testing.T, r Request) string {
	t.Helper()
	a, err := s.mount.Do(r, s.dice)
	if err != nil {
		return fmt.Sprintf("  %s: %v\n", kindOf(err), err)
	}
	out := ""
	if a.Login != nil {
		p, err := json.Marshal(a.Login)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf("  login %s\n", p)
	}
	if a.Data != nil {
		p, err := json.Marshal(a.Data)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf("  %s\n", p)
	}
	for _, w := range a.Warnings {
		out += "  warning: " + w + "\n"
	}
	if out == "" {
		out = "  done\n"
	}
	return out
}

// kindOf names the kind of an error, which decides on its code.
func kindOf(err error) string {
	var (
		credential  *auth.CredentialError
		unavailable *auth.UnavailableError
		invalid     *engine.InvalidError
		missing     *engine.NotFoundError
	)
	switch {
	case errors.As(err, &credential):
		return fmt.Sprintf("%v (%s)", credential.Kind, credential.Why)
	case errors.As(err, &unavailable):
		return "unavailable"
	case errors.As(err, &invalid):
		return "bad request"
	case errors.As(err, &missing):
		return "not found"
	case errors.Is(err, ErrNoRoute):
		return "no route"
	}
	return "failure"
}
