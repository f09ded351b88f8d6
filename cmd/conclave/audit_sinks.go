package main

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/conclave-secrets/conclave/server"
)

// sinkBlock is the kind of the blocks in the block audit, one for each copy of the
// audit log. They have no flags and no variables: there are any number of them.
const sinkBlock = "sink"

// sinkSetting is one field of a sink.
type sinkSetting struct {
	name string
	set  func(*server.AuditSinkConfig, string) error
}

var sinkSettings = []sinkSetting{
	{"type", text(func(c *server.AuditSinkConfig) *string { return &c.Type })},
	{"address", text(func(c *server.AuditSinkConfig) *string { return &c.Address })},
	{"strictness", text(func(c *server.AuditSinkConfig) *string { return &c.Strictness })},
	{"deadline", duration(func(c *server.AuditSinkConfig) *time.Duration { return &c.Deadline })},
	{"buffer_kib", number(func(c *server.AuditSinkConfig) *int { return &c.BufferKiB })},
}

func sinkSchema() *hcl.BodySchema {
	schema := &hcl.BodySchema{}
	for _, s := range sinkSettings {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: s.name})
	}
	return schema
}

// sinkValues reads the blocks of sinks. The first value of each makes the sink, so
// that what is missing in it has a place.
func sinkValues(blocks hcl.Blocks, diagnostics *hcl.Diagnostics) (out []fileValue) {
	for i, block := range blocks {
		key := "audit.sink." + block.Labels[0]
		out = append(out, fileValue{place: place(block.DefRange), setting: setting{key: key, set: func(c *server.Config, _ string) error {
			c.Audit.Sinks = append(c.Audit.Sinks, server.AuditSinkConfig{Name: block.Labels[0]})
			return nil
		}}})
		body, more := block.Body.Content(sinkSchema())
		*diagnostics = append(*diagnostics, more...)
		for _, s := range sinkSettings {
			attribute, ok := body.Attributes[s.name]
			if !ok {
				continue
			}
			each := setting{key: key + "." + s.name, set: func(c *server.Config, v string) error { return s.set(&c.Audit.Sinks[i], v) }}
			if value, ok := valueOf(attribute, each, diagnostics); ok {
				out = append(out, value)
			}
		}
	}
	return out
}
