package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/client"
)

// answerView is the answer to a request by path in JSON and YAML.
type answerView struct {
	Done          string          `json:"done,omitempty"`
	RequestID     string          `json:"request_id,omitempty"`
	LeaseID       string          `json:"lease_id,omitempty"`
	LeaseDuration int64           `json:"lease_duration,omitempty"` // seconds
	Renewable     bool            `json:"renewable,omitempty"`
	Missing       bool            `json:"missing,omitempty"`
	Data          json.RawMessage `json:"data,omitempty"`
	Auth          *authView       `json:"auth,omitempty"`
	WrapInfo      *wrapView       `json:"wrap_info,omitempty"`
	Warnings      []string        `json:"warnings,omitempty"`
	Index         uint64          `json:"index"`
}

type authView struct {
	Token         string            `json:"token,omitempty"`
	Accessor      string            `json:"accessor"`
	Policies      []string          `json:"policies"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	LeaseDuration int64             `json:"lease_duration"` // seconds; 0: it does not expire
	Renewable     bool              `json:"renewable"`
	EntityID      string            `json:"entity_id,omitempty"`
	Type          string            `json:"type"`
	Orphan        bool              `json:"orphan"`
	NumUses       uint64            `json:"num_uses,omitempty"`
}

type wrapView struct {
	Token           string `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"` // seconds
	CreatedAt       string `json:"created_at"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func viewAuth(a *client.Auth) *authView {
	if a == nil {
		return nil
	}
	return &authView{a.Token.Reveal(), a.Accessor, a.Policies, a.Metadata, seconds(a.LeaseDuration), a.Renewable, a.EntityID, a.Type, a.Orphan, a.NumUses}
}

func viewWrap(w *client.WrapInfo) *wrapView {
	if w == nil {
		return nil
	}
	return &wrapView{w.Token.Reveal(), w.Accessor, seconds(w.TTL), stamp(w.CreatedAt), w.CreationPath, w.WrappedAccessor}
}

func viewAnswer(done string, a *client.Answer) answerView {
	v := answerView{
		RequestID: a.RequestID, LeaseID: a.LeaseID, LeaseDuration: seconds(a.LeaseDuration), Renewable: a.Renewable, Missing: a.Missing,
		Auth: viewAuth(a.Auth), WrapInfo: viewWrap(a.Wrap), Warnings: a.Warnings, Index: a.Index,
	}
	if !a.Data.IsZero() {
		v.Data = a.Data.Reveal()
	}
	if a.Data.IsZero() && a.Auth == nil && a.Wrap == nil && !a.Missing {
		v.Done = done
	}
	return v
}

// renderAnswer prints an answer, or one field of it, and its warnings beside it.
// Done says what was done where the answer says nothing.
func (inv *invocation) renderAnswer(a *client.Answer, done, field string) error {
	inv.warn(a.Warnings)
	if field != "" {
		return inv.writeAnswerField(a, field)
	}
	view := viewAnswer(done, a)
	if err := inv.render(view, func(out io.Writer) { tableAnswer(out, view) }); err != nil {
		return err
	}
	if a.Missing {
		told := "What is shown is what is known of it."
		if a.Data.IsZero() {
			told = "The warning says more."
		}
		return &failure{exitNotFound, errMissing, told}
	}
	return nil
}

var errMissing = errors.New("it is not there, or not any more")

// warn tells warnings on standard error.
func (inv *invocation) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(inv.err, "warning: %s\n", indented(printable(w)))
	}
}

func tableAnswer(out io.Writer, v answerView) {
	if v.Done != "" {
		row(out, v.Done)
	}
	if w := v.WrapInfo; w != nil {
		row(out, "wrapping token", w.Token)
		row(out, "wrapping accessor", w.Accessor)
		row(out, "wrapping ttl", lifetime(w.TTL))
		row(out, "created", w.CreatedAt)
		row(out, "creation path", printable(w.CreationPath))
		if w.WrappedAccessor != "" {
			row(out, "wrapped accessor", w.WrappedAccessor)
		}
	}
	tableAuth(out, v.Auth)
	if v.LeaseID != "" {
		row(out, "lease id", printable(v.LeaseID))
		row(out, "lease duration", lifetime(v.LeaseDuration))
		row(out, "lease renewable", yesNo(v.Renewable))
	}
	tableData(out, v.Data)
}

func tableAuth(out io.Writer, a *authView) {
	if a == nil {
		return
	}
	if a.Token != "" {
		row(out, "token", a.Token)
	}
	row(out, "accessor", cell(a.Accessor)) // a batch token has none
	row(out, "policies", printable(strings.Join(a.Policies, ", ")))
	row(out, "expires in", lifetime(a.LeaseDuration))
	row(out, "renewable", yesNo(a.Renewable))
	row(out, "type", a.Type)
	row(out, "orphan", yesNo(a.Orphan))
	if a.NumUses > 0 {
		row(out, "uses left", a.NumUses)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Metadata)) {
		row(out, "metadata "+printable(name), printable(a.Metadata[name]))
	}
}

// lifetime spells seconds as people do.
func lifetime(seconds int64) string {
	if seconds <= 0 {
		return "never"
	}
	return (time.Duration(seconds) * time.Second).String()
}

// tableData prints the members of an object in the order of their names; a list
// of names that is all there is, one to a line.
func tableData(out io.Writer, raw json.RawMessage) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		if len(raw) > 0 {
			row(out, printable(string(raw)))
		}
		return
	}
	var names []string
	if len(members) == 1 && json.Unmarshal(members["keys"], &names) == nil {
		for _, name := range names {
			row(out, printable(name))
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		row(out, printable(name), jsonCell(members[name]))
	}
}

// jsonCell shows a JSON value in a table: text as such, the rest compact.
func jsonCell(raw json.RawMessage) string {
	var text string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return printable(text)
	}
	if string(raw) == "null" {
		return "-"
	}
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return printable(string(raw))
	}
	return printable(out.String())
}

// writeAnswerField prints one value, raw: text as it is, other JSON as JSON.
func (inv *invocation) writeAnswerField(a *client.Answer, name string) error {
	value, known, err := answerField(a, name)
	if err != nil {
		return err
	}
	if value == nil {
		return &failure{exitNotFound, fmt.Errorf("the answer has no field %q", name), "It has: " + strings.Join(known, ", ")}
	}
	var text string
	if value[0] == '"' && json.Unmarshal(value, &text) == nil {
		value = []byte(text)
	}
	if inv.outIsTerminal {
		value = append(value, '\n')
	}
	if _, err := inv.out.Write(value); err != nil {
		return fmt.Errorf("writing the value: %w", err)
	}
	return nil
}

// answerField finds a field: of the data, else of the token or of the wrapping
// that the answer is. known are the fields that there are.
func answerField(a *client.Answer, name string) (value json.RawMessage, known []string, err error) {
	var members map[string]json.RawMessage
	switch {
	case a.Wrap != nil:
		members, err = membersOf(viewWrap(a.Wrap))
	case a.Auth != nil:
		members, err = membersOf(viewAuth(a.Auth))
	case !a.Data.IsZero():
		err = a.Decode(&members)
	}
	return members[name], slices.Sorted(maps.Keys(members)), err
}

func membersOf(view any) (members map[string]json.RawMessage, err error) {
	raw, err := json.Marshal(view)
	if err == nil {
		err = json.Unmarshal(raw, &members)
	}
	return members, err
}
