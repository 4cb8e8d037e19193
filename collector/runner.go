package collector

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/refresh"
)

// runner updates one collector, never twice at a time: scrapes that overlap
// share the update that is under way.
type runner struct {
	collector Collector
	options   ExporterOptions
	logger    log.Logger
	ctx       context.Context //nolint:containedctx // the life of the exporter: an update outlives the scrape that began it
	running   sync.WaitGroup

	mu          sync.Mutex
	current     *update // under way
	last        *update // ended
	lastSuccess time.Time
	lastErr     error // of the last update that failed, which was then
	lastFailed  time.Time
	failure     string // the kind that was logged last; empty after a success
}

// update is one call of a collector's Update.
type update struct {
	answer // metrics and err are set when done is closed, as is all below
	done   chan struct{}

	ended    time.Time
	deadline time.Time
}

// answer is what a collector has to say to one scrape.
type answer struct {
	metrics     []prometheus.Metric
	err         error     // that left some of them out
	since       time.Time // what was read at this time or later counts
	lastSuccess time.Time // zero if there was none
	cut         bool      // it failed because a deadline came
}

// commitReserve is kept from a scrape's deadline for what follows the reading: to
// write the ledger and to gather.
func commitReserve(left time.Duration) time.Duration {
	return min(250*time.Millisecond, left/10)
}

// scrape returns the answer to a scrape, when its update is done or ctx ends.
func (r *runner) scrape(ctx context.Context) answer {
	for {
		u, began := r.join(ctx)
		select {
		case <-u.done:
		case <-ctx.Done():
		}
		select {
		case <-u.done: // also if ctx ended at the same moment
		default:
			r.mu.Lock()
			defer r.mu.Unlock()
			return answer{gather(r.collector, 0), ctx.Err(), u.since, r.lastSuccess, true}
		}
		if u.cut && !began && ctx.Err() == nil {
			continue // it ended by the deadline of another scrape; this one has time left
		}
		return u.answer
	}
}

// join returns the update under way, or the last if it is young enough, or
// begins one under ctx's deadline. A client that goes away does not end it, as
// others may have joined.
func (r *runner) join(ctx context.Context) (u *update, began bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		return r.current, false
	}
	now := r.options.Now()
	since := now
	if last := r.last; last != nil {
		if age := now.Sub(last.since); !last.cut && age >= 0 && age < r.options.MaxAge {
			return last, false
		}
		if last.cut {
			since = last.deadline // what went on after it counts for this one
		}
	}
	u = &update{done: make(chan struct{}), answer: answer{since: since}}
	r.current = u
	before := 0
	if r.last != nil {
		before = len(r.last.metrics)
	}
	deadline, hasDeadline := ctx.Deadline()
	r.running.Go(func() { //nolint:contextcheck // an update outlives the scrape that began it
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		if hasDeadline {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-commitReserve(time.Until(deadline))))
			defer cancel()
		}
		u.err = refresh.Protect(func() error { return r.collector.Update(ctx, since) })
		u.metrics = gather(r.collector, before)
		u.deadline, _ = ctx.Deadline()
		u.cut = u.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
		r.finish(u)
	})
	return u, true
}

// finish takes note of an update that ended.
func (r *runner) finish(u *update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(u.err)
	u.ended = r.options.Now()
	if u.err == nil {
		r.lastSuccess = u.ended
	} else {
		r.lastErr, r.lastFailed = u.err, u.ended
	}
	u.lastSuccess = r.lastSuccess
	r.current, r.last = nil, u
	close(u.done)
}

// gather takes what a collector has to give, which is about as many metrics as
// before.
func gather(c Collector, before int) []prometheus.Metric {
	metrics := make([]prometheus.Metric, 0, before+before/8)
	c.Collect(func(m prometheus.Metric) { metrics = append(metrics, m) })
	return metrics
}

// log writes a line when a collector begins to fail, fails for another reason,
// or has recovered. The scrapes in between tell nothing new.
func (r *runner) log(err error) {
	if err == nil {
		if r.failure != "" {
			_ = level.Info(r.logger).Log("msg", "Collector recovered")
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
	var about interface{ LogFields() []any }
	if errors.As(err, &about) {
		fields = append(fields, about.LogFields()...)
	}
	var bug *refresh.PanicError
	if errors.As(err, &bug) {
		_ = level.Debug(r.logger).Log("msg", "Stack of the bug", "stack", string(bug.Stack))
	}
	_ = logger.Log(fields...)
}

// failureKind is the same for errors that tell the reader the same: their texts
// may hold ids and times that differ each time. An error with a Kind says it.
func failureKind(err error) string {
	var kind interface{ Kind() string }
	if errors.As(err, &kind) {
		return kind.Kind()
	}
	return err.Error()
}

// Status is how a collector is doing.
type Status struct {
	Name string
	// Refreshed is when the last update ended, Succeeded when the last ended
	// that read all; zero if there was none yet.
	Refreshed, Succeeded time.Time
	// Failing says whether the last update did not read all, Err why the last of
	// those did not, and Failed when that was.
	Failing bool
	Err     error
	Failed  time.Time
	// UnderWay says whether an update is at work.
	UnderWay bool
}

func (r *runner) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Name: r.collector.Name(), Succeeded: r.lastSuccess, UnderWay: r.current != nil, Err: r.lastErr, Failed: r.lastFailed}
	if r.last != nil {
		s.Refreshed, s.Failing = r.last.ended, r.last.err != nil
	}
	return s
}
