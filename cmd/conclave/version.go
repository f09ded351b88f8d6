package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker for a release build.
var release string

// buildVersion names this build: the release, or what the Go tool knows.
func buildVersion() (version, revision string) {
	version = release
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, ""
	}
	if version == "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

func versionCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			version, revision := buildVersion()
			view := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return inv.render(view, func(out io.Writer) {
				row(out, "conclave", view.Version)
				row(out, "revision", cell(view.Revision))
				row(out, "go", view.Go)
				row(out, "platform", view.Platform)
			})
		},
	}
}
