package collector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ncp_exporter/collector/refresh"
)

// poll is embedded by collectors that ask NCP for the same list at each Update, and
// show it. The question is the only item of a queue, so that it continues if
// an Update ends before its answer comes.
type poll[T any] struct {
	name string
	rows string // what the list has, for the log
	// ask gives the answer; nil if there is none. If it gives an answer and an error,
	// the error says what is missing in the answer.
	ask   func(context.Context) (*[]T, error)
	now   func() time.Time
	queue *refresh.Queue

	mu     sync.Mutex
	since  time.Time // answers from this time on count for the last Update
	answer *[]T      // the last one; nil if NCP gave none
	err    error
	readAt time.Time // when answer or err came
}

func newPoll[T any](name string, now func() time.Time, ask func(context.Context) (*[]T, error), rows string) *poll[T] {
	return &poll[T]{name: name, rows: rows, ask: ask, now: now, queue: refresh.NewQueue(refresh.Options{Workers: 1, Now: now})}
}

// Name is the value of the label collector.
func (p *poll[T]) Name() string { return p.name }

// Update asks NCP.
func (p *poll[T]) Update(ctx context.Context, since time.Time) error {
	p.mu.Lock()
	p.since = since
	p.mu.Unlock()
	p.queue.Add(&question[T]{poll: p})
	p.queue.Run(ctx)
	p.queue.Retain(func(refresh.Item) bool { return false }) // the next Update adds a new question
	p.mu.Lock()
	defer p.mu.Unlock()
	if !refresh.Counts(p.readAt, since) {
		return &refresh.UnderWayError{What: p.name + ": NCP", Err: ctx.Err()}
	}
	return p.err
}

// latest gives the answer that counts for the last Update; nil if there is none.
func (p *poll[T]) latest() *[]T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !refresh.Counts(p.readAt, p.since) {
		return nil
	}
	return p.answer
}

// Came gives the number of rows of the list, for the log.
func (p *poll[T]) Came() []any {
	if list := p.latest(); list != nil {
		return []any{p.rows, len(*list)}
	}
	return nil
}

// Close ends a question that continues.
func (p *poll[T]) Close() { p.queue.Close() }

// question is the item that asks NCP once.
type question[T any] struct {
	poll   *poll[T]
	answer *[]T
}

// Key is the name of the collector.
func (q *question[T]) Key() string { return q.poll.name }

// TimedOut is false: the queue has no other items that it could hold up.
func (*question[T]) TimedOut() bool { return false }

// Refresh asks.
func (q *question[T]) Refresh(ctx context.Context, _ refresh.Pace) (err error) {
	q.answer, err = q.poll.ask(ctx)
	return err
}

// Done keeps the answer.
func (q *question[T]) Done(err error) {
	p := q.poll
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.err, p.readAt = q.answer, err, p.now()
}

// usable gives the rows that have an id. The error says how many have none. If no row
// has an id, the result is nil; a list that is empty gives an empty result.
func usable[T any](rows []T, what string, id func(T) string) ([]T, error) {
	result := make([]T, 0, len(rows))
	for _, row := range rows {
		if id(row) != "" {
			result = append(result, row)
		}
	}
	switch unnamed := len(rows) - len(result); {
	case unnamed > 0 && len(result) == 0:
		// An empty answer would look as if there was nothing to show.
		return nil, fmt.Errorf("none of the %d %s that NCP lists has a usable id", len(rows), what)
	case unnamed > 0:
		return result, fmt.Errorf("%d of the %d %s that NCP lists have no usable id and are not shown", unnamed, len(rows), what)
	}
	return result, nil
}

// distinct gives the first row of each id, without the others.
func distinct[T any](rows []T, id func(T) string) []T {
	seen := make(map[string]bool, len(rows))
	return slices.DeleteFunc(rows, func(row T) bool {
		repeated := seen[id(row)]
		seen[id(row)] = true
		return repeated
	})
}
