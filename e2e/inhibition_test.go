//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// TestInhibitionOfAccounts hands alerts of several accounts to a real Alertmanager with
// the file that is committed. What follows from an alert is not sent, but for the same
// account only: alerts of the others are.
func TestInhibitionOfAccounts(t *testing.T) {
	t.Parallel() // it waits for Alertmanager most of the time
	file, err := filepath.Abs(alertmanagerFile)
	if err != nil {
		t.Fatal(err)
	}
	am := start(t, nil, tool(t, "prometheus-alertmanager"), "--config.file="+file,
		"--storage.path="+t.TempDir(), "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	s := &station{alertmanager: "http://" + am.address(t)}

	fires := func(name string, labels ...string) map[string]string {
		l := map[string]string{"alertname": name, "job": "ncp"}
		for i := 0; i+1 < len(labels); i += 2 {
			l[labels[i]] = labels[i+1]
		}
		return l
	}
	sent := []map[string]string{
		// Exporter a is down with all its accounts.
		fires("NCPExporterDown", "instance", "a"),
		// Exporter b: account down does not answer, unready cannot be used, stale is stale.
		fires("NCPAccountDown", "instance", "b", "account", "down"),
		fires("NCPAccountNotReady", "instance", "b", "account", "unready"),
		fires("NCPNumbersStale", "account", "stale", "collector", "x"),
		fires("NCPExporterAbsent", "account", "absent"),
		fires("NCPAuthenticationFailureRatioHigh", "account", "stale", "subject_id", "s"),
		// Of other accounts of the same exporters.
		fires("NCPCollectorFailing", "instance", "b", "account", "other", "collector", "x"),
		fires("NCPLedgerNotOnDisk", "instance", "b", "account", "other"),
		fires("NCPNumbersStale", "account", "other", "collector", "y"),
		fires("NCPSubjectStale", "account", "other", "subject_id", "s"),
		fires("NCPAuthenticationFailed", "account", "other", "subject_id", "s"),
		fires("NCPAccountNotScraped", "instance", "b", "account", "other"),
		// Of an account that is down at another exporter only.
		fires("NCPCollectorFailing", "instance", "c", "account", "down", "collector", "y"),
		// Nothing follows from it, and it from nothing.
		fires("NCPCertificateValidationTimedOut", "account", "down", "certificate_id", "1"),
	}
	inhibited := []map[string]string{
		fires("NCPCollectorFailing", "instance", "a", "account", "other", "collector", "x"),
		fires("NCPAccountNotReady", "instance", "a", "account", "other"),
		fires("NCPConfigReloadFailed", "instance", "a"),
		fires("NCPShardMissing", "account", "other"),
		fires("NCPLedgerNotOnDisk", "instance", "b", "account", "down"),
		fires("NCPNumbersStale", "account", "down", "collector", "x"),
		fires("NCPAccountNotScraped", "instance", "b", "account", "absent"),
		fires("NCPCollectorFailing", "instance", "b", "account", "unready", "collector", "x"),
		fires("NCPCollectorFailing", "instance", "b", "account", "stale", "collector", "x"),
		fires("NCPAuthenticationFailed", "account", "stale", "subject_id", "s"),
	}
	var body []map[string]any
	for _, labels := range append(append([]map[string]string(nil), inhibited...), sent...) {
		body = append(body, map[string]any{"labels": labels, "startsAt": time.Now().Format(time.RFC3339)})
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.alertmanager+"/api/v2/alerts", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close() // nothing is read
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answers HTTP %d", answer.StatusCode)
	}

	eventually(t, "Alertmanager knows which alerts it does not send", func() error {
		var all []struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		}
		s.ask(t, s.alertmanager+"/api/v2/alerts", &all)
		if len(all) != len(body) {
			return fmt.Errorf("%d alerts of %d", len(all), len(body))
		}
		for _, a := range all {
			want := false
			for _, labels := range inhibited {
				want = want || len(labels) == len(a.Labels) && (&alert{Labels: a.Labels}).has(labels)
			}
			if got := len(a.Status.InhibitedBy) > 0; got != want {
				return fmt.Errorf("%v is inhibited: %t", a.Labels, got)
			}
		}
		return nil
	})
}
