package ncpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	const retriesLeft = 3
	for name, tt := range map[string]struct {
		fault   http.Handler
		reason  Reason
		retried bool
	}{
		"429 quota":             {ncptest.GatewayError(429, "400", "Quota Exceeded"), ErrRateLimited, true},
		"429 throttled":         {ncptest.Throttled(""), ErrRateLimited, true},
		"429 empty":             {ncptest.EmptyBody(429), ErrRateLimited, true},
		"500":                   {ncptest.GatewayError(500, "900", "Unexpected Error"), ErrServer, true},
		"502 HTML":              {ncptest.HTMLPage(502), ErrServer, true},
		"503":                   {ncptest.GatewayError(503, "500", "Endpoint Error"), ErrServer, true},
		"504":                   {ncptest.GatewayError(504, "510", "Endpoint Timeout"), ErrServer, true},
		"connection closed":     {ncptest.Reset(), ErrUnreachable, true},
		"body cut short":        {ncptest.CutShort(), ErrUnreachable, true},
		"body cut clean":        {ncptest.CutClean(), ErrMalformedAnswer, true},
		"200 empty":             {ncptest.EmptyBody(200), ErrMalformedAnswer, true},
		"no answer":             {ncptest.Hang(), ErrTimeout, true},
		"a body without an end": {ncptest.Drip(), ErrTimeout, true},

		"301":                {ncptest.EmptyBody(301), ErrRedirected, false},
		"400":                {ncptest.ReturnCode(400, "2100", "Invalid"), ErrBadRequest, false},
		"401":                {ncptest.GatewayError(401, "200", "Authentication Failed"), ErrKey, false},
		"401 permission":     {ncptest.GatewayError(401, "210", "Permission Denied"), ErrPermission, false},
		"403":                {ncptest.EmptyForbidden(), ErrMainAccountKey, false},
		"404":                {ncptest.GatewayError(404, "300", "Not Found"), ErrNotFound, false},
		"408":                {ncptest.EmptyBody(408), ErrBadRequest, false},
		"413":                {ncptest.GatewayError(413, "430", "Too Large"), ErrBadRequest, false},
		"200 not JSON":       {ncptest.NotJSON(), ErrMalformedAnswer, false},
		"200 HTML":           {ncptest.HTMLPage(200), ErrMalformedAnswer, false},
		"200 and returnCode": {ncptest.ReturnCode(200, "9999", "Internal error"), ErrRefused, false},
		"200 no returnCode":  {ncptest.NoReturnCode(), ErrMalformedAnswer, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{})
				var w watcher
				api := certificateManagerAt(t, bubbleURL, through(transport), retries(retriesLeft), observed(&w))
				limit := retriesLeft
				if tt.reason == ErrTimeout {
					// What hung twice is given up: it takes the time of the scrape, and a
					// place from the others.
					limit = 1
				}
				want := 1
				if tt.retried {
					want = 1 + limit
				}
				sim.SetFault(ncptest.Always(tt.fault))
				wantReason(t, changesOf(t, api), tt.reason)
				done, retried := w.seen()
				if sim.Count(ncptest.RecentChanges) != want || len(done) != want || retried != want-1 {
					t.Errorf("%d requests, %d observed, %d retries; want %d requests", sim.Count(ncptest.RecentChanges), len(done), retried, want)
				}
				// The last try is enough.
				sim.ResetStats()
				sim.SetFault(ncptest.Times(limit, ncptest.Always(tt.fault)))
				if err := changesOf(t, api); tt.retried && (err != nil || sim.Count(ncptest.RecentChanges) != 1+limit) {
					t.Errorf("%d requests, %v", sim.Count(ncptest.RecentChanges), err)
				}
			})
		})
	}
}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	opError := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, tt := range map[string]struct {
		err     error
		retried bool
	}{
		"refused":               {opError(syscall.ECONNREFUSED), true},
		"reset":                 {opError(syscall.ECONNRESET), true},
		"DNS does not answer":   {opError(&net.DNSError{Err: "server misbehaving", Name: "h", IsTemporary: true}), true},
		"unknown host":          {opError(&net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}), false},
		"certificate":           {&tls.CertificateVerificationError{Err: errors.New("expired")}, false},
		"unknown authority":     {fmt.Errorf("x: %w", x509.UnknownAuthorityError{}), false},
		"another host's":        {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, false},
		"no TLS at all":         {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, false},
		"refused by a TLS peer": {&net.OpError{Op: "remote error", Err: tls.AlertError(70)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w watcher
				broken := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, tt.err })
				err := changesOf(t, certificateManagerAt(t, bubbleURL, through(broken), retries(2), observed(&w)))
				wantReason(t, err, ErrUnreachable)
				want := 1
				if tt.retried {
					want = 3
				}
				if done, _ := w.seen(); len(done) != want || done[0].Status != 0 {
					t.Errorf("%d requests, want %d: %+v", len(done), want, done)
				}
			})
		})
	}
}

func TestNoRetries(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	sim.SetFault(ncptest.Always(ncptest.EmptyBody(503)))
	wantReason(t, changesOf(t, certificateManagerAt(t, sim.URL(), retries(0))), ErrServer)
	if sim.Count(ncptest.RecentChanges) != 1 {
		t.Errorf("%d requests", sim.Count(ncptest.RecentChanges))
	}
}

func TestResetOnTheWire(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	sim.SetFault(ncptest.Times(1, ncptest.Always(ncptest.Reset())))
	if err := changesOf(t, certificateManagerAt(t, sim.URL(), retries(1))); err != nil {
		t.Error(err)
	}
}

// gaps are the waits between the requests of one call that fails each time.
func gaps(ctx context.Context, t *testing.T, n int, status int, headers ...string) ([]time.Duration, error) {
	t.Helper()
	var at []time.Time
	failing := roundTripFunc(func(r *http.Request) (*http.Response, error) {
		at = append(at, time.Now())
		return answer(r, status, "", headers...), nil
	})
	_, err := certificateManagerAt(t, bubbleURL, through(failing), retries(n)).RecentChanges(ctx, time.Hour)
	var waits []time.Duration
	for i := 1; i < len(at); i++ {
		waits = append(waits, at[i].Sub(at[i-1]))
	}
	return waits, err
}

func TestBackoffIsFullJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tries = 8
		var low, high [tries]bool // waits in the lowest and the highest quarter
		for range 200 {
			waits, err := gaps(t.Context(), t, tries, 503)
			wantReason(t, err, ErrServer)
			if len(waits) != tries {
				t.Fatalf("%d retries, want %d", len(waits), tries)
			}
			bound := 200 * time.Millisecond
			for i, wait := range waits {
				if wait < 0 || wait >= bound {
					t.Fatalf("retry %d after %s, not within %s", i+1, wait, bound)
				}
				low[i] = low[i] || wait < bound/4
				high[i] = high[i] || wait > bound-bound/4
				bound = min(2*bound, 5*time.Second)
			}
		}
		for i := range tries {
			if !low[i] || !high[i] {
				t.Errorf("retry %d: the waits do not fill their bound", i+1)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header func(now time.Time) string
		want   time.Duration // 0: the ordinary backoff
	}{
		"seconds":            {func(time.Time) string { return "7" }, 7 * time.Second},
		"blanks":             {func(time.Time) string { return " 7 " }, 7 * time.Second},
		"all that is waited": {func(time.Time) string { return "10" }, 10 * time.Second},
		"date":               {func(now time.Time) string { return now.Add(9 * time.Second).Format(http.TimeFormat) }, 9 * time.Second},
		"date gone by":       {func(now time.Time) string { return now.Add(-time.Hour).Format(http.TimeFormat) }, 0},
		"now":                {func(time.Time) string { return "0" }, 0},
		"negative":           {func(time.Time) string { return "-5" }, 0},
		"neither":            {func(time.Time) string { return "soon" }, 0},
		"fraction":           {func(time.Time) string { return "1.5" }, 0},
		"more than a number": {func(time.Time) string { return "99999999999999999999" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				// The date counts from the server's clock, not from ours.
				server := time.Now().Add(3 * time.Minute).UTC()
				for _, status := range []int{429, 503} {
					waits, err := gaps(t.Context(), t, 1, status, "Retry-After", tt.header(server), "Date", server.Format(http.TimeFormat))
					if err == nil || len(waits) != 1 {
						t.Fatalf("waits %v, %v", waits, err)
					}
					if waits[0] < tt.want || waits[0] >= tt.want+firstBackoff {
						t.Errorf("%d: waited %s, want %s and up to %s more", status, waits[0], tt.want, firstBackoff)
					}
					if e := asError(t, err); e.RetryAfter != tt.want {
						t.Errorf("RetryAfter %s, want %s", e.RetryAfter, tt.want)
					}
				}
			})
		})
	}
}

// A wait that cannot end in time is not begun: the caller has its answer at
// once.
func TestRetryEndsBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		retryAfter string
		deadline   time.Duration
		requests   int
	}{
		"Retry-After past the deadline": {"10", 9 * time.Second, 1},
		"Retry-After at the deadline":   {"9", 9 * time.Second, 1},
		"Retry-After before it":         {"4", 9 * time.Second, 3},
		"longer than is ever waited":    {"11", time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				start := time.Now()
				waits, err := gaps(ctx, t, 5, 429, "Retry-After", tt.retryAfter)
				wantReason(t, err, ErrRateLimited)
				var waited time.Duration
				for _, w := range waits {
					waited += w
				}
				if len(waits) != tt.requests-1 || time.Since(start) != waited || ctx.Err() != nil {
					t.Errorf("%d requests, want %d; %s passed, of which %s between requests", len(waits)+1, tt.requests, time.Since(start), waited)
				}
			})
		})
	}
}

func TestBackoffEndsBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			waits, err := gaps(ctx, t, 1000, 500)
			wantReason(t, err, ErrServer)
			if len(waits) == 0 || ctx.Err() != nil {
				t.Errorf("%d retries, %v", len(waits), ctx.Err())
			}
			cancel()
		}
	})
}

// When the deadline ends a retry, the error is what was retried.
func TestDeadlineLeavesTheErrorThatWasRetried(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]float64{"in flight": 0, "waiting for the rate": 0.01} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{})
				sim.SetFault(func(r ncptest.Request) http.Handler {
					if r.N == 1 {
						return ncptest.GatewayError(503, "500", "Endpoint Error")
					}
					return ncptest.Hang()
				})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), func(c *Config) { c.RateLimit, c.MaxConcurrency = limit, 1 })
				_, err := api.RecentChanges(ctx, time.Hour)
				if e := wantReason(t, err, ErrServer); e.Status != 503 {
					t.Error(err)
				}
			})
		})
	}
}

func TestCancelEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := gaps(ctx, t, 3, 429, "Retry-After", "9")
		if wantReason(t, err, ErrRateLimited); time.Since(start) != time.Second {
			t.Errorf("ended after %s", time.Since(start))
		}
	})
}
