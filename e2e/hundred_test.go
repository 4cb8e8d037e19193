//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// mostForAccounts is the most that may ever be resident, in MiB, for a hundred
// accounts of fifty subjects.
const mostForAccounts = 96

// TestHundredAccounts scrapes a hundred accounts side by side, with reloads in between:
// no scrape is late, and each account costs the calls that it costs alone.
func TestHundredAccounts(t *testing.T) {
	const accounts, subjects, rounds, spread = 100, 50, 3, 5 * time.Second
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	servers := make([]*ncptest.Server, accounts)
	text := "accounts:\n"
	for i := range servers {
		s := ncptest.New(ncptest.Config{LogSize: 10})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		for n := range subjects {
			s.PutSubject(ncptest.Subject{SubjectID: subjectID(n), X509Subject: "CN=workload", Enabled: true})
			s.AddCredentials(subjectID(n), ncptest.NewCredential(time.Now().Add(-time.Hour), "1", false))
		}
		servers[i] = s
		text += fmt.Sprintf("  account-%d:\n    keys: {access_key_env: A%[1]d_ACCESS, secret_key_env: A%[1]d_SECRET}\n    certificate_manager: {url: %q}\n    external_access: {url: %q}\n", //nolint:perfsprint // a few
			i, s.CertificateManagerURL(), s.ExternalAccessURL())
	}
	var names []string
	for i := range servers {
		names = append(names, fmt.Sprintf("a%d", i))
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := launch(t, keysOf(names...), "--config.file="+file, "--state.file="+filepath.Join(dir, "ledger.db"), "--web.enable-lifecycle")
	for round := range rounds {
		var all sync.WaitGroup
		begin := time.Now()
		for i := range servers {
			servers[i].ResetStats()
			time.Sleep(spread / accounts) // as Prometheus spreads them over its interval
			all.Go(func() {
				a, err := get(t.Context(), fmt.Sprintf("%s/probe?account=account-%d", e.url, i), "X-Prometheus-Scrape-Timeout-Seconds", "15")
				if err != nil || a.status != http.StatusOK {
					t.Errorf("account %d: HTTP %d, %v", i, a.status, err)
					return
				}
				parse(t, a.body).want(t, success(externalAccess), 1)
			})
		}
		all.Wait()
		t.Logf("round %d took %s, resident at most %d KiB", round, time.Since(begin), memory(t, e.process, "VmHWM"))
		for i, s := range servers {
			n := 0
			for _, op := range []ncptest.Operation{ncptest.RecentChanges, ncptest.Subjects, ncptest.Credentials, ncptest.TrustAnchors, ncptest.CRLs} {
				n += s.Count(op)
			}
			want := subjects + 3 // the changes, the list, the trust anchors
			// The first reads learn where the list and the histories end: several at a time.
			if n != want && (round > 0 || n < want || n > want+40) {
				t.Errorf("round %d, account %d: %d calls, want %d", round, i, n, want)
			}
		}
		for range 10 {
			if err := reload(t, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if most := memory(t, e.process, "VmHWM") / 1024; most > mostForAccounts {
		t.Errorf("%d MiB, want at most %d", most, mostForAccounts)
	}
}
