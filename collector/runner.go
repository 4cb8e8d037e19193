package collector

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ncp_exporter/collector/refresh"
)

// runner updates one collector, one update at a time. Scrapes that overlap share the
// update that is running.
type runner struct {
	collector Collector
	options   ExporterOptions
	ctx       context.Context //nolint:containedctx // the life of the exporter: an update outlives the scrape that began it
	running   sync.WaitGroup

	mu          sync.Mutex
	current     *update // running; nil if none is
	last        *update // that ended; nil if none did yet
	shown       int     // metrics of the last update
	lastSuccess time.Time
	lastErr     error // of the last update that failed, at lastFailed
	lastFailed  time.Time
	lines       collectorLog
}

// update is one call of a collector's Update.
type update struct {
	answer // metrics, err and the fields below are set when done is closed
	done   chan struct{}

	began    time.Time
	ended    time.Time
	deadline time.Time
	calls    uint64 // requests that were sent meanwhile
	hasty    bool   // the scrape that began it left it no time
}

// answer is what a collector gives to a scrape.
type answer struct {
	metrics     []prometheus.Metric
	err         error     // why metrics are missing; nil if none are
	since       time.Time // what was read at this time or later counts for the answer
	lastSuccess time.Time // zero if there was none
	cut         bool      // metrics are missing because a deadline came
}

// commitReserve is the part of a scrape's time in which nothing is read any more: it
// is for writing the ledger and collecting the metrics.
func commitReserve(left time.Duration) time.Duration {
	return min(250*time.Millisecond, left/10)
}

// scrape returns the answer to a scrape when the update is done or ctx ends.
func (r *runner) scrape(ctx context.Context) answer {
	for {
		u, began := r.join(ctx)
		select {
		case <-u.done:
		case <-ctx.Done():
		}
		select {
		case <-u.done: // select picks at random if ctx ended too, so look again
		default:
			metrics, err := gather(r.collector, 0)
			r.mu.Lock()
			defer r.mu.Unlock()
			return answer{metrics, cmp.Or(err, ctx.Err()), u.since, r.lastSuccess, true}
		}
		if u.cut && !began && ctx.Err() == nil {
			continue // the deadline of another scrape ended it; this scrape has time left
		}
		return u.answer
	}
}

// shortest is the least time that a Prometheus leaves for a scrape.
const shortest = 400 * time.Millisecond

// join returns the running update; or the last one, if it is younger than MaxAge; or
// it begins one with ctx's deadline. The update does not end if the client
// disconnects, as other scrapes may share it.
func (r *runner) join(ctx context.Context) (u *update, began bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		return r.current, false
	}
	now := r.options.Now()
	if r.ctx.Err() != nil {
		return r.closed(now), true
	}
	since := now
	if last := r.last; last != nil {
		if age := now.Sub(last.since); !last.cut && age >= 0 && age < r.options.MaxAge {
			return last, false
		}
		if last.cut {
			since = last.deadline // reads that continued after it count for this update
		}
	}
	u = &update{done: make(chan struct{}), began: now, answer: answer{since: since}}
	r.current = u
	before := r.shown
	deadline, hasDeadline := ctx.Deadline()
	left := time.Until(deadline)
	r.running.Go(func() { //nolint:contextcheck // an update outlives the scrape that began it
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		if hasDeadline {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-commitReserve(left)))
			defer cancel()
		}
		sent := r.sent()
		u.err = refresh.Protect(func() error { return r.collector.Update(ctx, since) })
		u.calls = r.sent() - sent
		u.deadline, _ = ctx.Deadline()
		u.cut = u.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
		u.hasty = u.cut && left < shortest
		var bug error
		u.metrics, bug = gather(r.collector, before)
		u.err = cmp.Or(u.err, bug)
		r.finish(u)
	})
	return u, true
}

// sent is the number of requests that the collector has sent so far.
func (r *runner) sent() uint64 {
	if r.options.Calls == nil {
		return 0
	}
	return r.options.Calls(r.collector.Name())
}

// errClosed is the answer to a scrape that came when its exporter was being closed.
var errClosed = errors.New("the account was closed, or is opened with other settings")

// closed gives an update that ended: nothing is read any more, but the counters are
// shown.
func (r *runner) closed(now time.Time) *update {
	metrics, err := gather(r.collector, 0)
	u := &update{done: make(chan struct{}), answer: answer{metrics: metrics, err: cmp.Or(err, errClosed), since: now, lastSuccess: r.lastSuccess}}
	close(u.done)
	return u
}

// settle returns when a scrape that saw the exporter open has begun its update.
func (r *runner) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
}

// finish records that an update ended.
func (r *runner) finish(u *update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u.ended = r.options.Now()
	r.lines.ended(u.err, u.hasty, u.ended)
	if u.err == nil {
		r.lines.read(r.collector, u)
	}
	if c, ok := r.collector.(interface{ Quirks() []string }); ok {
		r.lines.quirks(c.Quirks())
	}
	if u.err == nil {
		r.lastSuccess = u.ended
	} else {
		r.lastErr, r.lastFailed = u.err, u.ended
	}
	u.lastSuccess = r.lastSuccess
	r.current, r.last, r.shown = nil, u, len(u.metrics)
	if r.options.MaxAge == 0 { // no later scrape shows them
		kept := *u
		kept.metrics = nil
		r.last = &kept
	}
	close(u.done)
}

// gather collects the metrics of a collector; those before the bug, if it has one.
// before is how many there were last time, and tells how much room to make.
func gather(c Collector, before int) ([]prometheus.Metric, error) {
	metrics := make([]prometheus.Metric, 0, before+before/8)
	err := refresh.Protect(func() error {
		c.Collect(func(m prometheus.Metric) { metrics = append(metrics, m) })
		return nil
	})
	return metrics, err
}

// Status tells how a collector is doing.
type Status struct {
	Name string
	// Refreshed is when the last update ended, Succeeded when the last one ended that
	// read everything; zero if there was none yet.
	Refreshed, Succeeded time.Time
	// Failing says whether the last update failed. Err is the error of the last update
	// that failed, and Failed is when it ended; there may have been a success since.
	Failing bool
	Err     error
	Failed  time.Time
	// UnderWay says whether an update is running.
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
