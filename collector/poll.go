package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// poll is what collectors have in common that ask NCP the same at each Update
// and show the answer. It goes on with what an Update had no time for.
type poll[T any] struct {
	*background
	name string
	// ask gives the answer, nil if there is none. An error beside an answer says
	// what is missing in it.
	ask func(context.Context) (*T, error)
	now func() time.Time

	mu     sync.Mutex
	answer *T // nil while there is none
	readAt time.Time
}

func newPoll[T any](name string, now func() time.Time, ask func(context.Context) (*T, error)) *poll[T] {
	return &poll[T]{background: newBackground(), name: name, ask: ask, now: now}
}

// Name is the value of the label collector.
func (p *poll[T]) Name() string { return p.name }

// Update asks NCP.
func (p *poll[T]) Update(ctx context.Context, since time.Time) error {
	carried := p.readSince(since)
	err := p.do(ctx, p.name, p.read)
	var underWay *underWayError
	if carried && errors.As(err, &underWay) {
		return nil
	}
	return err
}

// readSince says whether an answer came after that time. An older one is
// forgotten.
func (p *poll[T]) readSince(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.readAt.After(since) {
		p.answer = nil
	}
	return p.answer != nil
}

func (p *poll[T]) read(ctx context.Context) error {
	answer, err := p.ask(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.readAt = answer, p.now()
	return err
}

// latest is the answer that the last Update read, or found to be read; nil if
// there is none.
func (p *poll[T]) latest() *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answer
}

// Close ends what goes on.
func (p *poll[T]) Close() { p.close() }

// usable gives the rows that have an id, each id once. Without an answer, which is
// nil, or with fewer rows than NCP lists, the error says so.
func usable[T any](rows []T, what string, id func(T) string) ([]T, error) {
	seen, nameless := make(map[string]bool, len(rows)), 0
	result := slices.DeleteFunc(slices.Clone(rows), func(row T) bool {
		switch i := id(row); {
		case i == "":
			nameless++
			return true
		case seen[i]:
			return true
		default:
			seen[i] = true
			return false
		}
	})
	switch {
	case nameless > 0 && len(result) == 0:
		// To take this for an answer would say that all is well.
		return nil, fmt.Errorf("none of the %d %s that NCP lists has a usable id", len(rows), what)
	case nameless > 0:
		return result, fmt.Errorf("%d of the %d %s that NCP lists have no usable id and are not shown", nameless, len(rows), what)
	case result == nil:
		result = []T{}
	}
	return result, nil
}
