package testprocess

import "testing"

// No two nodes are given the same port, though none listens on it yet. (Of so
// many drawn at random, two would be the same but once in millions.)
func TestPortsAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 300 {
		addresses, err := freeAddresses(3)
		if err != nil {
			t.Fatal(err)
		}
		if len(addresses) != 3 {
			t.Fatalf("got %v, want three", addresses)
		}
		for _, a := range addresses {
			if seen[a] {
				t.Errorf("%s is given twice", a)
			}
			seen[a] = true
		}
	}
}
