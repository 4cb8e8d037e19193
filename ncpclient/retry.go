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

// maxRetryAfter is the longest Retry-After that is waited for: a server that
// asks for more has said no.
const maxRetryAfter = time.Minute

// withRetries calls attempt until it succeeds, fails for good, or has been
// called 1+a.maxRetries times. The error is that of the last attempt.
func (a *api) withRetries(ctx context.Context, c *call, attempt func() error) error {
	var last error
	keysRenewed := false
	try := func() (struct{}, error) {
		err := attempt()
		if err == nil {
			last = nil
			return struct{}{}, nil
		}
		var e *Error
		isAPIError := errors.As(err, &e)
		if last != nil && isAPIError && (e.Reason == ErrTimeout || e.Reason == ErrLimited) && (ctx.Err() != nil || !e.temporary()) {
			// The deadline ended the retry; what it retried says more.
			return struct{}{}, backoff.Permanent(last)
		}
		last = err
		switch {
		case !isAPIError:
			return struct{}{}, backoff.Permanent(err)
		case e.Status == http.StatusUnauthorized && !keysRenewed && a.keysChanged(ctx, c.keys):
			// Somebody rotated the key; the new one deserves a try at once.
			keysRenewed = true
			return struct{}{}, &backoff.RetryAfterError{}
		case !e.temporary():
			return struct{}{}, backoff.Permanent(err)
		case e.RetryAfter > 0:
			wait := e.RetryAfter + rand.N(firstBackoff) //nolint:gosec // no secret hangs on it
			if e.RetryAfter > maxRetryAfter || !fitsDeadline(ctx, wait) {
				return struct{}{}, backoff.Permanent(err)
			}
			return struct{}{}, &backoff.RetryAfterError{Duration: wait}
		default:
			return struct{}{}, err
		}
	}
	_, err := backoff.Retry(ctx, try,
		backoff.WithBackOff(&fullJitter{ctx: ctx, bound: firstBackoff}),
		backoff.WithMaxTries(uint(a.maxRetries)+1),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(error, time.Duration) { a.observer.RequestRetried(a.name, c.operation) }),
	)
	if err == nil {
		return nil
	}
	return last
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
