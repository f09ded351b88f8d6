package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/conclave-secrets/conclave/client"
)

// capabilityView is what a token may do on paths, in JSON and YAML.
type capabilityView struct {
	Capabilities map[string][]string `json:"capabilities"`
	Index        uint64              `json:"index"`
}

func (inv *invocation) renderCapabilities(paths []string, a *client.Answer) error {
	var granted map[string][]string
	if err := a.Decode(&granted); err != nil {
		return err
	}
	inv.warn(a.Warnings)
	view := capabilityView{map[string][]string{}, a.Index}
	for _, path := range paths {
		list, told := granted[path]
		if !told {
			return &failure{exitServer, fmt.Errorf("asking for capabilities: the answer does not speak of %q", path), ""}
		}
		view.Capabilities[path] = list
	}
	return inv.render(view, func(out io.Writer) {
		for _, path := range paths {
			row(out, printable(path), strings.Join(view.Capabilities[path], ", "))
		}
	})
}
