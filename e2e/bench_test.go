//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ncp_exporter/ncpclient/ncptest"
)

const manySubjects = 10_000

// BenchmarkCPU is the CPU time that the exporter takes for a scrape of 10,000
// quiet subjects, asking NCP and all, over that of a bare client_golang handler
// that makes the same series. Both are processes of their own, scraped as
// Prometheus does, and take turns, so that a noisy machine is noisy to both.
func BenchmarkCPU(b *testing.B) {
	for _, bb := range []struct {
		name  string
		sweep string
	}{{"sweep=on", "720h"}, {"sweep=off", "0s"}} {
		b.Run(bb.name, func(b *testing.B) {
			n := empty(b)
			populate(n, manySubjects, 3)
			ours := watch(b, n, "--ncp.rate-limit=0", "--collector.external-access.sweep-interval="+bb.sweep)
			ours.zipped(b)
			theirs := bare(b, ours.metrics(b, long()...).body)
			theirs.zipped(b)
			series := theirs.zipped(b)
			ours.zipped(b)
			var ourTime, theirTime time.Duration
			scrapes := 0
			for b.Loop() {
				for range 3 {
					ourTime += cpu(b, ours.process, func() { ours.zipped(b) })
					theirTime += cpu(b, theirs.process, func() { theirs.zipped(b) })
					scrapes++
				}
			}
			b.ReportMetric(float64(series), "series")
			b.ReportMetric(float64(ourTime.Milliseconds())/float64(scrapes), "cpu-ms/scrape")
			b.ReportMetric(float64(theirTime.Milliseconds())/float64(scrapes), "bare-cpu-ms/scrape")
			b.ReportMetric(ourTime.Seconds()/theirTime.Seconds(), "cpu/bare-handler")
		})
	}
}

// cpu is the time that a process was on a processor while something was done.
func cpu(t testing.TB, p *process, work func()) time.Duration {
	t.Helper()
	before := cpuTime(t, p)
	work()
	return cpuTime(t, p) - before
}

// cpuTime is user and system time, in the ticks that Linux tells it in.
func cpuTime(t testing.TB, p *process) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name, in brackets, may hold anything; utime is field 14, stime 15.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// bareVariable names the file of an exposition that this binary is to serve,
// instead of running tests.
const bareVariable = "NCP_EXPORTER_E2E_BARE"

// bare starts the smallest exporter that shows these series.
func bare(t testing.TB, exposition string) exporter {
	t.Helper()
	file := filepath.Join(t.TempDir(), "metrics")
	if err := os.WriteFile(file, []byte(exposition), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startCmd(t, []string{bareVariable + "=" + file}, exec.CommandContext(t.Context(), os.Args[0])) //nolint:gosec // this very binary
	return exporter{p, "http://" + p.address(t)}
}

func serveBare(file string) int {
	err := func() error {
		text, err := os.Open(file) //nolint:gosec // written by bare
		if err != nil {
			return err
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(text)
		if err != nil {
			return err
		}
		collector := newBareCollector(families)
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Printf("msg=\"Listening on\" address=%s\n", listener.Addr())
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			registry := prometheus.NewRegistry()
			registry.MustRegister(collector)
			promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, req)
		})}
		return server.Serve(listener)
	}()
	if !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// bareCollector makes its series anew at each scrape.
type bareCollector []bareSeries

type bareSeries struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  float64
	labels []string
}

func newBareCollector(families map[string]*dto.MetricFamily) bareCollector {
	var c bareCollector
	for _, family := range families {
		var kind prometheus.ValueType
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			kind = prometheus.CounterValue
		case dto.MetricType_GAUGE:
			kind = prometheus.GaugeValue
		default:
			continue // a few histograms
		}
		var names []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			names = append(names, pair.GetName())
		}
		desc := prometheus.NewDesc(family.GetName(), family.GetHelp(), names, nil)
		for _, m := range family.GetMetric() {
			s := bareSeries{desc: desc, kind: kind, value: m.GetGauge().GetValue() + m.GetCounter().GetValue()}
			for _, pair := range m.GetLabel() {
				s.labels = append(s.labels, pair.GetValue())
			}
			c = append(c, s)
		}
	}
	return c
}

func (bareCollector) Describe(chan<- *prometheus.Desc) {}

func (c bareCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value, s.labels...)
	}
}

// BenchmarkLatency is the time of a scrape of 200 subjects, of which each answer
// takes NCP 50 ms, over what the answers alone take: the pages of the list one
// after the other, and then 20 subjects at a time.
func BenchmarkLatency(b *testing.B) {
	const subjects, latency, concurrency, pageSize = 200, 50 * time.Millisecond, 20, 100
	n := empty(b)
	populate(n, subjects, 3)
	e := watch(b, n, "--ncp.rate-limit=0", "--ncp.max-concurrency="+strconv.Itoa(concurrency))
	e.zipped(b)
	n.externalAccess.Configure(func(c *ncptest.Config) { c.Latency = latency })
	n.certificateManager.Configure(func(c *ncptest.Config) { c.Latency = latency })
	ideal := (subjects/pageSize + subjects/concurrency) * latency
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		e.zipped(b)
		took = append(took, time.Since(begin))
	}
	middle := median(took)
	b.ReportMetric(float64(middle.Milliseconds()), "ms/scrape")
	b.ReportMetric(middle.Seconds()/ideal.Seconds(), "scrape/ideal")
}

// BenchmarkSweep has 1 % of 10,000 subjects log in before each scrape: NCP is to
// be asked for the list and for these.
func BenchmarkSweep(b *testing.B) {
	const active, pageSize = manySubjects / 100, 100
	n := empty(b)
	populate(n, manySubjects, 3)
	e := watch(b, n, "--ncp.rate-limit=0", "--collector.external-access.sweep-interval=720h")
	e.zipped(b)
	var took []time.Duration
	calls, scrapes := 0, 0
	for b.Loop() {
		for i := range active {
			n.externalAccess.AddCredentials(subjectID((i*97+scrapes)%manySubjects), ncptest.NewCredential(time.Now(), strconv.Itoa(scrapes), false))
		}
		n.externalAccess.ResetStats()
		begin := time.Now()
		e.zipped(b)
		took = append(took, time.Since(begin))
		calls += n.externalAccess.Count(ncptest.Subjects) + n.externalAccess.Count(ncptest.Credentials)
		scrapes++
	}
	e.scrape(b, long()...).want(b, seriesName("ncp_external_access_sweeping", nil), 1)
	b.ReportMetric(float64(calls)/float64(scrapes), "calls/scrape")
	b.ReportMetric(float64(calls)/float64(scrapes*(manySubjects/pageSize+active)), "calls/expected")
	b.ReportMetric(median(took).Seconds(), "s/scrape")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
