package collector

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
)

// bareCollector makes the same series at each Collect, as a minimal exporter would.
type bareCollector struct{ series []bareSeries }

type bareSeries struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  float64
	labels []string
}

func (*bareCollector) Describe(chan<- *prometheus.Desc) {}

func (c *bareCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.series {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value, s.labels...)
	}
}

// newBareCollector copies the series of a scrape.
func newBareCollector(b *testing.B, s Scrape) *bareCollector {
	b.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	bare := &bareCollector{}
	for _, family := range families {
		var names []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		desc := prometheus.NewDesc(family.GetName(), family.GetHelp(), names, nil)
		for _, m := range family.GetMetric() {
			series := bareSeries{desc: desc, kind: prometheus.GaugeValue, value: m.GetGauge().GetValue()}
			if m.GetCounter() != nil {
				series.kind, series.value = prometheus.CounterValue, m.GetCounter().GetValue()
			}
			for _, l := range m.GetLabel() {
				series.labels = append(series.labels, l.GetValue())
			}
			bare.series = append(bare.series, series)
		}
	}
	return bare
}

// stopwatch measures the time in which at least one call to NCP is running: sending,
// waiting, or reading the answer.
type stopwatch struct {
	mu     sync.Mutex
	active int
	begin  time.Time
	total  time.Duration
}

func (s *stopwatch) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active++; s.active == 1 {
		s.begin = time.Now()
	}
}

func (s *stopwatch) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.total += time.Since(s.begin)
	}
}

// timedClient wraps the clients of both APIs, and times each call.
type timedClient struct {
	RecentChangesClient
	subjects.Client
	watch *stopwatch
}

func (c timedClient) RecentChanges(ctx context.Context, window time.Duration) ([]ncpclient.CertificateChange, error) {
	c.watch.start()
	defer c.watch.stop()
	return c.RecentChangesClient.RecentChanges(ctx, window)
}

func (c timedClient) Subjects(ctx context.Context, size int) (ncpclient.List[ncpclient.Subject], error) {
	c.watch.start()
	defer c.watch.stop()
	return c.Client.Subjects(ctx, size)
}

func (c timedClient) CredentialsPage(ctx context.Context, id string, number, size int) (ncpclient.CredentialsPage, error) {
	c.watch.start()
	defer c.watch.stop()
	return c.Client.CredentialsPage(ctx, id, number, size)
}

// BenchmarkScrape compares a scrape of 1,000 series with a bare client_golang
// handler that has the same series in memory. It leaves out the time in which the
// simulated NCP, which has no latency, was being asked. The two run in turns, so that
// noise on the machine disturbs both.
func BenchmarkScrape(b *testing.B) {
	watch := &stopwatch{}
	w := newWorld(b, worldOptions{perCert: true, watch: watch})
	for i := range 800 {
		w.AddChanges(change(strconv.Itoa(400+i/3), int64(50000+i), []string{"Normal", "Ongoing", "Validation timed out"}[i%3]))
	}
	for i := range 22 {
		id := fmt.Sprintf("c2dea79b-0000-0000-0000-c162618da1%02d", i)
		put(w.Server, id)
		w.AddCredentials(id, history(50)...)
	}
	handler := NewHandler(log.NewNopLogger(), w.exporter, nil, HandlerOptions{Timeout: time.Minute})
	bare := newBareCollector(b, w.scrape(b))
	bareHandler := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(bare)
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rw, req)
	})
	serve := func(h http.Handler) time.Duration {
		runtime.GC() // so that neither collects the garbage of the other
		begin := time.Now()
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", http.NoBody))
		if rec.Code != http.StatusOK {
			b.Fatalf("status %d", rec.Code)
		}
		return time.Since(begin)
	}
	serve(handler)
	serve(bareHandler)
	watch.total = 0
	var ours, theirs []time.Duration
	for b.Loop() {
		asked := watch.total
		ours = append(ours, serve(handler)-(watch.total-asked))
		theirs = append(theirs, serve(bareHandler))
	}
	b.ReportMetric(float64(len(bare.series)), "series")
	b.ReportMetric(float64(median(ours))/float64(median(theirs)), "own-part/bare-handler")
	b.ReportMetric(float64(watch.total.Microseconds())/float64(b.N), "µs-asking-NCP/op")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
