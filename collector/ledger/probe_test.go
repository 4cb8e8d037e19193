package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// names are the files below a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestProbeLeavesAllAsItWas probes where Open would succeed; what it says where
// Open would not is held by all tests of refused files.
func TestProbeLeavesAllAsItWas(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "l.db"), filepath.Join(dir, "not", "there", "yet", "l.db")} {
		if found, err := Probe(t.Context(), path, testOptions()); found || err != nil {
			t.Errorf("%s: found %t, error %v", path, found, err)
		}
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("a probe left %v", left[1:])
	}

	path := aFile(t)
	before, files := mustRead(t, path), len(names(t, filepath.Dir(path)))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := Probe(t.Context(), path, testOptions()); !found || err != nil {
		t.Errorf("found %t, error %v", found, err)
	}
	after, err := os.Stat(path)
	if err != nil || !after.ModTime().Equal(info.ModTime()) || !bytes.Equal(before, mustRead(t, path)) || len(names(t, filepath.Dir(path))) != files {
		t.Errorf("a probe changed the ledger, error %v", err)
	}
	mustClose(t, mustOpen(t, path, testOptions())) // it is not locked
}

func TestProbeOfUnusablePaths(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	mustWrite(t, file, []byte("x"))
	for _, path := range []string{dir, filepath.Join(file, "l.db"), filepath.Join(file, "deeper", "l.db"), "/proc/nowhere/l.db"} {
		if _, err := Probe(t.Context(), path, Options{}); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: error %v, want %v", path, err, ErrUnusable)
		}
	}
	if os.Geteuid() == 0 {
		return // may write anything
	}
	path := aFile(t)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if found, err := Probe(t.Context(), path, testOptions()); !found || !errors.Is(err, ErrUnusable) {
		t.Errorf("a file that cannot be written: found %t, error %v", found, err)
	}
}
