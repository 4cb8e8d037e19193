package ncpclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ncp_exporter/ncpclient/ncptest"
)

// scrapeOf makes so many calls side by side within the time of a scrape, and says how
// many of them failed.
func scrapeOf(t *testing.T, api *CertificateManager, calls int) (failed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
	defer cancel()
	var missing atomic.Int64
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if _, err := api.RecentChanges(ctx, time.Hour); err != nil {
				missing.Add(1)
			}
		})
	}
	all.Wait()
	return int(missing.Load())
}

// promise is the line of docs/scaling.md that TestScrapesAfterThrottling holds.
const promise = "After a minute in which 8 % of the calls got 429, the next scrape is whole again"

// TestScrapesAfterThrottling refuses 8 % of the calls for a minute, or all of them, for
// accounts that need up to nine tenths of what the limit allows.
func TestScrapesAfterThrottling(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), promise) {
		t.Errorf("docs/scaling.md does not say: %s", promise)
	}
	for _, interval := range []time.Duration{15 * time.Second, time.Minute} {
		for _, percent := range []int{8, 100} {
			for _, calls := range []int{4, 40, 400} {
				for seed := range uint64(5) {
					t.Run(fmt.Sprintf("%d calls every %s, %d percent, seed %d", calls, interval, percent, seed), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { throttledForAMinute(t, interval, percent, calls, seed) })
					})
				}
			}
		}
	}
}

func throttledForAMinute(t *testing.T, interval time.Duration, percent, calls int, seed uint64) {
	t.Helper()
	const concurrency, perSecond = 10, 50.
	sim, transport := bubbled(t, ncptest.Config{Latency: 100 * time.Millisecond})
	api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), limits(concurrency, perSecond))
	start := time.Now()
	next := func() { time.Sleep(interval - time.Since(start)%interval) }
	for range 3 {
		if n := scrapeOf(t, api, calls); n > 0 {
			t.Fatalf("%d of %d calls failed before", n, calls)
		}
		next()
	}
	draw := rand.New(rand.NewPCG(seed, uint64(calls))) //nolint:gosec // no secret hangs on it
	var drawing sync.Mutex
	refuse := ncptest.Throttled("")
	sim.SetFault(func(ncptest.Request) http.Handler {
		drawing.Lock()
		defer drawing.Unlock()
		if draw.IntN(100) < percent {
			return refuse
		}
		return nil
	})
	for begun := time.Now(); time.Since(begun) < time.Minute; next() {
		scrapeOf(t, api, calls)
	}
	sim.SetFault(nil)
	for range 3 {
		if n := scrapeOf(t, api, calls); n > 0 {
			t.Errorf("%d of %d calls failed after the last 429, the limit is %g a second", n, calls, api.RateLimit())
		}
		next()
	}
	requests := sim.Requests()
	slices.SortStableFunc(requests, func(a, b ncptest.Request) int { return a.Time.Compare(b.Time) })
	wantWithinRate(t, requests, concurrency, perSecond)
}

// TestALowerLimitOfNCP has NCP allow a fifth of what is configured, and wants it to be
// used, and few calls to be refused in the long run.
func TestALowerLimitOfNCP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const allowed = 10.
		sim, transport := bubbled(t, ncptest.Config{Latency: 100 * time.Millisecond})
		api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), limits(10, 5*allowed))
		var mu sync.Mutex
		var tokens float64
		var at time.Time
		refused, accepted := 0, 0
		refuse := ncptest.Throttled("")
		sim.SetFault(func(ncptest.Request) http.Handler {
			mu.Lock()
			defer mu.Unlock()
			tokens, at = min(allowed, tokens+allowed*time.Since(at).Seconds()), time.Now()
			if tokens < 1 {
				refused++
				return refuse
			}
			tokens--
			accepted++
			return nil
		})
		for minute := range 5 {
			refused, accepted = 0, 0
			for begun := time.Now(); time.Since(begun) < time.Minute; {
				scrapeOf(t, api, 80)
			}
			share, used := float64(refused)/float64(refused+accepted), float64(accepted)/(60*allowed)
			t.Logf("minute %d: %.0f %% of the calls are refused, %.0f %% of what NCP allows is used", minute+1, 100*share, 100*used)
			if minute < 3 {
				continue
			}
			if share > .1 || used < .6 {
				t.Errorf("minute %d: %.0f %% of the calls are refused, %.0f %% of what NCP allows is used", minute+1, 100*share, 100*used)
			}
		}
	})
}
