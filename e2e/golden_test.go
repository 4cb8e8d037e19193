//go:build e2e

package e2e

import (
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// TestGolden compares the whole of /metrics with testdata/metrics.golden.
func TestGolden(t *testing.T) {
	e := watch(t, simulate(t),
		"--ncp.max-concurrency=1") // what the first read learns, and so its calls, depends on who is first
	text := e.metrics(t).body
	if s := parse(t, text); s["go_goroutines{}"].value < 1 || s["process_resident_memory_bytes{}"].value < 1 {
		t.Error("the metrics of the process are not there")
	}
	checkVarying(t, parse(t, text), e.begun)
	got := normalise(text)

	path := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("/metrics is not as in %s (go test -tags e2e -run Golden ./e2e/ -update), -want +got:\n%s", path, diff)
	}

	// A second look finds the same, but for the requests that it cost.
	again := parse(t, e.metrics(t).body)
	for series, before := range parse(t, text) {
		if after := again[series]; strings.HasPrefix(series, "ncp_external_access_credential") && after != before {
			t.Errorf("%s was %v, and is %v at the next scrape", series, before.value, after.value)
		}
	}

	check := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "metrics") //nolint:gosec // as found in PATH
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// varying are the samples that no two runs have in common. The counts of
// histograms stay, and their +Inf buckets.
var varying = regexp.MustCompile(`(?m)^(` + strings.Join([]string{
	`ncp_api_clock_offset_seconds\{.*\}`,
	`ncp_api_request_duration_seconds_bucket\{.*le="[0-9.e-]+"\}`,
	`ncp_api_request_duration_seconds_sum\{.*\}`,
	`ncp_scrape_collector_duration_seconds\{.*\}`,
	`ncp_scrape_collector_last_success_timestamp_seconds\{.*\}`,
	`ncp_external_access_counting_since_timestamp_seconds`,
	`ncp_external_access_subject_refresh_timestamp_seconds\{.*\}`,
}, "|") + `) \S+$`)

var (
	buildInfo    = regexp.MustCompile(`(?m)^ncp_exporter_build_info\{(.*)\} 1$`)
	labelValues  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	ofTheRuntime = regexp.MustCompile(`(?m)^(?:# (?:HELP|TYPE) )?(?:go|process)_.*\n`)
)

func normalise(text string) string {
	text = ofTheRuntime.ReplaceAllString(text, "")
	text = buildInfo.ReplaceAllStringFunc(text, func(line string) string { return labelValues.ReplaceAllString(line, `"VARIES"`) })
	return varying.ReplaceAllString(text, "$1 VARIES")
}

// checkVarying looks at what the golden file cannot tell.
func checkVarying(t *testing.T, s scrape, begun time.Time) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1e3
	for series, sample := range s {
		ok := true
		switch name, _, _ := strings.Cut(series, "{"); name {
		case "ncp_api_clock_offset_seconds":
			ok = math.Abs(sample.value) <= 2
		case "ncp_scrape_collector_duration_seconds", "ncp_api_request_duration_seconds_sum":
			ok = sample.value > 0 && sample.value < bound.Seconds()
		case "ncp_external_access_counting_since_timestamp_seconds", "ncp_external_access_subject_refresh_timestamp_seconds",
			"ncp_scrape_collector_last_success_timestamp_seconds":
			ok = sample.value >= float64(begun.UnixMilli())/1e3 && sample.value <= now
		}
		if !ok {
			t.Errorf("%s is %v", series, sample.value)
		}
	}
}

// TestOpenMetrics reads the OpenMetrics form line by line, as no parser of it is
// at hand but Prometheus's own, which reads it in TestPrometheus.
func TestOpenMetrics(t *testing.T) {
	e := watch(t, simulate(t))
	plain := e.scrape(t)
	a := e.metrics(t, "Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.1")
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/openmetrics-text; version=1.0.0") {
		t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
	body, ends := strings.CutSuffix(a.body, "# EOF\n")
	if !ends || strings.Contains(body, "# EOF") {
		t.Error("it does not end with # EOF, or not only there")
	}
	found := readOpenMetrics(t, body)
	for series := range plain {
		if strings.HasPrefix(series, "ncp_") && !found[series] {
			t.Errorf("OpenMetrics lacks %s", series)
		}
	}
	for series := range found {
		if _, ok := plain[series]; strings.HasPrefix(series, "ncp_") && !ok {
			t.Errorf("OpenMetrics alone has %s", series)
		}
	}
}

// readOpenMetrics checks each line and gives the series.
func readOpenMetrics(t *testing.T, body string) map[string]bool {
	t.Helper()
	sampleLine := regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_][a-z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? ([-+.e0-9]+|NaN|[+-]Inf)$`)
	label := regexp.MustCompile(`([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"`)
	meta := regexp.MustCompile(`^# (HELP|TYPE|UNIT) ([a-z_:][a-z0-9_:]*) (.+)$`)
	var family, kind string
	families, found := make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if m := meta.FindStringSubmatch(line); m != nil {
			if m[2] != family {
				if families[m[2]] {
					t.Errorf("the family %s comes in two parts", m[2])
				}
				family, kind = m[2], ""
				families[family] = true
			}
			if m[1] == "TYPE" {
				kind = m[3]
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("neither a sample nor about a family: %q", line)
			continue
		}
		if suffix, ok := strings.CutPrefix(m[1], family); !ok || !slices.Contains(sampleSuffixes(kind), suffix) {
			t.Errorf("%s is no sample of the %s %s", m[1], kind, family)
		}
		labels := make(map[string]string)
		for _, pair := range label.FindAllStringSubmatch(m[2], -1) {
			labels[pair[1]] = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`).Replace(pair[2])
		}
		found[seriesName(m[1], labels)] = true
	}
	return found
}

// sampleSuffixes are what a sample's name has more than its family's. OpenMetrics
// has _created too, which is not wanted here.
func sampleSuffixes(kind string) []string {
	switch kind {
	case "counter":
		return []string{"_total"}
	case "gauge", "unknown":
		return []string{""}
	case "histogram":
		return []string{"_bucket", "_count", "_sum"}
	case "summary":
		return []string{"", "_count", "_sum"}
	default:
		return nil
	}
}

// TestProtobuf looks for what only the protobuf form carries.
func TestProtobuf(t *testing.T) {
	e := watch(t, simulate(t))
	before := e.begun.Truncate(time.Millisecond)
	a := e.metrics(t, "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/vnd.google.protobuf") {
		t.Fatalf("Content-Type %q", a.header.Get("Content-Type"))
	}
	decoder := expfmt.NewDecoder(strings.NewReader(a.body), expfmt.ResponseFormat(a.header))
	counters, histograms := 0, 0
	for {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(family.GetName(), "ncp_") {
			continue
		}
		for _, m := range family.GetMetric() {
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				counters++
				checkCreated(t, family.GetName(), m, m.GetCounter().GetCreatedTimestamp(), before)
			case dto.MetricType_HISTOGRAM:
				histograms++
				checkCreated(t, family.GetName(), m, m.GetHistogram().GetCreatedTimestamp(), before)
				if m.GetHistogram().GetSchema() == 0 && len(m.GetHistogram().GetPositiveSpan()) == 0 {
					t.Errorf("no native histogram: %s", family.GetName())
				}
			default:
			}
		}
	}
	if counters < 10 || histograms < 3 {
		t.Errorf("only %d counters and %d histograms came", counters, histograms)
	}
}

// checkCreated wants a subject's counters to begin with its oldest row that was
// counted, and all others after the start of the program.
func checkCreated(t *testing.T, name string, m *dto.Metric, created interface{ AsTime() time.Time }, begun time.Time) {
	t.Helper()
	oldest := map[string]string{
		"0a1b2c3d-busy": "2024-12-12T09:00:00Z", "1a1b2c3d-mixed": "2024-12-12T10:00:00Z",
		"2a1b2c3d-disabled": "2024-10-31T17:00:00Z", "3a1b2c3d-broken": "2024-12-12T09:00:00Z",
	}
	want := ""
	for _, l := range m.GetLabel() {
		if l.GetName() == "subject_id" {
			want = oldest[l.GetValue()]
		}
	}
	// None at all reads as 1970.
	at := created.AsTime()
	if want != "" && at.Format(time.RFC3339) != want {
		t.Errorf("%s %v was created at %s, want %s", name, m.GetLabel(), at, want)
	}
	if want == "" && (at.Before(begun) || at.After(time.Now())) {
		t.Errorf("%s %v was created at %s, not since the start", name, m.GetLabel(), at)
	}
}
