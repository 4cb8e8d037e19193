package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// wantWithinRate says that no window of any length, from any request to any
// later one, held more than burst + rate*length of them.
func wantWithinRate(t *testing.T, requests []ncptest.Request, burst int, perSecond float64) {
	t.Helper()
	for i, first := range requests {
		for j := i; j < len(requests); j++ {
			window := requests[j].Time.Sub(first.Time)
			// The bucket counts in whole nanoseconds.
			if most := float64(burst) + perSecond*(window+time.Microsecond).Seconds(); float64(j-i+1) > most {
				t.Fatalf("requests %d to %d within %s: more than %.1f", i+1, j+1, window, most)
			}
		}
	}
}

// What the limits promise, measured at the server while everything goes wrong:
// failures, resets on new and on pooled connections, throttling with and
// without a Retry-After, callers that give up, and bursts after silence.
func TestLimitsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				draw := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret hangs on it
				// A server needs a moment to notice that a caller has given up, in
				// which the place is another's already.
				patient := seed%2 == 0
				concurrency, perSecond := 1+draw.IntN(8), 1+40*draw.Float64()
				sim, transport := bubbled(t, ncptest.Config{Latency: time.Duration(draw.IntN(300)) * time.Millisecond})
				w := tap(transport)
				sim.SetFault(ncptest.OneIn(3, seed,
					ncptest.EmptyBody(503), ncptest.Throttled(""), ncptest.Throttled("2"), ncptest.Reset(), ncptest.CutShort(), ncptest.HTMLPage(502)))
				var seen watcher
				api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), observed(&seen), func(c *Config) {
					c.MaxConcurrency, c.RateLimit = concurrency, perSecond
				})
				var wg sync.WaitGroup
				for caller := range uint64(30) {
					wg.Go(func() {
						draw := rand.New(rand.NewPCG(seed, 2+caller)) //nolint:gosec // as above
						for range 6 {
							time.Sleep(time.Duration(draw.IntN(2000)) * time.Millisecond)
							if draw.IntN(20) == 0 {
								time.Sleep(30 * time.Second) // the bucket fills
							}
							deadline := time.Hour
							if !patient {
								deadline = time.Duration(draw.IntN(20_000)) * time.Millisecond
							}
							ctx, cancel := context.WithTimeout(t.Context(), deadline)
							_, err := api.RecentChanges(ctx, time.Hour)
							cancel()
							if e := (*Error)(nil); err != nil && !errors.As(err, &e) {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				requests := sim.Requests()
				slices.SortStableFunc(requests, func(a, b ncptest.Request) int { return a.Time.Compare(b.Time) })
				wantWithinRate(t, requests, concurrency, perSecond)
				if got := sim.MaxInFlight(); patient && got > concurrency {
					t.Errorf("%d requests in flight, the limit is %d", got, concurrency)
				}
				done, retried := seen.seen()
				if onWire := len(w.requests()); len(done) < onWire || onWire != len(requests) {
					t.Errorf("%d requests on the wire, %d at the server, %d observed", onWire, len(requests), len(done))
				}
				if len(requests) < 100 || retried < 20 {
					t.Errorf("only %d requests, %d retries: this tests little", len(requests), retried)
				}
			})
		})
	}
}
