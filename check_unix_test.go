//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// TestCheckEndsInTime hangs on a file that the operating system does not open
// until somebody writes to it.
func TestCheckEndsInTime(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "l.db")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	n := toCheck(t, ncptest.Config{})
	code, stdout, _ := attempt(t, n.env(), append(n.urls(), "--check", "--scrape.timeout=500ms", "--state.file="+pipe)...)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, stdout, "FAIL  ledger: not done within 500ms", "ok    certificate_manager", "ok    web_config")

	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) //nolint:gosec // below a TempDir
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil { // what hung goes on, and ends
		t.Fatal(err)
	}
}
