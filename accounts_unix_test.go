//go:build unix

package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"ncp_exporter/ncpclient/ncptest"
)

// TestReloadOfAccounts adds, changes and removes accounts, by each way.
func TestReloadOfAccounts(t *testing.T) {
	file := newAccountsFile(t)
	ncps := map[string]*ncptest.Server{"prod": simulate(t, ncptest.Config{}), "dev": simulate(t, ncptest.Config{})}
	file.put(ncps, nil)
	p := launch(t, keysOf("prod", "dev", "new"), "--config.file="+file.path, "--web.enable-lifecycle", "--config.auto-reload-interval=20ms")
	p.probe("prod")
	p.probe("dev")
	post := func() answer {
		t.Helper()
		return request(t, plain(), http.MethodPost, p.url+"/-/reload")
	}
	if a := post(); a.status != 200 || !strings.Contains(a.body, "0 added, 0 changed, 0 removed, 2 unchanged") {
		t.Errorf("a reload without a change: HTTP %d: %s", a.status, a.body)
	}
	if a := p.get("/-/reload"); a.status != 405 || !strings.Contains(a.body, "POST") {
		t.Errorf("GET: HTTP %d: %s", a.status, a.body)
	}

	ncps["new"] = simulate(t, ncptest.Config{}) // the file tells
	file.put(ncps, map[string]string{"dev": "    rate_limit: 5\n"})
	eventually(t, "the changed file is loaded", func() bool { return p.get("/probe?account=new").status == 200 })
	p.probe("dev").want(t, `ncp_api_rate_limit_requests_per_second{api="external_access"}`, "5")

	write(t, file.path, "accounts: [") // is bad
	eventually(t, "the bad file is tried", func() bool { return p.scrape()["ncp_exporter_config_last_reload_successful"] == "0" })
	if a := post(); a.status != 500 || !strings.Contains(a.body, "accounts.yml") {
		t.Errorf("a bad file: HTTP %d: %s", a.status, a.body)
	}
	p.probe("new").want(t, success(externalAccess), "1")

	delete(ncps, "dev")
	file.put(ncps, nil)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a signal loads the file", func() bool { return p.get("/probe?account=dev").status == 404 })
	eventually(t, "the reload is told to be good", func() bool { return p.scrape()["ncp_exporter_config_last_reload_successful"] == "1" })
	if code := p.stopped(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
