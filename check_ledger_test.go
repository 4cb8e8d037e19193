package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/ncpclient/ncptest"
)

func TestCheckOfTheLedger(t *testing.T) {
	n := toCheck(t, ncptest.Config{})
	begin := func(path, site string) *ledger.Ledger {
		l, err := ledger.Open(t.Context(), path, ledger.Options{Owner: ledger.Owner{BaseURL: site}, Now: time.Now, LateArrival: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	closed := func(path, site string) string {
		if err := begin(path, site).Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := t.TempDir()
	whole := closed(filepath.Join(dir, "whole.db"), n.url+"/api/v1")
	other := closed(filepath.Join(dir, "other.db"), "https://other.example")
	newer := closed(filepath.Join(dir, "newer.db"), n.url+"/api/v1")
	content, err := os.ReadFile(newer) //nolint:gosec // made above
	if err != nil {
		t.Fatal(err)
	}
	write(t, newer, strings.Replace(string(content), `"version":2`, `"version":3`, 1))
	held := filepath.Join(dir, "held.db")
	holder := begin(held, n.url+"/api/v1")
	defer func() { _ = holder.Close() }() // nothing is in it
	damaged, file := filepath.Join(dir, "damaged.db"), filepath.Join(dir, "file")
	write(t, damaged, "no ledger")
	write(t, file, "")

	for name, test := range map[string]struct {
		path string
		code int
		want []string
	}{
		"new":          {filepath.Join(dir, "not", "there", "l.db"), 0, []string{"ok", "there is none yet"}},
		"whole":        {whole, 0, []string{"ok", "counting goes on"}},
		"memory":       {"", 0, []string{"ok", "in memory"}},
		"held":         {held, 0, []string{"warn", "another process has it open", "nothing, if that is the exporter"}},
		"other site":   {other, 1, []string{"fail", "another account or site", "https://other.example", "would not start", "--ncp.site"}},
		"newer":        {newer, 1, []string{"fail", "version 3", "would not start", "docs/upgrade.md"}},
		"damaged":      {damaged, 1, []string{"fail", "damaged", "would not start", "put back a copy"}},
		"directory":    {dir, 1, []string{"fail", "directory", "would not start", "may write"}},
		"below a file": {filepath.Join(file, "l.db"), 1, []string{"fail", "not a directory", "would not start"}},
		"odd name":     {filepath.Join(file, "\x1b[31m\n", "l.db"), 1, []string{"fail"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(test.path)
			code, r, text := n.check(t, n.env(), "--state.file="+test.path)
			r.others(t, findLedger)
			wantAll(t, r.said(findLedger), append(test.want, strings.NewReplacer("\x1b", " ", "\n", " ").Replace(test.path))...)
			if code != test.code {
				t.Errorf("exit code %d, want %d:\n%s", code, test.code, text)
			}
			if after, err := os.ReadFile(test.path); !bytes.Equal(before, after) || name == "new" && err == nil {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("default", func(t *testing.T) {
		stateFile := func() (report, string) {
			t.Helper()
			var out bytes.Buffer
			run(t.Context(), append(n.urls(), "--check", "--format=json"), n.env().lookup, &out, io.Discard)
			var r report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			return r, r.said(findLedger)
		}
		t.Chdir(t.TempDir())
		_, said := stateFile()
		wantAll(t, said, "ok", "--state.file=data/ncp_exporter.db, which is /", "there is none yet")
		write(t, "data", "") // where the directory should be
		r, said := stateFile()
		wantAll(t, said, "warn", "count in memory", "give --state.file")
		if !r.OK {
			t.Error("the default path that cannot be used is no failure: the exporter starts")
		}
	})
}
