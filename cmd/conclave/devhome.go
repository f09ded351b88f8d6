package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// devStateFile is the file in a development directory that makes it one.
const devStateFile = "dev.json"

// devFormat numbers the format of that file.
const devFormat = 1

// A devState is what the next "conclave dev --dir" must know. It holds the
// shares and the token, which is why it is for development only.
type devState struct {
	Format    int        `json:"format"`
	Warning   string     `json:"warning"`
	ClusterID string     `json:"cluster_id"`
	Nodes     []devPorts `json:"nodes"`
	Shares    []string   `json:"shares"`
	Threshold int        `json:"threshold"`
	RootToken string     `json:"root_token"`
}

const devWarning = "Development only: whoever reads this file can read every secret of this cluster."

// A devHome is the directory of a development cluster.
type devHome struct {
	dir       string
	temporary bool
	lock      *os.File // held while a temporary home is in use
	known     bool     // state was found, not made
	state     devState // zero until the cluster is initialised
}

// openDevHome finds, or makes, the directory. It refuses one that holds
// something else.
func openDevHome(r devRequest) (*devHome, error) {
	if r.dir == "" {
		return openTemporaryHome()
	}
	dir, err := filepath.Abs(r.dir)
	if err != nil {
		return nil, devFailure("finding the directory", err, "Check --dir.")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, devFailure("making the directory", err, "Check --dir.")
	}
	h := &devHome{dir: dir}
	if err := h.read(); err != nil {
		return nil, err
	}
	return h, h.agrees(r)
}

func (h *devHome) read() error {
	text, err := os.ReadFile(filepath.Join(h.dir, devStateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.mustBeEmpty()
	}
	if err != nil {
		return devFailure("reading the development cluster", err, "Check --dir.")
	}
	if err := json.Unmarshal(text, &h.state); err != nil || h.state.Format < 1 || len(h.state.Nodes) == 0 {
		return usageError("Name another --dir, or remove this one.", "%s is damaged", filepath.Join(h.dir, devStateFile))
	}
	if h.state.Format > devFormat {
		return usageError("Use the newer version that made it.", "%s has format %d, and this version knows only %d", h.dir, h.state.Format, devFormat)
	}
	h.known = true
	return nil
}

func (h *devHome) mustBeEmpty() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return devFailure("reading the directory", err, "Check --dir.")
	}
	if len(entries) > 0 {
		return usageError("Name an empty directory. If 'conclave dev' was killed while it made this one, remove it.",
			"%s is not empty and holds no development cluster", h.dir)
	}
	return nil
}

// agrees refuses flags that the cluster found contradicts: its members know
// each other by their ports.
func (h *devHome) agrees(r devRequest) error {
	if !h.known {
		return nil
	}
	if r.nodesSet && r.nodes != len(h.state.Nodes) {
		return usageError("Leave --nodes out, or name another --dir.", "the cluster in %s has %s, not %d", h.dir, count(len(h.state.Nodes), "node"), r.nodes)
	}
	if r.portSet && r.port != 0 && r.port != h.state.Nodes[0].Base {
		return usageError("Leave --port out, or name another --dir.", "the cluster in %s lives at port %d, not %d", h.dir, h.state.Nodes[0].Base, r.port)
	}
	return nil
}

// save writes the state so that it is there whole after a crash, or not at all.
func (h *devHome) save(s devState) error {
	s.Format, s.Warning = devFormat, devWarning
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return devFailure("writing the development cluster", err, "")
	}
	if err := writeWhole(filepath.Join(h.dir, devStateFile), append(text, '\n')); err != nil {
		return devFailure("writing the development cluster", err, "")
	}
	h.state = s
	return nil
}

// writeWhole writes a private file by way of another and a rename.
func writeWhole(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// close removes a temporary directory.
func (h *devHome) close() error {
	if !h.temporary {
		return nil
	}
	if err := errors.Join(os.RemoveAll(h.dir), h.lock.Close()); err != nil {
		return devFailure("removing the temporary directory", err, "Remove "+h.dir+" by hand.")
	}
	return nil
}

func devFailure(activity string, err error, hint string) error {
	return &failure{exitServer, fmt.Errorf("%s: %w", activity, err), hint}
}
