package collector

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

func TestAPIMetrics(t *testing.T) {
	m := NewAPIMetrics()
	m.Expect("external_access", func() float64 { return 12.5 }, ncpclient.OpSubjects)
	m.Expect("certificate_manager", func() float64 { return math.Inf(1) })
	m.RequestDone(ncpclient.Observation{API: "external_access", Operation: ncpclient.OpSubjects, Status: 200, Duration: time.Second})
	m.RequestDone(ncpclient.Observation{API: "external_access", Operation: ncpclient.OpSubjects, Duration: time.Second, ClockOffset: -3 * time.Second, HasClockOffset: true})
	m.RequestRetried("external_access", ncpclient.OpSubjects)
	text, err := testutil.CollectAndFormat(m, expfmt.TypeTextPlain,
		"ncp_api_requests_total", "ncp_api_request_retries_total", "ncp_api_clock_offset_seconds", "ncp_api_rate_limit_requests_per_second")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(series(`
		ncp_api_clock_offset_seconds{api="external_access"} -3
		ncp_api_rate_limit_requests_per_second{api="external_access"} 12.5
		ncp_api_request_retries_total{api="external_access",operation="subjects"} 1
		ncp_api_requests_total{api="external_access",code="200",operation="subjects"} 1
		ncp_api_requests_total{api="external_access",code="429",operation="subjects"} 0
		ncp_api_requests_total{api="external_access",code="error",operation="subjects"} 1
	`), series(string(text))); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// Every request that NCP saw is in the metrics, once.
func TestRequestsAreCounted(t *testing.T) {
	w := newWorld(t, worldOptions{pageSize: 20})
	put(w.Server, "s")
	w.AddCredentials("s", history(50)...)
	w.scrape(t)
	// One page and one behind it; three pages, one behind them, and two calls to learn what totals mean.
	for op, want := range map[ncptest.Operation]int{ncptest.RecentChanges: 1, ncptest.Subjects: 2, ncptest.Credentials: 4 + 2} {
		if got := w.Count(op); got != want {
			t.Errorf("NCP saw %d requests for %s, want %d", got, op, want)
		}
	}
	if got := testutil.ToFloat64(w.metrics.requests.WithLabelValues("external_access", "credentials", "200")); got != 4+2 {
		t.Errorf("%v requests are in the metrics, want 6", got)
	}
}

// The metrics follow the conventions of Prometheus.
func TestLint(t *testing.T) {
	w := newWorld(t, worldOptions{perCert: true})
	put(w.Server, "s")
	w.AddCredentials("s", history(5)...)
	w.SetChanges(change("1", 1, "Ongoing"))
	s := w.scrape(t)
	for name, c := range map[string]prometheus.Collector{"scrape": s, "requests": w.metrics} {
		if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %v", name, problems, err)
		}
	}
}
