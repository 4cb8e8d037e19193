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
	// there was to read was read, by it or since that time: what an Update had
	// no time for goes on after it, and serves the next. It is not called again
	// before it returned.
	Update(ctx context.Context, since time.Time) error
	// Close ends what goes on. Update is not called after it.
	Close()
	// Collect gives metrics: counters always; gauges only of what the last
	// Update, which may still be at work, has read, or found to be read.
	prometheus.Collector
}

// ExporterOptions are the settings of an Exporter.
type ExporterOptions struct {
	// MaxAge is how old an update may be that a scrape is answered from; 0 asks
	// NCP for each scrape.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Exporter runs the collectors for each scrape.
type Exporter struct {
	runners []*runner
	options ExporterOptions
	ctx     context.Context //nolint:containedctx // the life of the exporter, which outlives each scrape
	cancel  context.CancelFunc
	running sync.WaitGroup

	success, duration, age, lastSuccess *prometheus.Desc
}

// NewExporter makes an Exporter of the collectors, whose names differ.
func NewExporter(logger log.Logger, options ExporterOptions, collectors ...Collector) *Exporter {
	ctx, cancel := context.WithCancel(context.Background())
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ncp_scrape_collector_"+name, help, []string{"collector"}, nil)
	}
	e := &Exporter{
		options: options,
		ctx:     ctx,
		cancel:  cancel,
		success: desc("success",
			"1 if all that the collector had to read from NCP was read in this scrape, else 0."),
		duration: desc("duration_seconds",
			"How long the collector took in this scrape."),
		age: desc("age_seconds",
			"How long before this scrape NCP was asked for what it shows: 0 if in this scrape, more if it was answered from an earlier one (--scrape.max-age) or from what an earlier one had begun."),
		lastSuccess: desc("last_success_timestamp_seconds",
			"When all that the collector had to read from NCP was last read."),
	}
	for _, c := range collectors {
		e.runners = append(e.runners, &runner{
			collector: c,
			logger:    log.With(logger, "collector", c.Name()),
		})
	}
	return e
}

// Close ends the updates in flight and what goes on after them, and waits for
// that.
func (e *Exporter) Close() {
	e.cancel()
	e.running.Wait()
	for _, r := range e.runners {
		r.collector.Close()
	}
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
	begin := e.options.Now()
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
			a := e.scrapeOne(ctx, r)
			gauge := func(d *prometheus.Desc, value float64) prometheus.Metric {
				return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, r.collector.Name())
			}
			success := 0.0
			if a.err == nil {
				success = 1
			}
			parts[i] = append(slices.Clip(a.metrics),
				gauge(e.success, success),
				gauge(e.duration, e.options.Now().Sub(begin).Seconds()),
				gauge(e.age, max(0, begin.Sub(a.since).Seconds())))
			if !a.lastSuccess.IsZero() {
				parts[i] = append(parts[i], gauge(e.lastSuccess, timestamp(a.lastSuccess)))
			}
		})
	}
	group.Wait()
	return Scrape{slices.Concat(parts...)}
}

// answer is what a collector has to say to one scrape.
type answer struct {
	metrics     []prometheus.Metric
	err         error     // that left some of them out
	since       time.Time // NCP was asked for them then or later
	lastSuccess time.Time // zero if there was none
}

// scrapeOne updates one collector and returns its answer.
func (e *Exporter) scrapeOne(ctx context.Context, r *runner) answer {
	for {
		u, began := e.join(ctx, r)
		select {
		case <-u.done:
		case <-ctx.Done():
		}
		select {
		case <-u.done: // also if ctx ended at the same moment
		default:
			r.mu.Lock()
			lastSuccess := r.lastSuccess
			r.mu.Unlock()
			return answer{gather(r.collector), ctx.Err(), u.begun, lastSuccess}
		}
		if u.cut && !began && ctx.Err() == nil {
			continue // it ended by the deadline of another scrape; this one has time left
		}
		return u.answer
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

	mu          sync.Mutex
	current     *update // under way
	last        *update // ended
	lastSuccess time.Time
	lastErr     error // of the last update that failed, which was then
	lastFailed  time.Time
	failure     string // what was logged last; empty after a success
}

// update is one call of a collector's Update.
type update struct {
	begun time.Time // what was read at this time or later counts
	// What follows is set when done is closed.
	done     chan struct{}
	ended    time.Time
	deadline time.Time
	cut      bool // it failed as its deadline came
	answer
}

// reserve is kept from a scrape's deadline for what follows the reading: to
// write the ledger and to gather.
func reserve(left time.Duration) time.Duration { return min(250*time.Millisecond, left/10) }

// join returns the update under way, or the last if it is young enough, or
// begins one under ctx's deadline. A client that goes away does not end it, as
// others may have joined.
func (e *Exporter) join(ctx context.Context, r *runner) (u *update, began bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		return r.current, false
	}
	now := e.options.Now()
	since := now
	if r.last != nil {
		if age := now.Sub(r.last.begun); !r.last.cut && age >= 0 && age < e.options.MaxAge {
			return r.last, false
		}
		if r.last.cut {
			since = r.last.deadline // what went on after it counts for this one
		}
	}
	u = &update{done: make(chan struct{}), begun: since}
	r.current = u
	deadline, hasDeadline := ctx.Deadline()
	e.running.Go(func() { //nolint:contextcheck // an update outlives the scrape that began it
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		if hasDeadline {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve(time.Until(deadline))))
			defer cancel()
		}
		err := safely(func() error { return r.collector.Update(ctx, since) })
		metrics := gather(r.collector)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log(err)
		u.ended = e.options.Now()
		u.deadline, _ = ctx.Deadline()
		u.cut = err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
		if err == nil {
			r.lastSuccess = u.ended
		} else {
			r.lastErr, r.lastFailed = err, u.ended
		}
		u.answer = answer{metrics, err, since, r.lastSuccess}
		r.current, r.last = nil, u
		close(u.done)
	})
	return u, true
}

// safely makes a panic of a collector an error of that collector: the other
// one goes on.
func safely(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return work()
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
	var unread *UnreadError
	switch {
	case errors.As(err, &api):
		return fmt.Sprint(api.Operation, api.Reason, api.Status, api.Code)
	case errors.As(err, &unread):
		return "unread"
	default:
		return err.Error()
	}
}
