package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"gopkg.in/yaml.v3"
)

// The formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// render prints a view: its JSON, the same as YAML, or a table.
func (inv *invocation) render(view any, table func(w io.Writer)) error {
	var text bytes.Buffer
	switch inv.format {
	case formatJSON:
		encoder := json.NewEncoder(&text)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(view); err != nil {
			return fmt.Errorf("rendering the answer as JSON: %w", err)
		}
	case formatYAML:
		if err := writeYAML(&text, view); err != nil {
			return fmt.Errorf("rendering the answer as YAML: %w", err)
		}
	default:
		aligned := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
		table(aligned)
		if err := aligned.Flush(); err != nil {
			return fmt.Errorf("rendering the answer as a table: %w", err)
		}
	}
	if _, err := inv.out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// writeYAML goes by way of JSON, so that both formats have the same names in
// the same order.
func writeYAML(w io.Writer, view any) error {
	text, err := json.Marshal(view)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	blockStyle(&document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return err
	}
	return encoder.Close()
}

// blockStyle forgets the braces and quotes of JSON; the encoder quotes again
// where the text would read as something else.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// row prints one line of a table. Errors of the writer surface at its Flush.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	fmt.Fprintln(w)
}

// stamp is a time in a view: RFC 3339 in UTC, or nothing.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// cell is a time or a text in a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func shortStamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
