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
)

const (
	firstBackoff = 200 * time.Millisecond // it doubles with each retry
	maxBackoff   = 5 * time.Second
)

// budget is what a call may still do after a failure.
type budget struct {
	retries int
	backoff time.Duration // bounds the next wait
	redial  bool          // the free retry after a dead connection
	renewal bool          // the retry with new keys
	timeout bool          // a retry after a request that took too long
}

// withRetries calls attempt until it succeeds, fails for good, or has been
// called 1+MaxRetries times. The error is that of the last attempt.
//
// A connection that died in the pool says nothing of NCP, and happens to every
// exporter that scrapes less often than NCP closes idle connections. So one
// retry at once is free of maxRetries, but only for the first such connection:
// noAutoRetry empties the pool, so the retry has a new one.
func (a *api) withRetries(ctx context.Context, c *call, attempt func() *Error) error {
	left := budget{retries: a.cfg.MaxRetries, backoff: firstBackoff, redial: true, renewal: true, timeout: true}
	var last *Error
	for {
		e := attempt()
		if e == nil {
			return nil
		}
		if last != nil && (e.Reason == ErrTimeout || e.Reason == ErrLimited) && (ctx.Err() != nil || !e.temporary()) {
			return last // the deadline ended the retry; what it retried says more
		}
		last = e
		wait, ok := a.nextTry(ctx, c, e, &left)
		if !ok || !fitsDeadline(ctx, wait) {
			return e
		}
		a.cfg.Observer.RequestRetried(a.name, c.operation)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return e
		}
	}
}

// nextTry says how long to wait before a call is sent again, and whether it is.
func (a *api) nextTry(ctx context.Context, c *call, e *Error, left *budget) (wait time.Duration, ok bool) {
	if errors.Is(e, errDeadConnection) && left.redial {
		left.redial = false
		return 0, true
	}
	renewed := e.Status == http.StatusUnauthorized && left.renewal && a.keysChanged(ctx, c.keys)
	switch {
	case left.retries == 0:
		return 0, false
	case renewed:
		// Somebody rotated the key; the new one deserves a try at once.
		left.renewal = false
	case !e.temporary(), e.Reason == ErrTimeout && !left.timeout:
		// What timed out twice is given up: it takes a request in flight from others.
		return 0, false
	case e.RetryAfter > maxRetryAfter:
		return 0, false
	case e.RetryAfter > 0:
		wait = e.RetryAfter + rand.N(firstBackoff) //nolint:gosec // no secret depends on it
	default:
		// Full jitter: requests that failed together do not come back together.
		wait = rand.N(left.backoff) //nolint:gosec // no secret depends on it
		left.backoff = min(2*left.backoff, maxBackoff)
	}
	left.retries--
	left.timeout = left.timeout && e.Reason != ErrTimeout
	return wait, true
}

// keysChanged reads the keys anew after a 401 and says whether they are others
// than those that were refused.
func (a *api) keysChanged(ctx context.Context, refused Keys) bool {
	a.cfg.Credentials.Invalidate(refused)
	keys, err := a.cfg.Credentials.Keys(ctx)
	return err == nil && keys != refused
}

// permanentTransportError tells what no retry fixes: a certificate that cannot
// be trusted, a host that does not exist, a peer that does not speak TLS.
func permanentTransportError(err error) bool {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	return is[*tls.CertificateVerificationError](err) || is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) ||
		is[tls.RecordHeaderError](err) || isDNS && dns.IsNotFound ||
		isOp && (op.Op == "remote error" || op.Op == "local error") // a TLS alert, by crypto/tls
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
