// Package refresh runs work that may take longer than the scrape that asks for
// it. What a scrape has no time for goes on, and serves the next one.
//
// It knows neither NCP nor metrics.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Item is a piece of work. Two items with the same key are the same.
type Item interface {
	Key() string
	// Refresh does the work, and ends soon after ctx does. Work of many steps
	// calls pace before each step but the first, and ends with its error.
	Refresh(ctx context.Context, pace Pace) error
	// Done is told how Refresh ended; a panic is a *PanicError.
	Done(err error)
	// TimedOut says whether the last Refresh ended because nobody answered it.
	TimedOut() bool
}

// Pace says whether an item may go on with its next step.
type Pace func() error

// errYield ends work that has to let others go first. It starts over later.
var errYield = errors.New("others go first")

// Options are the limits of a Queue.
type Options struct {
	// Workers is how many items a Run has at work at a time. Half as many may go
	// on after their Run, or long after others began to wait: see Pace.
	Workers int
	// Now is the clock.
	Now func() time.Time
}

// slice is how long an item may be at work while others wait, before it needs a
// place among the long ones.
const slice = time.Second

// The classes of items that wait. Each is a queue of its own, so that a full one
// does not hold up the others.
const (
	normal   = iota
	timedOut // the last Refresh timed out: these share a quarter of the workers
	long     // had to yield: these start among the long ones
	classes
)

// Queue runs items in the order in which they were added. At most 2 * Workers
// are at work at a time, those of earlier Runs included.
type Queue struct {
	options Options
	ctx     context.Context //nolint:containedctx // the life of the queue, which outlives each Run
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	entries map[string]*entry // that wait, are at work, or were done in this Run
	waiting [classes][]*entry
	added   uint64
	// current is the Run at hand; nil between two of them.
	current *run
	atWork  int // items
	longs   int // of them
}

// run is one call of Run.
type run struct {
	pending   int           // items that it still waits for
	done      chan struct{} // closed when there is none
	workers   int           // busy with items that are not long
	timedOut  int           // of them, with items that timed out
	recovered int           // items that had timed out and now did not
}

// entry is an item in the queue.
type entry struct {
	Item
	order uint64
	class int
	begun time.Time // zero until it is at work
	by    *run      // that began it
	long  bool      // it has one of the long places
	// awaited says whether the Run at hand ends only after it.
	awaited, done bool
}

// NewQueue makes an empty Queue.
func NewQueue(options Options) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	return &Queue{options: options, ctx: ctx, cancel: cancel, entries: make(map[string]*entry)}
}

// Add puts items behind those that wait. One that waits already keeps its place,
// one that is at work is waited for, and one that was done in this Run is left
// alone.
func (q *Queue) Add(items ...Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range items {
		switch e := q.entries[item.Key()]; {
		case e == nil:
			e = &entry{Item: item}
			if item.TimedOut() {
				e.class = timedOut
			}
			q.entries[item.Key()] = e
			q.enqueue(e)
		case !e.begun.IsZero() && !e.done && !e.awaited:
			e.awaited = true
			if q.current != nil {
				q.current.pending++
			}
		}
	}
	q.dispatch()
}

// enqueue puts an entry behind all others. q.mu is held.
func (q *Queue) enqueue(e *entry) {
	q.added++
	e.order, e.begun, e.by, e.long = q.added, time.Time{}, nil, false
	q.waiting[e.class] = append(q.waiting[e.class], e)
	if !e.awaited && q.current != nil {
		q.current.pending++
	}
	e.awaited = true
}

// Retain drops the items that wait and are not to be kept.
func (q *Queue) Retain(keep func(Item) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for class, entries := range q.waiting {
		kept := entries[:0]
		for _, e := range entries {
			if keep(e.Item) {
				kept = append(kept, e)
				continue
			}
			delete(q.entries, e.Key())
			q.settle(e)
		}
		clear(entries[len(kept):])
		q.waiting[class] = kept
	}
}

// Len is how many items wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waits()
}

func (q *Queue) waits() int {
	n := 0
	for _, entries := range q.waiting {
		n += len(entries)
	}
	return n
}

// Run works until nothing is left that waits or was added, or ctx ends. Then what
// is at work goes on, and what waits comes first in the next Run. There is one
// Run at a time.
func (q *Queue) Run(ctx context.Context) {
	q.mu.Lock()
	r := &run{done: make(chan struct{})}
	for _, e := range q.entries {
		if e.awaited {
			r.pending++
		}
	}
	q.current = r
	if r.pending == 0 {
		close(r.done)
	}
	if ctx.Err() == nil {
		q.dispatch()
	}
	q.mu.Unlock()

	select {
	case <-r.done:
	case <-ctx.Done():
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	for key, e := range q.entries {
		switch {
		case e.done:
			delete(q.entries, key)
		case !e.begun.IsZero():
			e.awaited = false
		}
	}
}

// Close ends what is at work and waits for it. Nothing may be added after it.
func (q *Queue) Close() {
	q.cancel()
	q.working.Wait()
}

// dispatch begins what may begin now. q.mu is held.
func (q *Queue) dispatch() {
	for q.current != nil && q.ctx.Err() == nil {
		e := q.next()
		if e == nil {
			return
		}
		q.begin(e)
	}
}

// next takes the entry that has waited longest of those for which there is a
// place; nil if there is none. q.mu is held.
func (q *Queue) next() *entry {
	if q.atWork >= 2*q.options.Workers {
		return nil
	}
	free := [classes]bool{
		normal:   q.current.workers < q.options.Workers,
		timedOut: q.current.workers < q.options.Workers && q.current.timedOut < max(1, q.options.Workers/4)+q.current.recovered,
		long:     q.longs < q.longPlaces(),
	}
	first := -1
	for class, entries := range q.waiting {
		if free[class] && len(entries) > 0 && (first < 0 || entries[0].order < q.waiting[first][0].order) {
			first = class
		}
	}
	if first < 0 {
		return nil
	}
	e := q.waiting[first][0]
	q.waiting[first][0] = nil
	q.waiting[first] = q.waiting[first][1:]
	return e
}

// longPlaces is how many items may be long.
func (q *Queue) longPlaces() int { return max(1, q.options.Workers/2) }

// begin has an entry worked on. q.mu is held.
func (q *Queue) begin(e *entry) {
	e.begun, e.by = q.options.Now(), q.current
	q.atWork++
	switch e.class {
	case long:
		e.long = true
		q.longs++
	case timedOut:
		q.current.timedOut++
		q.current.workers++
	default:
		q.current.workers++
	}
	q.working.Go(func() {
		err := Protect(func() error { return e.Refresh(q.ctx, func() error { return q.pace(e) }) })
		if !errors.Is(err, errYield) {
			e.Done(err)
		}
		q.end(e, err)
	})
}

// pace keeps long work from holding up the rest: an item that goes on after its
// Run, or is at work for long while others wait, needs one of the long places. If
// none is free it has to start over, later and then with such a place.
func (q *Queue) pace(e *entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	others := len(q.waiting[normal])+len(q.waiting[timedOut]) > 0
	if e.long || e.by == q.current && (!others || q.options.Now().Sub(e.begun) < slice) {
		return nil
	}
	if q.longs >= q.longPlaces() {
		return errYield
	}
	q.release(e)
	e.long = true
	q.longs++
	q.dispatch()
	return nil
}

// release gives back the place of an entry. q.mu is held.
func (q *Queue) release(e *entry) {
	switch {
	case e.long:
		q.longs--
	case e.class == timedOut:
		e.by.timedOut--
		e.by.workers--
	default:
		e.by.workers--
	}
}

// end takes note that an entry is at work no more.
func (q *Queue) end(e *entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(e)
	q.atWork--
	switch {
	case errors.Is(err, errYield):
		e.class = long
		q.enqueue(e)
	case q.current != nil && e.awaited:
		e.done = true
		if e.class == timedOut && !e.TimedOut() {
			q.current.recovered++
		}
		q.settle(e)
	default:
		delete(q.entries, e.Key())
	}
	q.dispatch()
}

// settle takes note that the Run at hand need not wait for an entry any more.
// q.mu is held.
func (q *Queue) settle(e *entry) {
	if e.awaited = false; q.current == nil {
		return
	}
	if q.current.pending--; q.current.pending == 0 {
		close(q.current.done)
	}
}

// Counts says whether what was read at that time counts for a scrape for which
// all counts that was read since: at this time or later.
func Counts(read, since time.Time) bool { return !read.IsZero() && !read.Before(since) }

// UnderWayError says that something was not done when its scrape had to answer.
type UnderWayError struct {
	What string
	Err  error // of the scrape's context
}

func (e *UnderWayError) Error() string {
	return e.What + ": no answer came in time; it is still waited for, for the next scrape"
}

func (e *UnderWayError) Unwrap() error { return e.Err }

// Protect makes a panic of work an error.
func Protect(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{value: p, Stack: debug.Stack()}
		}
	}()
	return work()
}

// PanicError is a panic that was caught.
type PanicError struct {
	value any
	Stack []byte // where it was, for the log
}

func (p *PanicError) Error() string { return fmt.Sprintf("bug in ncp_exporter: %v", p.value) }
