package testforeign

import (
	"fmt"
	"testing"

	vault "github.com/hashicorp/vault/api"
)

// What a client wrote through one node it reads through the next at once, by the
// mark of its answer, without asking a quorum.
func TestWritesAreReadElsewhere(t *testing.T) {
	h := newVaultHand(t)
	for i := range 30 {
		var state string
		path := fmt.Sprintf("secret/data/index-%d", i%3)
		value := fmt.Sprint(i)
		writer := h.client().WithResponseCallbacks(vault.RecordState(&state))
		if _, err := writer.Logical().Write(path, map[string]any{"data": map[string]any{"n": value}}); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.ParseReplicationState(state, nil); err != nil {
			t.Fatalf("the mark %q: %v", state, err)
		}
		for range 2 {
			s, err := h.client().WithRequestCallbacks(vault.RequireState(state)).Logical().Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Data["data"].(map[string]any)["n"]; got != value {
				t.Fatalf("wrote %s and read %v", value, got)
			}
		}
	}
}
