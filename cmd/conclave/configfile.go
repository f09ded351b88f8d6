package main

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A fileValue is one setting in a configuration file and its place there.
type fileValue struct {
	setting setting
	text    string
	place   string // file:line:column
}

// readConfigFile reads an HCL file. The list of settings is its schema, so an
// unknown key is refused with its place, and so is a second block of a kind.
func readConfigFile(name string, readFile func(string) ([]byte, error)) ([]fileValue, error) {
	source, err := readFile(name)
	if err != nil {
		return nil, err
	}
	file, diagnostics := hclsyntax.ParseConfig(source, name, hcl.InitialPos)
	if diagnostics.HasErrors() {
		return nil, configErrors(diagnostics)
	}
	root, diagnostics := file.Body.Content(schemaOf(""))
	values := valuesOf("", root, &diagnostics)
	seen := map[string]hcl.Range{}
	for _, block := range root.Blocks {
		if first, twice := seen[block.Type]; twice {
			diagnostics = append(diagnostics, &hcl.Diagnostic{Severity: hcl.DiagError, Subject: block.DefRange.Ptr(),
				Summary: fmt.Sprintf("block %s is there twice", block.Type), Detail: "the first is at " + place(first)})
			continue
		}
		seen[block.Type] = block.DefRange
		body, more := block.Body.Content(schemaOf(block.Type + "."))
		diagnostics = append(diagnostics, more...)
		values = append(values, valuesOf(block.Type+".", body, &diagnostics)...)
		values = append(values, sinkValues(body.Blocks.OfType(sinkBlock), &diagnostics)...)
	}
	if diagnostics.HasErrors() {
		return nil, configErrors(diagnostics)
	}
	return values, nil
}

// schemaOf lists what may stand in a block; "" is the file itself.
func schemaOf(prefix string) *hcl.BodySchema {
	schema := &hcl.BodySchema{}
	if prefix == "audit." {
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: sinkBlock, LabelNames: []string{"name"}})
	}
	var blocks []string
	for _, s := range settings {
		rest, inside := strings.CutPrefix(s.key, prefix)
		block, _, deeper := strings.Cut(rest, ".")
		switch {
		case !inside || s.noFile:
		case !deeper:
			schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: rest})
		case !slices.Contains(blocks, block):
			blocks = append(blocks, block)
			schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: block})
		}
	}
	return schema
}

func valuesOf(prefix string, body *hcl.BodyContent, diagnostics *hcl.Diagnostics) []fileValue {
	var out []fileValue
	if body == nil {
		return nil
	}
	for _, s := range settings {
		attribute, ok := body.Attributes[strings.TrimPrefix(s.key, prefix)]
		if !ok || !strings.HasPrefix(s.key, prefix) {
			continue
		}
		if value, ok := valueOf(attribute, s, diagnostics); ok {
			out = append(out, value)
		}
	}
	return out
}

// valueOf reads one attribute as a setting.
func valueOf(attribute *hcl.Attribute, s setting, diagnostics *hcl.Diagnostics) (fileValue, bool) {
	value, more := attribute.Expr.Value(nil)
	*diagnostics = append(*diagnostics, more...)
	if more.HasErrors() {
		return fileValue{}, false
	}
	text, err := textOf(value, s)
	if err != nil {
		*diagnostics = append(*diagnostics, &hcl.Diagnostic{Severity: hcl.DiagError, Subject: attribute.Expr.Range().Ptr(),
			Summary: s.key + " " + err.Error()})
		return fileValue{}, false
	}
	return fileValue{s, text, place(attribute.Expr.Range())}, true
}

var (
	errNotText  = errors.New("must be a text or a number")
	errNotTruth = errors.New("must be true or false")
	errNotList  = errors.New(`must be a list of texts, such as ["HOST:PORT"]`)
)

// textOf gives a value the form that flags and variables have.
func textOf(v cty.Value, s setting) (string, error) {
	if s.truth {
		if v.IsNull() || v.Type() != cty.Bool {
			return "", errNotTruth
		}
		return strconv.FormatBool(v.True()), nil
	}
	if s.list {
		if v.IsNull() || !v.Type().IsTupleType() {
			return "", errNotList
		}
		var items []string
		for _, item := range v.AsValueSlice() {
			if item.IsNull() || item.Type() != cty.String {
				return "", errNotList
			}
			items = append(items, item.AsString())
		}
		return strings.Join(items, ","), nil
	}
	switch {
	case v.IsNull():
		return "", errNotText
	case v.Type() == cty.String:
		return v.AsString(), nil
	case v.Type() == cty.Number:
		if n, accuracy := v.AsBigFloat().Int(nil); accuracy == big.Exact {
			return n.String(), nil
		}
	}
	return "", errNotText
}

func place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

// configErrors tells each diagnostic on a line that begins with its place.
func configErrors(diagnostics hcl.Diagnostics) error {
	var out []error
	for _, d := range diagnostics {
		if d.Severity != hcl.DiagError {
			continue
		}
		text := d.Summary
		if d.Detail != "" {
			text += ": " + d.Detail
		}
		if d.Subject != nil {
			text = place(*d.Subject) + ": " + text
		}
		out = append(out, errors.New(text))
	}
	return errors.Join(out...)
}
