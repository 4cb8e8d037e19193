// Package collector turns the answers of NCP into metrics.
//
// A Collector asks one API; the Exporter runs all of them side by side for a
// scrape; Handler serves scrapes over HTTP.
package collector

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/ncpclient"
)

// Collector asks NCP for one thing and makes metrics of the answer.
type Collector interface {
	// Name is the value of the label collector.
	Name() string
	// Update asks NCP. It returns soon after ctx ends, and nil only if all that
	// there was to read was read. It is not called again before it returned.
	Update(ctx context.Context) error
	// Collect gives metrics: counters always; gauges only of what the last
	// Update, which may still be at work, has read.
	prometheus.Collector
}

// Exporter runs the collectors for each scrape.
type Exporter struct {
	runners []*runner
	now     func() time.Time
	ctx     context.Context //nolint:containedctx // the life of the exporter, which outlives each scrape
	cancel  context.CancelFunc
	running sync.WaitGroup

	success, duration *prometheus.Desc
}

// NewExporter makes an Exporter of the collectors, whose names differ.
func NewExporter(logger log.Logger, now func() time.Time, collectors ...Collector) *Exporter {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exporter{
		now:    now,
		ctx:    ctx,
		cancel: cancel,
		success: prometheus.NewDesc("ncp_scrape_collector_success",
			"1 if all that the collector had to read from NCP was read in this scrape, else 0.",
			[]string{"collector"}, nil),
		duration: prometheus.NewDesc("ncp_scrape_collector_duration_seconds",
			"How long the collector took in this scrape.",
			[]string{"collector"}, nil),
	}
	for _, c := range collectors {
		e.runners = append(e.runners, &runner{
			collector: c,
			logger:    log.With(logger, "collector", c.Name()),
		})
	}
	return e
}

// Close ends the updates in flight and waits for them.
func (e *Exporter) Close() {
	e.cancel()
	e.running.Wait()
}

// Names are the names of the collectors, in their order.
func (e *Exporter) Names() []string {
	names := make([]string, len(e.runners))
	for i, r := range e.runners {
		names[i] = r.collector.Name()
	}
	return names
}

// Scrape updates the named collectors side by side (all, if there are no
// names) and returns their metrics when the last is done or ctx ends,
// whichever is first.
func (e *Exporter) Scrape(ctx context.Context, names []string) Scrape {
	begin := e.now()
	var wanted []*runner
	for _, r := range e.runners {
		if len(names) == 0 || slices.Contains(names, r.collector.Name()) {
			wanted = append(wanted, r)
		}
	}
	parts := make([][]prometheus.Metric, len(wanted))
	var group sync.WaitGroup
	for i, r := range wanted {
		group.Go(func() {
			success := 0.0
			metrics, err := e.scrapeOne(ctx, r)
			if err == nil {
				success = 1
			}
			parts[i] = append(slices.Clip(metrics),
				prometheus.MustNewConstMetric(e.success, prometheus.GaugeValue, success, r.collector.Name()),
				prometheus.MustNewConstMetric(e.duration, prometheus.GaugeValue, e.now().Sub(begin).Seconds(), r.collector.Name()))
		})
	}
	group.Wait()
	return Scrape{slices.Concat(parts...)}
}

// scrapeOne updates one collector and returns its metrics, with the error that
// left some of them out.
func (e *Exporter) scrapeOne(ctx context.Context, r *runner) ([]prometheus.Metric, error) {
	for {
		u, began := e.join(ctx, r)
		select {
		case <-u.done:
		case <-ctx.Done():
		}
		select {
		case <-u.done: // also if ctx ended at the same moment
		default:
			return gather(r.collector), ctx.Err()
		}
		if u.cut && !began && ctx.Err() == nil {
			continue // it ended by the deadline of another scrape; this one has time left
		}
		return u.metrics, u.err
	}
}

// Scrape is the metrics of one scrape.
type Scrape struct{ metrics []prometheus.Metric }

// Describe gives nothing: what a scrape holds depends on what NCP answered.
func (Scrape) Describe(chan<- *prometheus.Desc) {}

// Collect gives the metrics.
func (s Scrape) Collect(ch chan<- prometheus.Metric) {
	for _, m := range s.metrics {
		ch <- m
	}
}

// runner updates one collector, never twice at a time: scrapes that overlap
// share the update that is under way.
type runner struct {
	collector Collector
	logger    log.Logger

	mu      sync.Mutex
	current *update
	failure string // what was logged last; empty after a success
}

// update is one call of a collector's Update. Its fields are set when done is
// closed.
type update struct {
	done    chan struct{}
	err     error
	cut     bool // it failed as its deadline came
	metrics []prometheus.Metric
}

// join returns the update under way, or begins one under ctx's deadline. A
// client that goes away does not end it, as others may have joined.
func (e *Exporter) join(ctx context.Context, r *runner) (u *update, began bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		return r.current, false
	}
	u = &update{done: make(chan struct{})}
	r.current = u
	deadline, hasDeadline := ctx.Deadline()
	e.running.Go(func() { //nolint:contextcheck // an update outlives the scrape that began it
		ctx, cancel := context.WithCancel(e.ctx)
		if hasDeadline {
			ctx, cancel = context.WithDeadline(e.ctx, deadline)
		}
		defer cancel()
		err := safely(ctx, r.collector)
		metrics := gather(r.collector)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log(err)
		u.err, u.metrics = err, metrics
		u.cut = err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
		r.current = nil
		close(u.done)
	})
	return u, true
}

// safely makes a panic of a collector an error of that collector: the other
// one goes on.
func safely(ctx context.Context, c Collector) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return c.Update(ctx)
}

type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("bug in ncp_exporter: %v", p.value) }

// gather takes what a collector has to give.
func gather(c prometheus.Collector) []prometheus.Metric {
	ch := make(chan prometheus.Metric, 1024)
	go func() {
		defer close(ch)
		c.Collect(ch)
	}()
	var metrics []prometheus.Metric
	for m := range ch {
		metrics = append(metrics, m)
	}
	return metrics
}

// log writes a line when a collector begins to fail, fails for another reason,
// or is well again. The scrapes in between tell nothing new.
func (r *runner) log(err error) {
	if err == nil {
		if r.failure != "" {
			_ = level.Info(r.logger).Log("msg", "Collector is well again")
		}
		r.failure = ""
		return
	}
	failure := failureKind(err)
	logger := level.Warn(r.logger)
	if failure == r.failure {
		logger = level.Debug(r.logger)
	}
	r.failure = failure
	fields := []any{"msg", "Collector failed", "err", err}
	var subject *SubjectError
	if errors.As(err, &subject) {
		fields = append(fields, "subject_id", subject.SubjectID)
	}
	var bug *panicError
	if errors.As(err, &bug) {
		_ = level.Debug(r.logger).Log("msg", "Stack of the bug", "stack", string(bug.stack))
	}
	_ = logger.Log(fields...)
}

// failureKind is the same for errors that tell the reader the same: the text of
// an API's error holds ids and times that differ each time.
func failureKind(err error) string {
	var api *ncpclient.Error
	if errors.As(err, &api) {
		return fmt.Sprint(api.Operation, api.Reason, api.Status, api.Code)
	}
	return err.Error()
}
