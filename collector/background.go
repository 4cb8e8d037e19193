package collector

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxJob is the longest that a job may go on. It is long: the first read of a
// history of a million rows takes as many calls as it takes.
const maxJob = time.Hour

// underWayError says that a job was not done when its scrape had to answer.
type underWayError struct {
	what string
	err  error // of the scrape's context
}

func (e *underWayError) Error() string {
	return e.what + ": NCP did not answer in time; it is still waited for, for the next scrape"
}

func (e *underWayError) Unwrap() error { return e.err }

// background does jobs that may take longer than the scrape that asks for them.
// What a scrape has no time to wait for goes on, and serves the next one.
type background struct {
	ctx     context.Context //nolint:containedctx // the life of the jobs, which outlive each scrape
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	jobs map[string]*job
}

// job is a piece of work. Its error is set when done is closed.
type job struct {
	done chan struct{}
	err  error
}

func newBackground() *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel, jobs: make(map[string]*job)}
}

// do waits until the job of this name is done, and begins it if it is not under
// way. If ctx ends before, the error is an underWayError and the job goes on.
func (b *background) do(ctx context.Context, name string, work func(context.Context) error) error {
	j := b.begin(name, work) //nolint:contextcheck // a job outlives the scrape that asks for it
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
	}
	select {
	case <-j.done: // also if ctx ended at the same moment
		return j.err
	default:
		return &underWayError{name, ctx.Err()}
	}
}

func (b *background) begin(name string, work func(context.Context) error) *job {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.jobs[name]; j != nil {
		return j
	}
	j := &job{done: make(chan struct{})}
	b.jobs[name] = j
	b.running.Go(func() {
		ctx, cancel := context.WithTimeoutCause(b.ctx, maxJob, fmt.Errorf("it took longer than %s", maxJob))
		defer cancel()
		j.err = safely(func() error { return work(ctx) })
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.jobs, name)
		close(j.done)
	})
	return j
}

// underWay says whether a job of this name goes on.
func (b *background) underWay(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobs[name] != nil
}

// close ends the jobs and waits for them. No other may be begun after it.
func (b *background) close() {
	b.cancel()
	b.running.Wait()
}
