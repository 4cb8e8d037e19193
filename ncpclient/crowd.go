package ncpclient

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// ownPlaces is how many requests of an API are in flight whatever others do.
	ownPlaces = 2
	// maxWait is how long a request waits for a place in a crowd, and how long it keeps
	// it: accounts whose NCP hangs hold nobody else up for longer.
	maxWait = time.Second
)

// Crowd bounds what many accounts have in flight together when they are all scraped
// at the same instant: each request in flight takes a connection with its buffers. An
// API of an account has two requests in flight in any case; for more it takes places
// of the crowd. One that waits too long goes on without.
type Crowd struct{ places chan struct{} }

// NewCrowd makes a Crowd with so many places.
func NewCrowd(places int) *Crowd { return &Crowd{make(chan struct{}, places)} }

// enter waits for one of the API's own places, or for one of the crowd. leave gives it
// back. An error says that ctx ended.
func (c *Crowd) enter(ctx context.Context, own chan struct{}) (leave func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	select {
	case own <- struct{}{}:
		return func() { <-own }, nil
	default:
	}
	tooLong := time.NewTimer(maxWait)
	defer tooLong.Stop()
	select {
	case own <- struct{}{}:
		return func() { <-own }, nil
	case c.places <- struct{}{}:
		once := sync.OnceFunc(func() { <-c.places })
		kept := time.AfterFunc(maxWait, once)
		return func() { kept.Stop(); once() }, nil
	case <-tooLong.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the requests of other accounts: %w", ctx.Err())
	}
}
