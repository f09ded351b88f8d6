package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A Batch is what many seeds of the simulation came to.
type Batch struct {
	Folder  string    `json:"folder"` // of its page, below that of all runs
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Started time.Time `json:"started"`
	Command string    `json:"command"` // that runs it again
	First   uint64    `json:"first"`   // seed
	Asked   uint64    `json:"asked"`   // seeds; 0: as many as fill the hours
	Seeds   int       `json:"seeds"`   // that were finished
	Early   string    `json:"early,omitempty"`
	Stretch int       `json:"stretch"`
	Leisure int       `json:"leisure"`

	Virtual       time.Duration `json:"virtual"` // that was simulated, of all seeds
	Took          time.Duration `json:"took"`
	Ops           int           `json:"ops"`
	Searched      int           `json:"searched"` // by porcupine; all by the witness
	LeaderChanges int           `json:"leader_changes"`
	Faults        []FaultCount  `json:"faults"`

	Verdict Verdict     `json:"verdict"`
	Invalid []string    `json:"invalid"`
	Found   []WrongSeed `json:"found"`
}

// A WrongSeed is a seed in which something is wrong.
type WrongSeed struct {
	Seed   uint64   `json:"seed"`
	Found  []string `json:"found"`
	Page   string   `json:"page,omitempty"` // its folder, beside that of the batch
	Replay string   `json:"replay"`
}

// BatchFolder names the folder of a batch of seeds from first on.
func BatchFolder(started time.Time, first uint64) string {
	return fmt.Sprintf("%s-sim-batch-from-%d", started.UTC().Format(folderTime), first)
}

// Judge gives the batch its verdict.
func (b *Batch) Judge() {
	switch {
	case len(b.Found) > 0:
		b.Verdict = Fail
	case len(b.Invalid) > 0:
		b.Verdict = Invalid
	default:
		b.Verdict = Pass
	}
}

// PublishBatch writes a batch below dir, and makes the index of dir anew.
func PublishBatch(dir string, b *Batch) error {
	folder := filepath.Join(dir, b.Folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("publishing a batch: %w", err)
	}
	return errors.Join(
		writeJSON(filepath.Join(folder, batchFile), b),
		writeFile(filepath.Join(folder, pageFile), func(w io.Writer) error { return batchPage.Execute(w, b) }),
		Index(dir),
	)
}

func writeJSON(path string, v any) error {
	return writeFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
