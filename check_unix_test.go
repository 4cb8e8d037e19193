//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// TestCheckEndsInTime hangs on a file that the operating system does not open
// until somebody writes to it.
func TestCheckEndsInTime(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "web.yml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	n := toCheck(t, ncptest.Config{})
	code, stdout, _ := attempt(t, n.env(), append(n.urls(), "--check", "--scrape.timeout=2s", "--web.config.file="+pipe)...)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, stdout, "FAIL  web_config: not done within 2s", "ok    certificate_manager", "ok    ledger")

	// What hung goes on, and ends: the pipe does, and a file is in its place.
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) //nolint:gosec // below a TempDir
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(pipe), os.WriteFile(pipe, nil, 0o600), writer.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCheckOfAPipe refuses a ledger that would hang whoever opens it.
func TestCheckOfAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "l.db")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	n := toCheck(t, ncptest.Config{})
	code, r, _ := n.check(t, n.env(), "--state.file="+pipe)
	r.others(t, findLedger)
	wantAll(t, r.said(findLedger), "fail", "no regular file", "would not start")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
}
