// Package refresh runs work that may take longer than the scrape that asks for it.
// Work that is not done when its scrape ends continues, and serves the next scrape.
//
// The package knows neither NCP nor metrics.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Item is a piece of work. Two items with the same key are the same work.
type Item interface {
	Key() string
	// Refresh does the work. It returns soon after ctx ends. Work with several steps
	// calls pace before each step but the first; if pace returns an error, Refresh
	// stops and returns an error that wraps it.
	Refresh(ctx context.Context, pace Pace) error
	// Done gets the error of Refresh, nil if it succeeded. A panic is a *PanicError; one
	// of Done itself is given to Done in a second call.
	// It is not called if pace stopped the work: that starts over.
	Done(err error)
	// TimedOut says whether the last Refresh failed because no answer came in time.
	TimedOut() bool
}

// Pace says whether an item may do its next step. An error means that it may not.
type Pace func() error

// errYield stops long work that must let other items go first. It starts over later.
var errYield = errors.New("others go first")

// Options are the limits of a Queue.
type Options struct {
	// Workers is how many items a Run works on at the same time. Half as many more
	// may be long: they continue after their Run, or for long while others wait.
	Workers int
	// Now is the clock.
	Now func() time.Time
}

// slice is how long an item may be worked on while others wait. After that it counts
// as long.
const slice = time.Second

// The classes of waiting items. Each class has its own queue: if there is no place for
// the first item of one class, items of the other classes can still start.
const (
	normal   = iota
	timedOut // the last Refresh timed out; these items share a quarter of the workers
	long     // stopped by errYield; these items need one of the places for long items
	classes
)

// Queue works on items in the order in which they were added. It works on at most
// 2 * Workers items at the same time, those of earlier Runs included.
type Queue struct {
	options Options
	ctx     context.Context //nolint:containedctx // ends with the queue: work outlives the Run that began it
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	entries map[string]*entry // by key: waiting, worked on, or done in the current Run
	waiting [classes][]*entry
	added   uint64 // counts enqueued entries, for their order
	current *run   // nil between two Runs
	atWork  int    // how many items are worked on
	longs   int    // how many of them are long
}

// run is one call of Run.
type run struct {
	pending   int           // items that Run still waits for
	done      chan struct{} // closed when pending reaches 0
	workers   int           // that work on items that are not long
	timedOut  int           // of these workers: those with an item that timed out last time
	recovered int           // items that timed out last time, but not in this Run
}

// entry is an item in the queue.
type entry struct {
	Item
	order uint64
	class int
	begun time.Time // when the work began; zero while it waits
	by    *run      // the Run that began the work
	long  bool      // it has one of the places for long items
	// awaited says whether the current Run, or else the next one, waits for it.
	awaited bool
	done    bool // in the current Run
}

// NewQueue makes an empty Queue.
func NewQueue(options Options) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	return &Queue{options: options, ctx: ctx, cancel: cancel, entries: make(map[string]*entry)}
}

// Add puts items at the end of the queue. An item that is there already is not added
// again: if it waits, it keeps its place; if it is worked on, Run waits for it; if it
// was done in this Run, nothing happens.
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

// enqueue puts an entry at the end of the queue of its class. q.mu is held.
func (q *Queue) enqueue(e *entry) {
	q.added++
	e.order, e.begun, e.by, e.long = q.added, time.Time{}, nil, false
	q.waiting[e.class] = append(q.waiting[e.class], e)
	if !e.awaited && q.current != nil {
		q.current.pending++
	}
	e.awaited = true
}

// Retain drops waiting items for which keep is false. Work that began continues.
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

// Len gives the number of waiting items.
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

// Run works on the items until none is left, or until ctx ends. When ctx ends, work
// that began continues, and items that still wait come first in the next Run. There
// may be one Run at a time.
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

// Close cancels all work and waits for its end. Nothing may be added after it.
func (q *Queue) Close() {
	q.cancel()
	q.working.Wait()
}

// dispatch begins the work on all items that may begin now. q.mu is held.
func (q *Queue) dispatch() {
	for q.current != nil && q.ctx.Err() == nil {
		e := q.next()
		if e == nil {
			return
		}
		q.begin(e)
	}
}

// next takes the entry out of the queue that was added first, of the classes that have
// a free place; nil if there is none. q.mu is held.
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

// longPlaces gives how many items may be long at the same time.
func (q *Queue) longPlaces() int { return max(1, q.options.Workers/2) }

// begin starts the work on an entry. q.mu is held.
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
			if bug := Protect(func() error { e.Done(err); return nil }); bug != nil {
				_ = Protect(func() error { e.Done(bug); return nil }) // nobody else can be told
			}
		}
		q.end(e, err)
	})
}

// pace keeps long work from holding up the other items. An item is long when it
// continues after its Run, or when it is worked on for longer than slice while others
// wait. It then needs one of the places for long items. If none is free, it stops, and
// starts over when there is one.
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

// release frees the place of an entry. q.mu is held.
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

// end records that the work on an entry ended.
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

// settle records that the current Run need not wait for an entry any more. q.mu is
// held.
func (q *Queue) settle(e *entry) {
	if e.awaited = false; q.current == nil {
		return
	}
	if q.current.pending--; q.current.pending == 0 {
		close(q.current.done)
	}
}

// Counts says whether a read that ended at this time counts for a scrape, for which
// everything counts that was read at since or later. Nothing that was never read (zero
// time) counts.
func Counts(read, since time.Time) bool { return !read.IsZero() && !read.Before(since) }

// UnderWayError says that work was not done when its scrape had to answer.
type UnderWayError struct {
	What string // is being read
	Err  error  // of the scrape's context
}

func (e *UnderWayError) Error() string {
	return e.What + " did not answer in time; it is still waited for, for the next scrape"
}

func (e *UnderWayError) Unwrap() error { return e.Err }

// Protect runs work, and turns a panic into a *PanicError.
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
	Stack []byte // of the goroutine that panicked, for the log
}

func (p *PanicError) Error() string { return fmt.Sprintf("bug in ncp_exporter: %v", p.value) }
