package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/real"
	"github.com/conclave-secrets/conclave/server"
)

// binaryPatience is how long a binary may take to tell its version.
const binaryPatience = 10 * time.Second

// valid refuses what would fail only after everything was built.
func (f *realFlags) valid(ctx context.Context) error {
	if err := known(f.format, "text", "json"); err != nil {
		return err
	}
	for _, name := range f.options.Faults {
		if !slices.Contains(real.FaultNames(), name) {
			return unknownName("fault", name, real.FaultNames())
		}
	}
	if f.options.Binary == "" {
		return nil
	}
	return sameVersion(ctx, f.options.Binary)
}

// sameVersion refuses a binary that is none of conclave, or of another version than the
// harness was made for: it may rightly answer otherwise.
func sameVersion(ctx context.Context, binary string) error {
	const otherwise = "leave --binary out to have one built from this source"
	ctx, cancel := context.WithTimeout(ctx, binaryPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "version", "--format", "json").Output()
	if err != nil {
		return fmt.Errorf("asking %s for its version: %w; is it a conclave binary? %s", binary, err, otherwise)
	}
	var told struct{ Version, Platform string }
	if err := json.Unmarshal(out, &told); err != nil || told.Version == "" || told.Platform == "" {
		return fmt.Errorf("%s is no conclave binary: it does not tell its version; %s", binary, otherwise)
	}
	if told.Version != server.Version {
		return fmt.Errorf("%s is conclave %s, and this harness tests %s; %s, or run the harness of that version", binary, told.Version, server.Version, otherwise)
	}
	return nil
}
