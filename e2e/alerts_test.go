//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"ncp_exporter/ncpclient/ncptest"
)

// The subjects of the account in trouble.
const (
	failing   = "10000000-failing"
	silent    = "20000000-silent"
	uncounted = "30000000-uncounted"
	broken    = "40000000-broken"
)

// wellSubject is the subject of every account of wellNCP.
const wellSubject = "50000000-well"

// expected are the labels of every alert that shall fire, beside its name.
func expected(address map[string]string) map[string]map[string]string {
	return map[string]map[string]string{
		"NCPCertificateValidationTimedOut": {"job": "ncp", "order_id": "412", "certificate_id": "56001"},
		"NCPCertificateValidationStuck":    {"job": "ncp", "order_id": "410", "certificate_id": "55992"},
		"NCPAuthenticationFailed":          {"job": "ncp", "subject_id": failing, "x509_subject": "CN=failing"},
		"NCPAuthenticationFailureRatioHigh": {
			"job": "ncp", "subject_id": failing, "x509_subject": "CN=failing",
		},
		"NCPCertificateExpiresSoon":     {"job": "ncp", "trust_anchor_id": "anchor-soon"},
		"NCPCertificateExpiresVerySoon": {"job": "ncp", "trust_anchor_id": "anchor-very-soon"},
		"NCPCertificateExpired":         {"job": "ncp", "trust_anchor_id": "anchor-expired"},
		"NCPCrlExpires":                 {"job": "ncp", "trust_anchor_id": "anchor-soon"},
		"NCPUnreadableCertificates":     {"job": "ncp", "kind": "client certificate"},
		"NCPNewSubjectFailing":          {"job": "ncp"},
		"NCPSubjectSilent":              {"job": "ncp", "subject_id": silent, "x509_subject": "CN=silent"},
		"NCPUncountedEntries":           {"job": "ncp", "reason": "no_time"},
		"NCPExporterDown":               {"job": "shards", "instance": address["shard 1"]},
		"NCPShardMissing":               {"job": "shards"},
		"NCPExporterAbsent":             {"job": "absent"},
		"NCPNumbersStale":               {"job": "broken", "collector": certificateManager},
		"NCPCollectorFailing":           {"job": "broken", "collector": externalAccess, "instance": address["broken"]},
		"NCPSubjectStale":               {"job": "broken", "subject_id": broken, "x509_subject": "CN=broken"},
		"NCPRateLimited":                {"job": "limited", "api": externalAccess},
		"NCPClockOff":                   {"job": "clock", "api": externalAccess, "instance": address["clock"]},
		"NCPLedgerNotOnDisk":            {"job": "clock", "instance": address["clock"]},
		exporterThatNeverAnswer:         {"job": "ncp_exporter", "instance": nobody},
	}
}

// toldBesideLabels are names and certificates that descriptions tell and no label has.
func toldBesideLabels() map[string]string {
	return map[string]string{
		"NCPCertificateValidationTimedOut":  "shop.example.com (56001)",
		"NCPAuthenticationFailureRatioHigh": "It failed last with serial number ",
		"NCPCertificateExpired":             "expired ca (anchor-expired)",
		"NCPCrlExpires":                     "soon ca (anchor-soon)",
	}
}

// NCPExporterDown a second time: by the name of its job alone.
const exporterThatNeverAnswer = "NCPExporterDown "

// nobody is an address at which nothing ever listens.
const nobody = "127.0.0.1:1"

// TestEveryAlertFires brings simulated accounts and exporters into each state that
// an alert is for, all at once, and wants a real Prometheus to see it. Only the nine
// days that NCPSubjectSilent looks back at, an hour of the faster time, are written
// into its database before.
func TestEveryAlertFires(t *testing.T) {
	t.Parallel() // it waits most of the time
	address := make(map[string]string)
	launch := func(name string, n ncp, args ...string) exporter {
		t.Helper()
		e := watch(t, n, hasty(args...)...)
		address[name] = strings.TrimPrefix(e.url, "http://")
		return e
	}

	trouble := troubled(t)
	inTrouble := launch("ncp", trouble)
	well := launch("well", wellNCP(t))

	shards := wellNCP(t)
	shard0, shard1 := launch("shard 0", shards, "--total-shards=2"), launch("shard 1", shards, "--total-shards=2", "--shard=1")

	off := ncptest.Config{Now: func() time.Time { return time.Now().Add(100 * time.Second) }}
	clock := launch("clock", newNCP(t, off), "--state.file=")

	limits := wellNCP(t)
	limits.externalAccess.SetFault(ncptest.OneIn(2, 1, ncptest.Throttled("")))
	limited := launch("limited", limits)

	breaks := wellNCP(t)
	breaks.externalAccess.PutSubject(ncptest.Subject{SubjectID: broken, X509Subject: "CN=broken", Enabled: true})
	breaksSoon := launch("broken", breaks)
	if s := breaksSoon.scrape(t); s[success(certificateManager)].value != 1 || s[success(externalAccess)].value != 1 {
		t.Error("the exporter could not read what was not broken yet")
	}
	breaks.certificateManager.SetFault(ncptest.Always(ncptest.HTMLPage(http.StatusBadRequest)))
	breaks.externalAccess.SetFault(ncptest.ForSubject(broken, ncptest.HTMLPage(http.StatusBadRequest)))

	targets := filepath.Join(t.TempDir(), "targets.json")
	write(t, targets, fmt.Appendf(nil, `[{"targets": [%q]}]`, strings.TrimPrefix(launch("absent", wellNCP(t)).url, "http://")))

	s := watchdog(t, history(t), inTrouble, job("well", well), job("shards", shard0, shard1), job("clock", clock),
		job("limited", limited), job("broken", breaksSoon), job("ncp_exporter", exporter{url: nobody}),
		map[string]any{"job_name": "absent", "file_sd_configs": []any{map[string]any{"files": []string{targets}}}})
	begun := time.Now()

	// From when Prometheus has seen them.
	until(t, "Prometheus scrapes all exporters", func() error {
		up, err := query(t, s.prometheus, "count(count_over_time(ncp_exporter_build_info[30s]) >= 3)")
		if err != nil || up["{}"] != 8 {
			return fmt.Errorf("%v exporters, %w", up["{}"], err)
		}
		return nil
	})
	write(t, targets, []byte("[]"))
	shard1.signal(t, os.Kill)

	missing, fired := expected(address), make(map[string]time.Duration)
	fail, appear := trouble.failLogins(), trouble.appearFailing()
	until(t, "every alert fires", func() error {
		fail()
		appear()
		for _, a := range s.alerts(t) {
			for name, labels := range missing {
				if a.State != "firing" || a.Labels["alertname"] != strings.TrimSpace(name) || !a.has(labels) {
					continue
				}
				a.check(t)
				if told := toldBesideLabels()[name]; !strings.Contains(a.Annotations["description"], told) {
					t.Errorf("%s: the description does not tell %s: %s", name, told, a.Annotations["description"])
				}
				delete(missing, name)
				fired[name] = time.Since(begun).Round(time.Second)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("missing: %v", slices.Sorted(maps.Keys(missing)))
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(fired)) {
		t.Logf("%4s %s", fired[name], name)
	}
	checkAllExpected(t)

	until(t, "what follows from another alert is not told", func() error {
		fail()
		return s.inhibits(t, map[string]map[string]string{
			"NCPShardMissing":         {"job": "shards"},
			"NCPCollectorFailing":     {"job": "broken", "collector": certificateManager},
			"NCPAuthenticationFailed": {"job": "ncp", "subject_id": failing},
		})
	})
	until(t, "nothing is said of what is well", func() error {
		for _, a := range s.alerts(t) {
			if a.Labels["job"] == "well" || a.State == "firing" && a.Labels["job"] == "limited" && a.Labels["api"] == certificateManager {
				return fmt.Errorf("%s %v", a.State, a.Labels)
			}
		}
		return nil
	})
}

// ofAccounts are the alerts that only an exporter with a file of accounts can have.
// TestAccounts makes them fire.
func ofAccounts() []string {
	return []string{"NCPAccountDown", "NCPAccountNotReady", "NCPAccountNotScraped", "NCPConfigReloadFailed"}
}

// checkAllExpected wants no alert of the rules to be left out here.
func checkAllExpected(t *testing.T) {
	t.Helper()
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	text, err := os.ReadFile(rulesFile)
	if err == nil {
		err = yaml.Unmarshal(text, &rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := expected(nil)
	delete(all, exporterThatNeverAnswer)
	for _, name := range ofAccounts() {
		all[name] = nil
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if _, ok := all[r.Alert]; !ok {
				t.Errorf("nobody makes %s fire", r.Alert)
			}
			delete(all, r.Alert)
		}
	}
	if len(all) > 0 {
		t.Errorf("there are no such alerts: %v", all)
	}
}

// inhibits says which of these alerts Alertmanager would tell.
func (s *station) inhibits(t *testing.T, wanted map[string]map[string]string) error {
	t.Helper()
	var all []struct {
		Labels map[string]string
		Status struct{ InhibitedBy []string }
	}
	s.ask(t, s.alertmanager+"/api/v2/alerts", &all)
	for name, labels := range wanted {
		if !slices.ContainsFunc(all, func(a struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		},
		) bool {
			return a.Labels["alertname"] == name && (&alert{Labels: a.Labels}).has(labels) && len(a.Status.InhibitedBy) > 0
		}) {
			return fmt.Errorf("not inhibited: %s %v", name, labels)
		}
	}
	return nil
}

// wellNCP is an account with nothing wrong.
func wellNCP(t *testing.T) ncp {
	t.Helper()
	n := newNCP(t, ncptest.Config{})
	n.certificateManager.SetChanges(ncptest.Change{OrderID: "410", CertificateID: 55991, Status: ncptest.StatusNormal})
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: wellSubject, X509Subject: "CN=well", Enabled: true})
	login := ncptest.NewCredential(time.Now().Add(-time.Minute), "1", false)
	login.X509CertificateData = ncptest.NewCertificate(1, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	n.externalAccess.AddCredentials(wellSubject, login)
	return n
}

// troubled is an account in which much is wrong.
func troubled(t *testing.T) ncp {
	t.Helper()
	var anchors []ncptest.TrustAnchor
	n := newNCP(t, ncptest.Config{})
	n.certificateManager.SetChanges(
		ncptest.Change{OrderID: "410", CertificateID: 55992, Status: ncptest.StatusOngoing},
		ncptest.Change{OrderID: "412", CertificateID: 56001, Status: ncptest.StatusValidationTimedOut},
	)
	for _, id := range []string{failing, silent, uncounted} {
		_, name, _ := strings.Cut(id, "-")
		n.externalAccess.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=" + name, Enabled: true})
	}
	// In this faster time, 30 days are two hours, and a week is 28 minutes.
	for id, left := range map[string]time.Duration{"anchor-soon": time.Hour, "anchor-very-soon": 10 * time.Minute, "anchor-expired": -time.Minute} {
		anchors = append(anchors, ncptest.TrustAnchor{
			ID: id, Name: strings.TrimPrefix(id, "anchor-") + " ca", Enabled: true, NotAfter: ncptest.FormatTime(time.Now().Add(left)),
			CRLs: []ncptest.CRL{{Enabled: true, NextUpdate: ncptest.FormatTime(time.Now().Add(time.Minute))}},
		})
	}
	n.externalAccess.SetTrustAnchors(anchors...)
	n.certificateManager.SetCertificates(ncptest.Certificate{No: 56001, CommonName: "shop.example.com", StatusCode: "0"})
	n.externalAccess.AddCredentials(silent, ncptest.NewCredential(time.Now().Add(-lastSeen), "1", false))
	n.externalAccess.AddCredentials(uncounted, ncptest.Credential{SerialNumber: "1"})
	return n
}

// every calls do, at most once in a while.
func every(while time.Duration, do func(n int)) func() {
	var next time.Time
	n := 0
	return func() {
		if now := time.Now(); now.After(next) {
			next = now.Add(while)
			n++
			do(n)
		}
	}
}

// failLogins makes the failing subject fail, again and again.
func (n ncp) failLogins() func() {
	return every(300*time.Millisecond, func(i int) {
		n.externalAccess.AddCredentials(failing, ncptest.NewCredential(time.Now(), strconv.Itoa(i), i%4 != 0))
	})
}

// appearFailing makes new subjects appear whose first login failed: one is new for
// seconds only, in this faster time.
func (n ncp) appearFailing() func() {
	return every(2*time.Second, func(i int) {
		id := fmt.Sprintf("60000000-new-%d", i)
		n.externalAccess.PutSubject(ncptest.Subject{SubjectID: id, X509Subject: "CN=new", Enabled: true})
		n.externalAccess.AddCredentials(id, ncptest.NewCredential(time.Now(), "1", true))
	})
}

// lastSeen is how long ago the silent subject was seen last: six hours of the faster
// time. Before, it was never away for more than half an hour.
const (
	lastSeen   = 6 * time.Hour / faster
	longestGap = 30 * time.Minute / faster
)

// history is a database for Prometheus with nine days of the silent subject, as the
// rule would have recorded them.
func history(t *testing.T) string {
	t.Helper()
	const name = "job_subject:ncp_external_access_credential_authentication_gap_seconds:ended10m"
	var text strings.Builder
	fmt.Fprintf(&text, "# TYPE %s gauge\n", name)
	now := time.Now()
	step := 5 * time.Minute / faster // the interval of the group
	for at, i := now.Add(-9*24*time.Hour/faster), 0; at.Before(now); at, i = at.Add(step), i+1 {
		gap := 0.0
		if i%6 == 0 && now.Sub(at) > lastSeen {
			gap = longestGap.Seconds()
		}
		fmt.Fprintf(&text, "%s{job=\"ncp\",subject_id=%q} %g %.3f\n", name, silent, gap, float64(at.UnixMilli())/1000)
	}
	text.WriteString("# EOF\n")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "history.om"), []byte(text.String()))
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", //nolint:gosec // ours
		filepath.Join(dir, "history.om"), data).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool tsdb create-blocks-from: %v\n%s", err, out)
	}
	return data
}
