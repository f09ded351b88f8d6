package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/server"
)

// revision names the commit that this binary was built from, when the Go tool
// knows it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func versionCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Example: `  conclave version
  conclave version --format json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			view := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{server.Version, revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return inv.render(view, func(out io.Writer) {
				row(out, "conclave", view.Version)
				row(out, "revision", cell(view.Revision))
				row(out, "go", view.Go)
				row(out, "platform", view.Platform)
			})
		},
	}
}
