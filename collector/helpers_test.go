package collector

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"

	"ncp_exporter/collector/ledger"
	"ncp_exporter/collector/subjects"
	"ncp_exporter/ncpclient"
	"ncp_exporter/ncpclient/ncptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an exporter and the simulated NCP that it watches.
type world struct {
	*ncptest.Server
	exporter *Exporter
	metrics  *APIMetrics
	log      *strings.Builder
	flushed  func() // the log
	now      func() time.Time
}

type worldOptions struct {
	ncp      ncptest.Config
	subjects []string
	pageSize int
	perCert  bool
	timeout  time.Duration // of one request
	retries  int
	// concurrency is how many requests are in flight, and how many subjects are read
	// at the same time; 0 means 10.
	concurrency int
	watch       *stopwatch // measures the calls to NCP, if not nil
	sweep       time.Duration
	shard       subjects.Shard
	maxAge      time.Duration
	now         func() time.Time
	ledger      *ledger.Ledger
	// dial makes the connections, if not nil.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// direct leaves out the network between the exporter and NCP, so that both can be
	// in one synctest bubble.
	direct bool
	// expiry adds the collectors that tell what expires.
	expiry bool
	// failureInfo is how long the certificate of a failure is shown.
	failureInfo time.Duration
	// journal is which authentications are logged.
	journal func(ledger.Result) bool
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	if o.pageSize == 0 {
		o.pageSize = 100
	}
	if o.concurrency == 0 {
		o.concurrency = 10
	}
	if o.now == nil {
		o.now = time.Now
	}
	o.ncp.Now = o.now
	server := ncptest.New(o.ncp)
	if o.ledger == nil {
		o.ledger = ledger.New(ledger.Options{LateArrival: time.Hour, Now: o.now})
	}
	w := &world{Server: server, metrics: NewAPIMetrics(), log: &strings.Builder{}, now: o.now}
	config := ncpclient.Config{
		Credentials:    ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey}, "test"),
		Timeout:        o.timeout,
		MaxConcurrency: o.concurrency,
		MaxRetries:     o.retries,
		Observer:       w.metrics,
		Now:            o.now,
	}
	base := "http://127.0.0.1"
	if o.direct {
		time.Sleep(time.Until(past().AddDate(0, 1, 0))) // so that no history is in the future of the bubble's clock
		config.Transport = direct{server}
	} else {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		base = server.URL()
		transport := ncpclient.NewTransport(o.concurrency, nil)
		if o.dial != nil {
			transport.DialContext = o.dial
		}
		config.Transport = transport
		t.Cleanup(func() {
			transport.CloseIdleConnections()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	config.BaseURL = base + "/api/v2"
	cm, err := ncpclient.NewCertificateManager(config)
	if err != nil {
		t.Fatal(err)
	}
	config.BaseURL = base + "/api/v1"
	ea, err := ncpclient.NewExternalAccess(config)
	if err != nil {
		t.Fatal(err)
	}
	var changes RecentChangesClient = cm
	var histories subjects.Client = ea
	if o.watch != nil {
		timed := timedClient{cm, ea, o.watch}
		changes, histories = timed, timed
	}
	logger := log.NewLogfmtLogger(log.NewSyncWriter(w.log))
	all := []Collector{
		NewCertificateManager(changes, o.ledger, CertificateManagerOptions{Window: 24 * time.Hour, PerCertificate: o.perCert, Now: o.now}),
		NewExternalAccess(subjects.NewWatcher(logger, histories, o.ledger, subjects.Options{
			IDs: o.subjects, PageSize: o.pageSize, Concurrency: o.concurrency, Sweep: o.sweep, Shard: o.shard,
			LateArrival: time.Hour, Now: o.now, Journal: subjects.Journal{Of: o.journal, Flush: func() { w.flushed() }},
		}), o.ledger, ExternalAccessOptions{FailureInfo: o.failureInfo, Now: o.now}),
	}
	if o.expiry {
		all = append(all, NewCertificateInventory(cm, o.now), NewTrustAnchors(ea, o.concurrency, o.now))
	}
	w.exporter = NewExporter(logger, ExporterOptions{MaxAge: o.maxAge, Now: o.now}, all...)
	t.Cleanup(w.exporter.Close)
	return w
}

// direct hands requests to a handler without a network.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	served := httptest.NewRequestWithContext(ctx, req.Method, req.URL.RequestURI(), http.NoBody)
	served.Header = req.Header
	rec := httptest.NewRecorder()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // as the server of net/http does
				done <- io.ErrUnexpectedEOF
				return
			}
			done <- nil
		}()
		d.handler.ServeHTTP(rec, served)
	}()
	select {
	case err := <-done:
		return rec.Result(), err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// scrape does one scrape, with a deadline that no test should reach.
func (w *world) scrape(t testing.TB) Scrape {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return w.exporter.Scrape(ctx, nil)
}

// expect compares all series of these families with want, which has one series
// a line, in any order.
func expect(t *testing.T, s Scrape, want string, names ...string) {
	t.Helper()
	text, err := testutil.CollectAndFormat(s, expfmt.TypeTextPlain, names...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(series(want), series(string(text))); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// series are the lines of an exposition without its comments.
func series(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// value is the value of one series of a scrape, and whether it is there.
func value(t testing.TB, s Scrape, name string, labels ...string) (float64, bool) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	metrics:
		for _, m := range family.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for pair := range slices.Chunk(labels, 2) {
				if have[pair[0]] != pair[1] {
					continue metrics
				}
			}
			if m.GetCounter() != nil {
				return m.GetCounter().GetValue(), true
			}
			return m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

func wantValue(t testing.TB, s Scrape, want float64, name string, labels ...string) {
	t.Helper()
	if got, ok := value(t, s, name, labels...); !ok || got != want {
		t.Errorf("%s%v is %v (there: %v), want %v", name, labels, got, ok, want)
	}
}

func wantAbsent(t testing.TB, s Scrape, name string, labels ...string) {
	t.Helper()
	if got, ok := value(t, s, name, labels...); ok {
		t.Errorf("%s%v is %v, want no such series", name, labels, got)
	}
}
