//go:build unix

package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPipeIsNotOpened would wait for ever if it were.
func TestPipeIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.yml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(path, flagDefaults()); err == nil || !strings.Contains(err.Error(), "a named pipe") {
		t.Errorf("error %v", err)
	}
}
