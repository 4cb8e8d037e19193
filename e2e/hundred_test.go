//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// mostForAccounts is the most that may ever be resident, in MiB, for a hundred
// accounts of fifty subjects.
const mostForAccounts = 96

var hundredFor = flag.Duration("hundred", 0, "how much longer TestHundredAccounts scrapes, each 15 s at the same instant") //nolint:gochecknoglobals // flags of tests are

// hundredAccounts are accounts of fifty subjects each, watched by one exporter.
type hundredAccounts struct {
	exporter
	servers []*ncptest.Server
}

const (
	manyAccounts       = 100
	subjectsOfAccounts = 50
)

func watchHundred(t testing.TB) hundredAccounts {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	servers := make([]*ncptest.Server, manyAccounts)
	var names []string
	text := "accounts:\n"
	for i := range servers {
		s := ncptest.New(ncptest.Config{LogSize: 10})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		for n := range subjectsOfAccounts {
			s.PutSubject(ncptest.Subject{SubjectID: subjectID(n), X509Subject: "CN=workload", Enabled: true})
			s.AddCredentials(subjectID(n), ncptest.NewCredential(time.Now().Add(-time.Hour), "1", false))
		}
		servers[i] = s
		names = append(names, fmt.Sprintf("a%d", i))
		text += fmt.Sprintf("  account-%d:\n    keys: {access_key_env: A%[1]d_ACCESS, secret_key_env: A%[1]d_SECRET}\n    certificate_manager: {url: %q}\n    external_access: {url: %q}\n", //nolint:perfsprint // a few
			i, s.CertificateManagerURL(), s.ExternalAccessURL())
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := launch(t, keysOf(names...), "--config.file="+file, "--state.file="+filepath.Join(dir, "ledger.db"), "--web.enable-lifecycle")
	return hundredAccounts{e, servers}
}

// round scrapes each account once, spread over a time or all at the same instant, and
// tells how long the slowest took. Each must cost the calls that it costs alone.
func (h hundredAccounts) round(t testing.TB, spread time.Duration, first bool) (slowest time.Duration) {
	t.Helper()
	took := make([]time.Duration, len(h.servers))
	var all sync.WaitGroup
	for i, s := range h.servers {
		s.ResetStats()
		time.Sleep(spread / manyAccounts) // as Prometheus spreads them over its interval
		all.Go(func() {
			begin := time.Now()
			a, err := get(t.Context(), fmt.Sprintf("%s/probe?account=account-%d", h.url, i), "X-Prometheus-Scrape-Timeout-Seconds", "15")
			took[i] = time.Since(begin)
			if err != nil || a.status != http.StatusOK {
				t.Errorf("account %d: HTTP %d, %v", i, a.status, err)
				return
			}
			parse(t, a.body).want(t, success(externalAccess), 1)
		})
	}
	all.Wait()
	for i, s := range h.servers {
		n := 0
		for _, op := range []ncptest.Operation{ncptest.RecentChanges, ncptest.Subjects, ncptest.Credentials, ncptest.TrustAnchors, ncptest.CRLs} {
			n += s.Count(op)
		}
		want := subjectsOfAccounts + 3 // the changes, the list, the trust anchors
		// The first reads learn where the list and the histories end: several at a time.
		if n != want && (!first || n < want || n > want+40) {
			t.Errorf("account %d: %d calls, want %d", i, n, want)
		}
	}
	return slices.Max(took)
}

// peakOfAccounts scrapes a hundred accounts at the same instant, again and again.
func peakOfAccounts(t testing.TB) float64 {
	t.Helper()
	h := watchHundred(t)
	for round := range 8 {
		h.round(t, 0, round == 0)
	}
	return h.peak(t)
}

// TestHundredAccounts scrapes a hundred accounts side by side, with reloads in between:
// no scrape is late, and each account costs the calls that it costs alone. Prometheus
// spreads them over its interval; other clients may send them all at the same instant.
func TestHundredAccounts(t *testing.T) {
	h := watchHundred(t)
	scrape := func(spread time.Duration, first bool) {
		t.Helper()
		slowest := h.round(t, spread, first)
		t.Logf("spread over %s: the slowest took %s, resident at most %d KiB", spread, slowest, memory(t, h.process, "VmHWM"))
	}
	for round, spread := range []time.Duration{5 * time.Second, 5 * time.Second, 0, 0, 0, 5 * time.Second, 0, 0} {
		scrape(spread, round == 0)
		for range 10 {
			if err := reload(t, h.exporter); err != nil {
				t.Fatal(err)
			}
		}
	}
	const interval = 15 * time.Second
	for end := time.Now().Add(*hundredFor); time.Now().Before(end); {
		next := time.Now().Add(interval)
		scrape(0, false)
		time.Sleep(time.Until(next))
	}
	if most := memory(t, h.process, "VmHWM") / 1024; most > mostForAccounts {
		t.Errorf("%d MiB, want at most %d", most, mostForAccounts)
	}
}
