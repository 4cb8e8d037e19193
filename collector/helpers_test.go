package collector

import (
	"context"
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
}

type worldOptions struct {
	ncp      ncptest.Config
	subjects []string
	pageSize int
	perCert  bool
	timeout  time.Duration // of one request
	// concurrency is how many subjects are read side by side; 0 is 10.
	concurrency int
	watch       *stopwatch // measures the calls to NCP, if not nil
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	server := ncptest.New(o.ncp)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	w := &world{Server: server, metrics: NewAPIMetrics(), log: &strings.Builder{}}
	transport := ncpclient.NewTransport(10, nil)
	config := ncpclient.Config{
		BaseURL:     server.CertificateManagerURL(),
		Credentials: ncpclient.StaticCredentials(ncpclient.Keys{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey}, "test"),
		Transport:   transport,
		Timeout:     o.timeout,
		Observer:    w.metrics,
	}
	cm, err := ncpclient.NewCertificateManager(config)
	if err != nil {
		t.Fatal(err)
	}
	config.BaseURL = server.ExternalAccessURL()
	ea, err := ncpclient.NewExternalAccess(config)
	if err != nil {
		t.Fatal(err)
	}
	if o.pageSize == 0 {
		o.pageSize = 100
	}
	if o.concurrency == 0 {
		o.concurrency = 10
	}
	var changes RecentChangesClient = cm
	var subjects SubjectsClient = ea
	if o.watch != nil {
		timed := timedClient{cm, ea, o.watch}
		changes, subjects = timed, timed
	}
	logger := log.NewSyncWriter(w.log)
	counts := ledger.New(ledger.Options{LateArrival: time.Hour, Now: time.Now})
	w.exporter = NewExporter(log.NewLogfmtLogger(logger), time.Now,
		NewCertificateManager(changes, counts, CertificateManagerOptions{Window: 24 * time.Hour, PerCertificate: o.perCert}),
		NewExternalAccess(log.NewLogfmtLogger(logger), subjects, counts, ExternalAccessOptions{
			SubjectIDs: o.subjects, PageSize: o.pageSize, Concurrency: o.concurrency, Now: time.Now,
		}))
	t.Cleanup(func() {
		w.exporter.Close()
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// scrape is one scrape with a deadline that no test should reach.
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
