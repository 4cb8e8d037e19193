package collector

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/refresh"
)

// ExporterOptions are the settings of an Exporter.
type ExporterOptions struct {
	// MaxAge is how old an update may be to answer another scrape. 0: each scrape
	// asks NCP.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
	// Calls gives the HTTP requests that a collector has sent so far, for the log; may
	// be nil.
	Calls func(collector string) uint64
}

// Exporter runs the collectors for each scrape.
type Exporter struct {
	runners []*runner
	options ExporterOptions
	cancel  context.CancelFunc

	success, duration, age, lastSuccess *prometheus.Desc
}

// NewExporter makes an Exporter. No two collectors may have the same name.
func NewExporter(logger log.Logger, options ExporterOptions, collectors ...Collector) *Exporter {
	ctx, cancel := context.WithCancel(context.Background())
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ncp_scrape_collector_"+name, help, []string{"collector"}, nil)
	}
	e := &Exporter{
		options: options,
		cancel:  cancel,
		success: desc("success",
			"1 if the collector read everything that it had to read from NCP in this scrape, else 0."),
		duration: desc("duration_seconds",
			"How long the collector took in this scrape."),
		age: desc("age_seconds",
			"How long before this scrape NCP was asked for what the scrape shows: 0 if in this scrape, more if the answer comes from an earlier scrape (--scrape.max-age) or from a read that an earlier scrape began."),
		lastSuccess: desc("last_success_timestamp_seconds",
			"When the collector last read everything that it had to read from NCP."),
	}
	for _, c := range collectors {
		e.runners = append(e.runners, &runner{
			collector: c,
			options:   options,
			lines:     collectorLog{logger: log.With(logger, "collector", c.Name())},
			ctx:       ctx,
		})
	}
	return e
}

// Close ends the updates in flight and the reads that continue after an update, and
// waits for their end.
func (e *Exporter) Close() {
	e.cancel()
	for _, r := range e.runners {
		r.settle()
		r.running.Wait()
		if bug := refresh.Protect(func() error { r.collector.Close(); return nil }); bug != nil {
			_ = level.Error(r.lines.logger).Log("msg", "Collector could not be closed", "err", bug)
		}
	}
}

// Names gives the names of the collectors, in their order.
func (e *Exporter) Names() []string {
	names := make([]string, len(e.runners))
	for i, r := range e.runners {
		names[i] = r.collector.Name()
	}
	return names
}

// Status tells how each collector is doing. It does not call NCP.
func (e *Exporter) Status() []Status {
	all := make([]Status, len(e.runners))
	for i, r := range e.runners {
		all[i] = r.status()
	}
	return all
}

// Scrape updates the named collectors at the same time, or all if there are no names.
// It returns their metrics when the last one is done, or when ctx ends.
func (e *Exporter) Scrape(ctx context.Context, names []string) Scrape {
	begin := e.options.Now()
	var wanted []*runner
	for _, r := range e.runners {
		if len(names) == 0 || slices.Contains(names, r.collector.Name()) {
			wanted = append(wanted, r)
		}
	}
	s := Scrape{parts: make([][]prometheus.Metric, 2*len(wanted))}
	var cut atomic.Bool
	var group sync.WaitGroup
	for i, r := range wanted {
		group.Go(func() {
			a := r.scrape(ctx)
			s.parts[2*i], s.parts[2*i+1] = a.metrics, e.about(r.collector.Name(), a, begin)
			if a.cut {
				cut.Store(true)
			}
		})
	}
	group.Wait()
	s.cut = cut.Load()
	return s
}

// about gives the metrics that say how good an answer is.
func (e *Exporter) about(collector string, a answer, begin time.Time) []prometheus.Metric {
	gauge := func(d *prometheus.Desc, value float64) prometheus.Metric {
		return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, collector)
	}
	metrics := []prometheus.Metric{
		gauge(e.success, boolValue(a.err == nil)),
		gauge(e.duration, e.options.Now().Sub(begin).Seconds()),
		gauge(e.age, max(0, begin.Sub(a.since).Seconds())),
	}
	if !a.lastSuccess.IsZero() {
		metrics = append(metrics, gauge(e.lastSuccess, timestamp(a.lastSuccess)))
	}
	return metrics
}

// Scrape is the metrics of one scrape.
type Scrape struct {
	parts [][]prometheus.Metric
	cut   bool // something is missing because a deadline came
}

// Describe gives nothing: which metrics there are depends on what NCP answered.
func (Scrape) Describe(chan<- *prometheus.Desc) {}

// Collect gives the metrics.
func (s Scrape) Collect(ch chan<- prometheus.Metric) {
	for _, part := range s.parts {
		for _, m := range part {
			ch <- m
		}
	}
}
