package vfs

import (
	"os"
	"path/filepath"
	"testing"
)

// fast_commit is found on the innermost mount, and on ext4 only.
func TestFastCommit(t *testing.T) {
	proc := t.TempDir()
	for path, content := range map[string]string{
		"self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
			"22 21 8:2 / /var/lib rw shared:1 - ext4 /dev/sdb1 rw\n" +
			"23 22 8:3 / /var/lib/tmp rw - tmpfs tmpfs rw\n",
		"fs/ext4/sda1/options": "rw\ndelalloc\n",
		"fs/ext4/sdb1/options": "rw\nfast_commit\n",
	} {
		full := filepath.Join(proc, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]bool{"/srv": false, "/var/lib/conclave": true, "/var/library": false, "/var/lib/tmp/x": false} {
		if got, err := fastCommit(dir, proc); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", dir, got, err, want)
		}
	}
	if got, err := fastCommit("/srv", filepath.Join(proc, "nowhere")); got || err != nil {
		t.Errorf("without /proc: got %v %v, want false", got, err)
	}
}
