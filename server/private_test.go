package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory, or a key, that others could read is closed to them, with a line
// in the log; one that others could write to is refused and left as it was.
func TestDataDirPermissions(t *testing.T) {
	for _, test := range []struct {
		dir, file fs.FileMode
		refused   bool
		lines     int
	}{
		{0o700, 0o600, false, 0},
		{0o700, 0, false, 0}, // no identity yet
		{0o500, 0o400, false, 0},
		{0o755, 0o600, false, 1},
		{0o750, 0o640, false, 2},
		{0o711, 0o644, false, 2},
		{0o701, 0o600, false, 1},
		{0o770, 0o600, true, 0},
		{0o702, 0o600, true, 0},
		{0o777, 0, true, 0},
		{0o700, 0o660, true, 0},
		{0o700, 0o602, true, 0},
	} {
		t.Run(fmt.Sprintf("%04o %04o", test.dir, test.file), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, identityFile)
			if test.file != 0 {
				if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, test.file)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, test.dir); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			err := keepPrivate(dir, slog.New(slog.NewTextHandler(&log, nil)))
			var wrong *DataDirError
			if got := errors.As(err, &wrong); got != test.refused || (err != nil) != test.refused {
				t.Fatalf("got %v, want a refusal: %v", err, test.refused)
			}
			if test.refused && (!strings.Contains(wrong.Problem, "written to by others") || !strings.Contains(wrong.Hint, "chmod ")) {
				t.Errorf("got %q, hint %q", wrong.Problem, wrong.Hint)
			}
			if got := strings.Count(log.String(), "closed to them now"); got != test.lines {
				t.Errorf("%d lines in the log, want %d:\n%s", got, test.lines, &log)
			}
			for path, before := range map[string]fs.FileMode{dir: test.dir, file: test.file} {
				info, err := os.Stat(path)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				got := info.Mode().Perm()
				if test.refused && got != before {
					t.Errorf("%s was refused and changed from %04o to %04o", path, before, got)
				}
				if !test.refused && got&others != 0 {
					t.Errorf("%s is left with mode %04o", path, got)
				}
			}
		})
	}
}
