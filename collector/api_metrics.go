package collector

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/ncpclient"
)

// APIMetrics counts the HTTP requests to NCP. It is the Observer of both
// clients, and a prometheus.Collector.
type APIMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  *prometheus.CounterVec
	offset   *prometheus.Desc
	limit    *prometheus.Desc

	mu      sync.Mutex
	sent    map[ncpclient.Operation]uint64
	offsets map[string]time.Duration  // by API, as last seen
	limits  map[string]func() float64 // by API
}

// codeError is the value of the label code if no complete answer came.
const codeError = "error"

// NewAPIMetrics makes the metrics of the HTTP requests to NCP.
func NewAPIMetrics() *APIMetrics {
	return &APIMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ncp_api_requests_total",
			Help: "HTTP requests sent to NCP, retries included, by the HTTP status of the answer, or \"error\" if no whole answer came.",
		}, []string{"api", "operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "ncp_api_request_duration_seconds",
			Help:                            "How long an HTTP request to NCP took, from the start of sending to the last byte of the answer.",
			Buckets:                         []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"api", "operation"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ncp_api_request_retries_total",
			Help: "Retries of HTTP requests to NCP.",
		}, []string{"api", "operation"}),
		offset: prometheus.NewDesc("ncp_api_clock_offset_seconds",
			"NCP's clock less this machine's clock, from the Date header of the last answer, so in whole seconds. NCP refuses requests that are more than 300 s off.",
			[]string{"api"}, nil),
		limit: prometheus.NewDesc("ncp_api_rate_limit_requests_per_second",
			"HTTP requests a second that may be sent to NCP now: --ncp.rate-limit, or less for a while after NCP answered 429. Absent if there is no limit.",
			[]string{"api"}, nil),
		sent:    make(map[ncpclient.Operation]uint64),
		offsets: make(map[string]time.Duration),
		limits:  make(map[string]func() float64),
	}
}

// Expect makes the series of operations that will be called. They start at 0, so
// that increase() sees the first failure. limit gives the rate limit in force, in
// requests a second; +Inf if there is none.
func (m *APIMetrics) Expect(api string, limit func() float64, operations ...ncpclient.Operation) {
	m.mu.Lock()
	m.limits[api] = limit
	m.mu.Unlock()
	for _, op := range operations {
		m.retries.WithLabelValues(api, string(op))
		m.duration.WithLabelValues(api, string(op))
		for _, code := range []string{"200", "429", codeError} {
			m.requests.WithLabelValues(api, string(op), code)
		}
	}
}

// Restart forgets which APIs are watched, and their limits: Expect tells them anew.
// The counters go on.
func (m *APIMetrics) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.limits)
}

// RequestDone is called by ncpclient after each HTTP request.
func (m *APIMetrics) RequestDone(o ncpclient.Observation) {
	code := codeError
	if o.Status != 0 {
		code = strconv.Itoa(o.Status)
	}
	m.requests.WithLabelValues(o.API, string(o.Operation), code).Inc()
	m.duration.WithLabelValues(o.API, string(o.Operation)).Observe(o.Duration.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[o.Operation]++
	if o.HasClockOffset {
		m.offsets[o.API] = o.ClockOffset
	}
}

// Sent is the number of requests of some operations so far.
func (m *APIMetrics) Sent(operations ...ncpclient.Operation) (sum uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range operations {
		sum += m.sent[op]
	}
	return sum
}

// RequestRetried is called by ncpclient before a request is sent again.
func (m *APIMetrics) RequestRetried(api string, op ncpclient.Operation) {
	m.retries.WithLabelValues(api, string(op)).Inc()
}

// Describe gives all descriptions.
func (m *APIMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.requests.Describe(ch)
	m.duration.Describe(ch)
	m.retries.Describe(ch)
	ch <- m.offset
	ch <- m.limit
}

// Collect gives all metrics.
func (m *APIMetrics) Collect(ch chan<- prometheus.Metric) {
	m.requests.Collect(ch)
	m.duration.Collect(ch)
	m.retries.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	for api, offset := range m.offsets {
		ch <- prometheus.MustNewConstMetric(m.offset, prometheus.GaugeValue, offset.Seconds(), api)
	}
	for api, limit := range m.limits {
		if l := limit(); !math.IsInf(l, 1) {
			ch <- prometheus.MustNewConstMetric(m.limit, prometheus.GaugeValue, l, api)
		}
	}
}
