package ncpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// firstBackoff bounds the wait before the first retry; it doubles with each.
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// fullJitter waits a random time between nothing and a bound that doubles, so
// that requests that failed together do not come back together. It stops when
// the wait would end after the deadline.
type fullJitter struct {
	ctx   context.Context //nolint:containedctx // lives for one retried call
	bound time.Duration
}

func (j *fullJitter) Reset() { j.bound = firstBackoff }

func (j *fullJitter) NextBackOff() time.Duration {
	wait := rand.N(j.bound) //nolint:gosec // no secret hangs on it
	j.bound = min(2*j.bound, maxBackoff)
	if !fitsDeadline(j.ctx, wait) {
		return backoff.Stop
	}
	return wait
}

// fitsDeadline says whether something is left of ctx's time after the wait.
func fitsDeadline(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

// withRetries calls attempt until it succeeds, fails for good, or has been
// called 1+a.maxRetries times. The error is that of the last attempt.
//
// A connection that died in the pool says nothing of NCP, and happens to every
// exporter whose scrapes are further apart than NCP's patience with idle
// connections. So one retry at once is free of maxRetries, if only for the
// first such connection: once empties the pool, the retry has a new one.
func (a *api) withRetries(ctx context.Context, c *call, attempt func() error) error {
	var last error
	left := budget{retries: a.maxRetries, redial: true, renewal: true, hang: true}
	try := func() (struct{}, error) {
		err := attempt()
		if err == nil {
			last = nil
			return struct{}{}, nil
		}
		var e *Error
		if !errors.As(err, &e) {
			last = err
			return struct{}{}, backoff.Permanent(err)
		}
		if last != nil && (e.Reason == ErrTimeout || e.Reason == ErrLimited) && (ctx.Err() != nil || !e.temporary()) {
			// The deadline ended the retry; what it retried says more.
			return struct{}{}, backoff.Permanent(last)
		}
		last = err
		return struct{}{}, a.again(ctx, c, e, &left)
	}
	_, err := backoff.Retry(ctx, try,
		backoff.WithBackOff(&fullJitter{ctx: ctx, bound: firstBackoff}),
		backoff.WithMaxTries(0), // the budget counts
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(error, time.Duration) { a.observer.RequestRetried(a.name, c.operation) }),
	)
	if err == nil {
		return nil
	}
	return last
}

// budget is what a call may still do after a failure.
type budget struct {
	retries int
	redial  bool // the free retry after a dead connection
	renewal bool // the retry with new keys
	hang    bool // a retry after a request that took too long
}

// again says what becomes of a call after a failure, in the retry library's
// terms.
func (a *api) again(ctx context.Context, c *call, e *Error, left *budget) error {
	var dead *deadConnectionError
	var how error = e // after the backoff
	switch {
	case errors.As(e, &dead) && left.redial:
		left.redial = false
		return &backoff.RetryAfterError{}
	case e.Status == http.StatusUnauthorized && left.renewal && a.keysChanged(ctx, c.keys):
		// Somebody rotated the key; the new one deserves a try at once.
		left.renewal = false
		how = &backoff.RetryAfterError{}
	case !e.temporary(), e.Reason == ErrTimeout && !left.hang:
		// What hung twice is given up: it keeps a place from others all the time.
		return backoff.Permanent(e)
	case e.RetryAfter > 0:
		wait := e.RetryAfter + rand.N(firstBackoff) //nolint:gosec // no secret hangs on it
		if e.RetryAfter > patience || !fitsDeadline(ctx, wait) {
			return backoff.Permanent(e)
		}
		how = &backoff.RetryAfterError{Duration: wait}
	}
	if left.retries == 0 {
		return backoff.Permanent(e)
	}
	left.retries--
	left.hang = left.hang && e.Reason != ErrTimeout
	return how
}

// keysChanged reads the keys anew after a 401 and says whether they are others
// than those that were refused.
func (a *api) keysChanged(ctx context.Context, refused Keys) bool {
	a.credentials.Invalidate(refused)
	keys, err := a.credentials.Keys(ctx)
	return err == nil && keys != refused
}

// permanentTransportError tells what no retry mends: a certificate that cannot
// be trusted, a host that does not exist, a peer that does not speak TLS.
func permanentTransportError(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		record       tls.RecordHeaderError
		dns          *net.DNSError
		op           *net.OpError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &record) || errors.As(err, &dns) && dns.IsNotFound ||
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") // a TLS alert, by crypto/tls
}
