package collector

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
)

func TestScrapeTimeout(t *testing.T) {
	options := HandlerOptions{Timeout: 10 * time.Second, TimeoutOffset: 500 * time.Millisecond}
	for header, want := range map[string]time.Duration{
		"":      10 * time.Second,
		"15":    14500 * time.Millisecond,
		"1.5":   time.Second,
		"0.8":   400 * time.Millisecond, // the offset would leave too little
		"0.5":   250 * time.Millisecond,
		"3600":  3599500 * time.Millisecond,
		"0":     10 * time.Second,
		"-1":    10 * time.Second,
		"NaN":   10 * time.Second,
		"Inf":   10 * time.Second,
		"1e300": 10 * time.Second,
		"soon":  10 * time.Second,
	} {
		h := http.Header{}
		if header != "" {
			h.Set("X-Prometheus-Scrape-Timeout-Seconds", header)
		}
		if got := scrapeTimeout(h, options); got != want {
			t.Errorf("with %q the timeout is %s, want %s", header, got, want)
		}
	}
}

// get scrapes a handler with two collectors, and gives the deadline that they saw.
func get(t *testing.T, query string, header http.Header) (*httptest.ResponseRecorder, time.Duration) {
	t.Helper()
	var left time.Duration
	e := newExporter(newFake("a", func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}), newFake("b", ok))
	defer e.Close()
	process := []prometheus.Collector{NewAPIMetrics()}
	handler := NewHandler(log.NewNopLogger(), e, process, HandlerOptions{Timeout: 10 * time.Second, TimeoutOffset: time.Second})
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics"+query, http.NoBody)
	req.Header = header
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, req)
	return rec, left
}

func TestHandler(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		rec, left := get(t, "", http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {"3600"}})
		body := rec.Body.String()
		if rec.Code != http.StatusOK || !strings.Contains(body, "a_total 1") || !strings.Contains(body, "b_total 1") {
			t.Errorf("status %d, body:\n%s", rec.Code, body)
		}
		if left < 30*time.Minute || left > time.Hour-time.Second {
			t.Errorf("the collectors have %s left, want an hour less the offset", left)
		}
	})
	t.Run("filtered", func(t *testing.T) {
		rec, _ := get(t, "?collect[]=b", nil)
		body := rec.Body.String()
		if rec.Code != http.StatusOK || strings.Contains(body, "a_total") || !strings.Contains(body, "b_total 1") {
			t.Errorf("status %d, body:\n%s", rec.Code, body)
		}
	})
	t.Run("unknown collector", func(t *testing.T) {
		rec, _ := get(t, "?collect[]=c", nil)
		if body := rec.Body.String(); rec.Code != http.StatusBadRequest || !strings.Contains(body, `"c"`) || !strings.Contains(body, "a, b") {
			t.Errorf("status %d, body:\n%s", rec.Code, body)
		}
	})
	t.Run("OpenMetrics", func(t *testing.T) {
		rec, _ := get(t, "", http.Header{"Accept": {"application/openmetrics-text; version=1.0.0"}})
		if body := rec.Body.String(); !strings.HasSuffix(body, "# EOF\n") || strings.Contains(body, "_created") {
			t.Errorf("want OpenMetrics without _created lines, not:\n%s", body)
		}
	})
}

// An invalid metric is left out, and the others are still there.
func TestABadMetric(t *testing.T) {
	var out strings.Builder
	logger := log.NewLogfmtLogger(log.NewSyncWriter(&out))
	e := NewExporter(log.NewNopLogger(), ExporterOptions{Now: time.Now}, newFake("twice", ok), newFake("twice", ok), newFake("good", ok))
	defer e.Close()
	rec := httptest.NewRecorder()
	h := NewHandler(logger, e, nil, HandlerOptions{Timeout: time.Minute})
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "good_total 1") {
		t.Errorf("status %d, body:\n%s", rec.Code, rec.Body)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.Contains(out.String(), "level=error") || !strings.Contains(out.String(), "Metrics could not be shown") {
		t.Errorf("want one line of log, not:\n%s", out.String())
	}
	h.ServeHTTP(rec, req)
	if strings.Count(out.String(), "level=error") != 1 || strings.Count(out.String(), "level=debug") != 1 {
		t.Errorf("want another line for debugging only, not:\n%s", out.String())
	}
}

// Scrapes that ask for the same thing at the same time share one answer. A scrape that
// asks for something else has its own.
func TestOneAnswerForScrapesAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := newExporter(newFake("a", func(context.Context) error { <-release; return nil }), newFake("b", ok))
		defer e.Close()
		made := &countingCollector{}
		h := NewHandler(log.NewNopLogger(), e, []prometheus.Collector{made}, HandlerOptions{Timeout: time.Minute, MaxRequests: 40})
		serve := func(ctx context.Context, query string, header http.Header) *httptest.ResponseRecorder {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics"+query, http.NoBody)
			req.Header = header
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			return rec
		}
		answers := make(chan *httptest.ResponseRecorder, 50)
		first, hangUp := context.WithCancel(t.Context())
		go serve(first, "", nil)
		synctest.Wait()
		for range 40 {
			go func() { answers <- serve(t.Context(), "", nil) }()
		}
		synctest.Wait()
		if rec := <-answers; rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "--web.max-requests") {
			t.Errorf("one scrape too many: status %d, %s", rec.Code, rec.Body)
		}
		hangUp()
		synctest.Wait() // another of them asks now
		close(release)
		for range 39 {
			rec := <-answers
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "a_total 1") || rec.Header().Get("Content-Type") == "" {
				t.Fatalf("status %d, %v, body:\n%s", rec.Code, rec.Header(), rec.Body)
			}
		}
		if n := made.collected.Load(); n != 1 {
			t.Errorf("the answer was made %d times, want once", n)
		}
		if rec := serve(t.Context(), "?collect[]=b", nil); strings.Contains(rec.Body.String(), "a_total") {
			t.Errorf("the answer to another question: %s", rec.Body)
		}
		if rec := serve(t.Context(), "", nil); !strings.Contains(rec.Body.String(), "a_total 2") {
			t.Errorf("a later scrape was not answered anew: %s", rec.Body)
		}
	})
}

// countingCollector counts how often it is collected.
type countingCollector struct{ collected atomic.Int64 }

func (*countingCollector) Describe(chan<- *prometheus.Desc)   {}
func (c *countingCollector) Collect(chan<- prometheus.Metric) { c.collected.Add(1) }

// If an earlier deadline cuts off a shared answer, a scrape with time left asks again. A
// scrape with an earlier deadline does not wait for an answer with a later one.
func TestDeadlinesOfSharedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := slowAtFirst("a")
		e := newExporter(f)
		defer e.Close()
		h := NewHandler(log.NewNopLogger(), e, nil, HandlerOptions{Timeout: time.Minute})
		serve := func(timeout string) (string, time.Duration) {
			begin := time.Now()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
			req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			return rec.Body.String(), time.Since(begin)
		}
		const succeeded = `ncp_scrape_collector_success{collector="a"} `
		type answer struct {
			body string
			took time.Duration
		}
		answers := make(map[string]chan answer)
		for _, timeout := range []string{"10", "20", "5"} {
			answers[timeout] = make(chan answer, 1)
			go func() {
				body, took := serve(timeout)
				answers[timeout] <- answer{body, took}
			}()
			synctest.Wait()
		}
		if a := <-answers["5"]; !strings.Contains(a.body, succeeded+"0") || a.took > 5*time.Second {
			t.Errorf("the shortest took %s:\n%s", a.took, a.body)
		}
		if a := <-answers["10"]; !strings.Contains(a.body, succeeded+"0") || a.took > 10*time.Second {
			t.Errorf("the first took %s:\n%s", a.took, a.body)
		}
		if a := <-answers["20"]; !strings.Contains(a.body, succeeded+"1") {
			t.Errorf("the longest had time left, and took %s:\n%s", a.took, a.body)
		}
	})
}
