//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// prometheusConfig has no target yet.
const prometheusConfig = `
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: ncp
    static_configs:
      - targets: [%q]
`

// TestPrometheus has a real Prometheus scrape the binary, and wants to find in it
// all that /metrics shows.
func TestPrometheus(t *testing.T) {
	e := watch(t, simulate(t))
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, prometheusConfig, strings.TrimPrefix(e.url, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	before := e.scrape(t)
	since := time.Now()
	p := start(t, nil, tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	prometheus := "http://" + p.address(t)

	// Two whole scrapes, so that one was not the first of anything.
	eventually(t, "Prometheus scrapes the exporter twice", func() error {
		stored, err := query(t, prometheus, `count_over_time(up{job="ncp"}[1m]) >= 2 and up == 1`)
		if err == nil && len(stored) == 0 {
			return errNotYet
		}
		return err
	})
	stored, err := query(t, prometheus, `{__name__=~"ncp_.+"}`)
	if err != nil {
		t.Fatal(err)
	}
	after := e.scrape(t)
	if len(stored) < 50 {
		t.Errorf("Prometheus has only %d series", len(stored))
	}
	for _, series := range after.names() {
		if !strings.HasPrefix(series, "ncp_") {
			continue
		}
		got, ok := stored[series]
		first, last := before[series].value, after[series].value
		name, _, _ := strings.Cut(series, "{")
		switch {
		case !ok:
			t.Errorf("Prometheus lacks %s", series)
		case name == "ncp_scrape_collector_duration_seconds", name == "ncp_api_clock_offset_seconds":
			// Each scrape's own.
		case name == "ncp_external_access_subject_refresh_timestamp_seconds", name == "ncp_scrape_collector_last_success_timestamp_seconds", after[series].grows:
			if got < first || got > last {
				t.Errorf("%s is %v in Prometheus, but was %v before it and %v after", series, got, first, last)
			}
		case got != last || first != last:
			t.Errorf("%s is %v in Prometheus, but %v and %v", series, got, first, last)
		}
	}
	for series := range stored {
		if _, ok := after[series]; !ok {
			t.Errorf("Prometheus alone has %s", series)
		}
	}
	t.Logf("%d series were the same, %d ms after the start of Prometheus", len(stored), time.Since(since).Milliseconds())

	p.signal(t, os.Interrupt) // lets go of its directory
	p.exit(t)
}

// TestExemplar finds the certificate of a failure in a real Prometheus, by its API of
// exemplars.
func TestExemplar(t *testing.T) {
	n := simulate(t)
	at := time.Now().Truncate(time.Millisecond)
	n.externalAccess.PutSubject(ncptest.Subject{SubjectID: "fails", X509Subject: "CN=fails", Enabled: true})
	n.externalAccess.AddCredentials("fails", ncptest.NewCredential(at, "***4711***", true))
	e := watch(t, n)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, prometheusConfig, strings.TrimPrefix(e.url, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage")
	ask := fmt.Sprintf("http://%s/api/v1/query_exemplars?query=%s&start=%d&end=%d", p.address(t), url.QueryEscape(`increase(`+authentications+`[5m])`), at.Unix()-60, at.Unix()+60)
	var result struct {
		Data []struct {
			SeriesLabels map[string]string
			Exemplars    []struct {
				Labels    map[string]string
				Timestamp float64
			}
		}
	}
	eventually(t, "Prometheus has the exemplar", func() error {
		a, err := get(t.Context(), ask)
		if err == nil {
			err = json.Unmarshal([]byte(a.body), &result)
		}
		if err == nil && len(result.Data) == 0 {
			return errNotYet
		}
		return err
	})
	if len(result.Data) != 1 || len(result.Data[0].Exemplars) != 1 {
		t.Fatalf("exemplars: %+v", result.Data)
	}
	found := result.Data[0]
	if series := found.SeriesLabels; series["subject_id"] != "fails" || series["result"] != "failure" {
		t.Errorf("it is of %v", series)
	}
	if x := found.Exemplars[0]; x.Labels["serial_number"] != "***4711***" || int64(x.Timestamp*1e3+0.5) != at.UnixMilli() {
		t.Errorf("it is %+v, want serial number ***4711*** at %s", x, at)
	}
	p.signal(t, os.Interrupt) // lets go of its directory
	p.exit(t)
}

// query asks Prometheus for an instant vector.
func query(t *testing.T, prometheus, expression string) (map[string]float64, error) {
	t.Helper()
	a, err := get(t.Context(), prometheus+"/api/v1/query?query="+url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %s", a.status, a.body)
	}
	var result struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(a.body), &result); err != nil {
		return nil, err
	}
	found := make(map[string]float64)
	for _, r := range result.Data.Result {
		name := r.Metric["__name__"]
		for _, label := range []string{"__name__", "job", "instance"} {
			delete(r.Metric, label)
		}
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		found[seriesName(name, r.Metric)] = value
	}
	return found, nil
}
