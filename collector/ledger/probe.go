package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Probe says what Open would say of a file, and whether there is one. It makes
// no ledger, writes to none and keeps none locked; while it reads one, it holds
// it as a reader, for which an Open waits.
func Probe(path, site string) (found bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := probeDirectory(filepath.Dir(path)); err != nil {
			return false, &FileError{Path: path, Problem: ErrUnusable, err: err}
		}
		return false, nil
	}
	if err != nil {
		return false, &FileError{Path: path, Problem: ErrUnusable, err: err}
	}
	if err := inspectFile(path, site, info); err != nil {
		return true, err
	}
	// To be opened for writing is the right to write it; nothing is written.
	file, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the operator's path
	if err != nil {
		return true, &FileError{Path: path, Problem: ErrUnusable, err: err}
	}
	return true, file.Close()
}

// probeDirectory says whether a file could be made in a directory, which is made
// with its parents where it is not there yet. Rights and read-only file systems
// have too many rules to be guessed, so it makes a file, and takes it away.
func probeDirectory(path string) error {
	for {
		_, err := os.Stat(path)
		if err == nil {
			break
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return err
		}
		path = parent
	}
	file, err := os.CreateTemp(path, ".ncp_exporter-*")
	if err != nil {
		return fmt.Errorf("no file can be made in %s: %w", path, err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}
