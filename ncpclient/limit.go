package ncpclient

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxRetryAfter is the longest wait that NCP can impose on a request with a
	// Retry-After: beyond it the request fails, so that its caller knows.
	maxRetryAfter = 10 * time.Second
	// maxPause is how long one Retry-After pauses all requests of an API. If the
	// header asks for more, perhaps for days by mistake, one request a minute finds
	// out whether it still does.
	maxPause = time.Minute
)

// limit keeps the requests of an API within its concurrency and its rate, and
// within what NCP asks for when it answers 429 (throttled).
//
// A 429 lowers the rate, once for all requests that were sent before it came, and
// empties the bucket; pace says how it climbs again.
//
// A request waits first for room among those in flight and then for its token, so
// that tokens cannot pile up behind slow answers and then go out in one burst.
// Tokens are taken one by one, at the moment of sending and not in advance: a rate
// that falls or a pause that begins then holds for requests that already wait.
type limit struct {
	next       http.RoundTripper
	now        func() time.Time
	crowd      *Crowd
	ownPlaces  chan struct{} // holds an element for each request that needs no place of the crowd
	inFlight   chan struct{} // holds an element for each request in flight, and each that waits for its token
	tokenQueue chan struct{} // holds an element while a request waits for the next token

	mu      sync.Mutex
	pace    pace
	bucket  *rate.Limiter
	waiting int       // for a token
	cuts    int       // how often the rate was cut
	until   time.Time // no request is sent before
	asked   time.Duration
	paused  chan struct{} // closed when until moves
}

func newLimit(next http.RoundTripper, cfg Config) *limit {
	l := &limit{
		next:       next,
		crowd:      cfg.Crowd,
		ownPlaces:  make(chan struct{}, ownPlaces),
		now:        cfg.Now,
		pace:       newPace(cfg.RateLimit),
		inFlight:   make(chan struct{}, cfg.MaxConcurrency),
		tokenQueue: make(chan struct{}, 1),
		bucket:     rate.NewLimiter(rate.Inf, cfg.MaxConcurrency),
		paused:     make(chan struct{}),
	}
	if cfg.RateLimit > 0 {
		l.bucket = rate.NewLimiter(rate.Limit(cfg.RateLimit), cfg.MaxConcurrency)
	}
	return l
}

func (l *limit) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := l.enter(ctx, l.inFlight, "a place among the requests in flight"); err != nil {
		return nil, &limitError{err}
	}
	cuts, leave, err := l.takeToken(ctx)
	if err != nil {
		<-l.inFlight
		return nil, &limitError{err}
	}
	release := func() {
		leave()
		<-l.inFlight
	}
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		release()
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		l.throttled(retryAfter(resp), cuts)
	}
	resp.Body = &hookedBody{ReadCloser: resp.Body, closed: func(error) { release() }}
	return resp, nil
}

// enter waits until there is room in ch, if no pause makes that pointless.
func (l *limit) enter(ctx context.Context, ch chan struct{}, what string) error {
	for {
		l.mu.Lock()
		_, err := l.pause(ctx)
		moved := l.paused
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case err != nil:
			return err
		}
		select {
		case ch <- struct{}{}:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-moved:
		}
	}
}

// takeToken waits for a token of the rate, and says how often the rate had been
// cut when the token came. leave gives back the place in the crowd, which comes before
// the token, so that no token gets old.
func (l *limit) takeToken(ctx context.Context) (cuts int, leave func(), err error) {
	if err := l.queue(ctx); err != nil {
		return 0, nil, err
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting--
	}()
	if err := l.enter(ctx, l.tokenQueue, theRate); err != nil {
		return 0, nil, err
	}
	defer func() { <-l.tokenQueue }()
	leave, err = l.crowd.enter(ctx, l.ownPlaces)
	if err != nil {
		return 0, nil, err
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	for {
		wait, cuts, moved, err := l.try(ctx)
		if err != nil || wait == 0 {
			return cuts, leave, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-moved:
		case <-ctx.Done():
			err = fmt.Errorf("waiting for %s: %w", theRate, ctx.Err())
		}
		timer.Stop()
		if err != nil {
			return 0, leave, err
		}
	}
}

const theRate = "the rate limit"

// queue counts a request among those that wait for a token. It fails at once if
// the request's time is over before a token can be there, even at the full rate.
func (l *limit) queue(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ahead := float64(l.waiting) - l.bucket.TokensAt(l.now())
	if wait := seconds((ahead + 1) / l.pace.configured); wait > 0 && !fitsDeadline(ctx, wait) {
		return fmt.Errorf("waiting for %s: %w", theRate, context.DeadlineExceeded)
	}
	l.waiting++
	return nil
}

// try takes a token if there is one, and says how long to wait if not. A wait
// that cannot end in time is an error.
func (l *limit) try(ctx context.Context) (wait time.Duration, cuts int, moved <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait, err = l.pause(ctx); err != nil || wait > 0 {
		return wait, 0, l.paused, err
	}
	now := l.now()
	perSecond := l.pace.at(now)
	if !math.IsInf(perSecond, 1) {
		l.bucket.SetLimitAt(now, rate.Limit(perSecond))
	}
	if l.bucket.AllowN(now, 1) {
		l.pace.note(now)
		return 0, l.cuts, nil, nil
	}
	wait = max(1, seconds((1-l.bucket.TokensAt(now))/perSecond))
	if !fitsDeadline(ctx, wait) {
		return 0, 0, nil, fmt.Errorf("waiting for %s: %w", theRate, context.DeadlineExceeded)
	}
	return wait, 0, l.paused, nil
}

// seconds is a duration of s seconds, rounded up: a timer that fires a
// nanosecond too early means a second wait.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(min(s, math.MaxInt32) * float64(time.Second)))
}

// pause is how long NCP's last Retry-After still holds all requests up. It is
// an error if ctx ends before that, or if it is longer than maxRetryAfter.
// l.mu is held.
func (l *limit) pause(ctx context.Context) (time.Duration, error) {
	wait := max(0, l.until.Sub(l.now()))
	if wait > maxRetryAfter || wait > 0 && !fitsDeadline(ctx, wait) {
		return 0, fmt.Errorf("NCP answered 429 and asked for no requests for %s: none is sent before %s",
			l.asked, l.until.UTC().Format(time.RFC3339))
	}
	return wait, nil
}

// throttled lowers the rate after a 429. cuts is how often the rate had been cut
// when that request was sent.
func (l *limit) throttled(retryAfter time.Duration, cuts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if until := now.Add(min(retryAfter, maxPause)); until.After(l.until) && retryAfter > 0 {
		l.until, l.asked = until, retryAfter
		close(l.paused)
		l.paused = make(chan struct{})
	}
	if math.IsInf(l.pace.configured, 1) {
		return
	}
	begin := now // neither the rate nor the bucket grows during a pause
	if l.until.After(now) {
		begin = l.until
	}
	if cuts == l.cuts && l.pace.at(now) > l.pace.floor() {
		l.pace.fall(now, begin)
		l.cuts++
		l.emptyBucket()
		return
	}
	l.pace.rest(now, begin)
	l.bucket.SetLimitAt(begin, rate.Limit(l.pace.low))
}

// takeOver goes on where the limit of an earlier client of the same API is: with its
// pause, and with its rate if that is lowered. Nothing was sent through l before.
func (l *limit) takeOver(from *limit) {
	from.mu.Lock()
	now := from.now()
	earlier, until, asked := from.pace, from.until, from.asked
	from.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.asked = until, asked
	if l.pace.takeOver(earlier, now) {
		l.emptyBucket()
	}
}

// emptyBucket takes what has gathered, and fills at the lowered rate from then on.
// l.mu is held.
func (l *limit) emptyBucket() {
	at := l.pace.lowAt
	l.bucket.AllowN(at, int(l.bucket.TokensAt(at)))
	l.bucket.SetLimitAt(at, rate.Limit(l.pace.low))
}

// inForce is the rate in force now, in requests a second; +Inf if there is no
// limit.
func (l *limit) inForce() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pace.at(l.now())
}

// fitsDeadline says whether something is left of ctx's time after the wait.
func fitsDeadline(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

// limitError marks a request that was never sent.
type limitError struct{ err error }

func (e *limitError) Error() string { return e.err.Error() }
func (e *limitError) Unwrap() error { return e.err }
