//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// discoveredConfig lets Prometheus ask the exporter what to scrape.
const discoveredConfig = `
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: ncp
    http_sd_configs:
      - url: http://%s/sd
        refresh_interval: 1s
`

// accountsFile writes a file of accounts, each with a simulated NCP of its own.
func accountsFile(t *testing.T, path string, accounts map[string]ncp) {
	t.Helper()
	var text strings.Builder
	text.WriteString("accounts:\n")
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		fmt.Fprintf(&text, "  %s:\n    keys: {access_key_env: %s_ACCESS, secret_key_env: %[2]s_SECRET}\n", name, strings.ToUpper(name))
		fmt.Fprintf(&text, "    certificate_manager: {url: %q}\n    external_access: {url: %q}\n",
			accounts[name].certificateManager.CertificateManagerURL(), accounts[name].externalAccess.ExternalAccessURL())
	}
	if err := errors.Join(os.WriteFile(path+".new", []byte(text.String()), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func keysOf(names ...string) []string {
	var env []string
	for _, name := range names {
		for _, pair := range demoKeys() {
			kind, value, _ := strings.Cut(pair, "=")
			variable := "_ACCESS"
			if strings.Contains(kind, "SECRET") {
				variable = "_SECRET"
			}
			env = append(env, strings.ToUpper(name)+variable+"="+value)
		}
	}
	return env
}

// TestDiscoveredAccounts has a real Prometheus discover three accounts; one is added
// and one removed while it runs.
func TestDiscoveredAccounts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	accounts := map[string]ncp{"prod": simulate(t), "dev": simulate(t), "agency": simulate(t)}
	accountsFile(t, file, accounts)
	e := launch(t, keysOf("prod", "dev", "agency", "batch"), "--config.file="+file, "--state.file="+filepath.Join(dir, "ledger.db"))

	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, discoveredConfig, strings.TrimPrefix(e.url, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	prometheus := "http://" + p.address(t)
	// up wants Prometheus to scrape these accounts, and the exporter itself, which has
	// no account.
	up := func(want ...string) {
		t.Helper()
		series := []string{seriesName("", nil)}
		for _, account := range want {
			series = append(series, seriesName("", map[string]string{"account": account}))
		}
		slices.Sort(series)
		eventually(t, fmt.Sprintf("Prometheus scrapes %v", want), func() error {
			got, err := query(t, prometheus, `max without(__name__, job, instance) (up{job="ncp"} == 1)`)
			if found := slices.Sorted(maps.Keys(got)); err == nil && !slices.Equal(found, series) {
				return fmt.Errorf("it scrapes %v", found)
			}
			return err
		})
	}
	up("agency", "dev", "prod")
	stored, err := query(t, prometheus, `ncp_external_access_subjects{account!="",exported_account=""}`)
	if err != nil || len(stored) != 3 {
		t.Errorf("%v, error %v: want the subjects of three accounts", stored, err)
	}

	accounts["batch"] = simulate(t)
	delete(accounts, "dev")
	accountsFile(t, file, accounts)
	e.signal(t, syscall.SIGHUP)
	up("agency", "batch", "prod")
	failed, err := query(t, prometheus, `max_over_time(ncp_scrape_collector_success{account=~"agency|prod"}[1m]) > min_over_time(ncp_scrape_collector_success{account=~"agency|prod"}[1m])`)
	if err != nil || len(failed) > 0 {
		t.Errorf("collectors of accounts that did not change failed: %v, error %v", failed, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "accounts", "dev")); err != nil {
		t.Errorf("the ledger of the removed account: %v", err)
	}
	p.signal(t, os.Interrupt) // lets go of its directory
	p.exit(t)
}

// TestKilledWhileReloading ends the exporter with SIGKILL in the middle of reloads, of
// which one in three is bad, and of commits: no counter of any account ever falls, and
// in the end each login is counted once.
func TestKilledWhileReloading(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	names := []string{"steady", "changing"}
	logs, before, stops := make(map[string]*logins), make(map[string]scrape), make(map[string]func())
	for _, name := range names {
		l := newLogins(t, ncptest.NewestFirst)
		for range 100 {
			l.login()
		}
		logs[name], before[name], stops[name] = l, make(scrape), l.goOn()
		defer func() { stops[name]() }()
	}
	put := func(limit int) {
		text := "accounts:\n"
		for i, name := range names {
			text += fmt.Sprintf("  %s:\n    keys: {access_key_env: %s_ACCESS, secret_key_env: %[2]s_SECRET}\n    rate_limit: %d\n", name, strings.ToUpper(name), 1000+i*limit) //nolint:perfsprint // a few
			text += fmt.Sprintf("    certificate_manager: {url: %q}\n    external_access: {url: %q}\n", logs[name].CertificateManagerURL(), logs[name].ExternalAccessURL())
		}
		if limit%3 == 2 {
			text = "accounts: ["
		}
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Error(err)
		}
	}
	watch := func() exporter {
		put(0)
		return launch(t, keysOf(names...), "--config.file="+file, "--web.enable-lifecycle", "--state.file="+filepath.Join(dir, "ledger.db"))
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)) //nolint:gosec // no secret hangs on it
	reloads := 0
	for range kills {
		e := watch()
		kill := time.AfterFunc(time.Duration(20+random.IntN(80))*time.Millisecond, func() { _ = e.cmd.Process.Kill() })
		var all sync.WaitGroup
		all.Go(func() {
			for n := 1; ; n++ {
				put(n)
				if reload(t, e) != nil {
					return // it is dead
				}
				reloads++
			}
		})
		for _, name := range names {
			all.Go(func() {
				for {
					s, err := logs[name].countedAt(t, e.url+"/probe?account="+name)
					if err != nil {
						return
					}
					checkCounted(t, before[name], s)
					before[name] = s
				}
			})
		}
		all.Wait()
		kill.Stop()
		_ = e.exit(t)
	}
	e := watch()
	for _, name := range names {
		stops[name]()
		s, err := logs[name].countedAt(t, e.url+"/probe?account="+name)
		if err != nil {
			t.Fatal(err)
		}
		s.want(t, success(externalAccess), 1)
		checkCounted(t, before[name], s)
		logs[name].wantAll(t, s)
	}
	t.Logf("%d kills, %d reloads", kills, reloads)
}

// reload has the exporter load its file. That the file is bad is no error.
func reload(t *testing.T, e exporter) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/-/reload", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client().Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
