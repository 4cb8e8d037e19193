package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
				if len(requests) < 60 || retried < 20 {
					t.Errorf("only %d requests, %d retries: this tests little", len(requests), retried)
				}
			})
		})
	}
}

// throttledAt is a client of a bubbled NCP that answers 429 while throttle is
// set, each answer after a second.
func throttledAt(t *testing.T, changes ...with) (sim *ncptest.Server, api *CertificateManager, throttle func(retryAfter string, on bool)) {
	t.Helper()
	sim, transport := bubbled(t, ncptest.Config{Latency: time.Second})
	api = certificateManagerAt(t, bubbleURL, append([]with{through(transport)}, changes...)...)
	return sim, api, func(retryAfter string, on bool) {
		sim.SetFault(nil)
		if on {
			sim.SetFault(ncptest.Always(ncptest.Throttled(retryAfter)))
		}
	}
}

func limits(concurrency int, perSecond float64) with {
	return func(c *Config) { c.MaxConcurrency, c.RateLimit = concurrency, perSecond }
}

// together makes n calls side by side and returns their errors.
func together(t *testing.T, api *CertificateManager, n int) []error {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = changesOf(t, api) })
	}
	wg.Wait()
	return errs
}

func wantRate(t *testing.T, api *CertificateManager, want float64) {
	t.Helper()
	if got := api.RateLimit(); math.Abs(got-want) > want*1e-6 {
		t.Errorf("the limit in force is %g a second, want %g", got, want)
	}
}

// However many requests are throttled that were sent under one rate, they lower
// it once: to half of what was really sent.
func TestRateFallsOnThrottling(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []int{1, 4, 16} {
		synctest.Test(t, func(t *testing.T) {
			_, api, throttle := throttledAt(t, limits(atOnce, 20))
			throttle("", true)
			for _, err := range together(t, api, atOnce) { // within a second
				wantReason(t, err, ErrRateLimited)
			}
			wantRate(t, api, float64(atOnce)/2)
		})
	}
}

// The rate is never so low that nothing goes out.
func TestRateHasAFloor(t *testing.T) {
	t.Parallel()
	for configured, floor := range map[float64]float64{1000: 10, 50: .5, 3: .5, .2: .2} {
		synctest.Test(t, func(t *testing.T) {
			l := certificateManagerAt(t, bubbleURL, limits(1, configured)).api.sender
			for range 40 {
				l.throttled(0, l.cuts)
			}
			lowest := l.inForce()
			if lowest != floor {
				t.Errorf("%g a second fell to %g, want %g", configured, lowest, floor)
			}
		})
	}
}

// A burst of throttled requests takes along what was left of the burst.
func TestThrottlingEmptiesTheBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, api, throttle := throttledAt(t, limits(8, 8))
		throttle("", true)
		wantReason(t, changesOf(t, api), ErrRateLimited) // 7 tokens are left, and 8 the second later
		throttle("", false)
		sim.ResetStats()
		start := time.Now()
		for _, err := range together(t, api, 8) {
			if err != nil {
				t.Error(err)
			}
		}
		for i, r := range sim.Requests() {
			if at := r.Time.Sub(start).Seconds(); at < float64(i)/4.5 {
				t.Errorf("request %d after %g s, at half of 8 a second", i+1, at)
			}
		}
	})
}

func TestRateCreepsUp(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"with requests": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, api, throttle := throttledAt(t, limits(9, 18))
				throttle("", true)
				together(t, api, 9)
				throttle("", false)
				start := time.Now()
				wantRate(t, api, 4.5)
				time.Sleep(500 * time.Millisecond)
				wantRate(t, api, 4.5*math.Sqrt2)
				time.Sleep(500 * time.Millisecond)
				for range 60 {
					wantRate(t, api, min(18, 9+.2*(time.Since(start).Seconds()-1)))
					if busy {
						if err := changesOf(t, api); err != nil {
							t.Error(err)
						}
					} else {
						time.Sleep(time.Second)
					}
				}
				wantRate(t, api, 18)
				time.Sleep(100 * 24 * time.Hour)
				wantRate(t, api, 18)
				// From there it falls again.
				throttle("", true)
				together(t, api, 9)
				wantRate(t, api, 4.5)
			})
		})
	}
}

// The rate that is shown is the one that is kept.
func TestFallenRateIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, api, throttle := throttledAt(t, limits(8, 16))
		throttle("", true)
		for range 4 {
			together(t, api, 8)
		}
		throttle("", false)
		sim.ResetStats()
		start, low, shown := time.Now(), api.RateLimit(), api.api.sender.pace
		gathered := api.api.sender.bucket.TokensAt(start)
		for _, err := range together(t, api, 40) {
			if err != nil {
				t.Error(err)
			}
		}
		for i, r := range sim.Requests() {
			s := r.Time.Sub(start).Seconds()
			// The area under the climbing rate, and what had gathered in the bucket.
			most := 1 + gathered
			for at := start; at.Before(r.Time); at = at.Add(time.Millisecond) {
				most += shown.at(at.Add(time.Millisecond)) / 1000
			}
			if float64(i+1) > most {
				t.Errorf("request %d after %g s: more than %.1f", i+1, s, most)
			}
		}
		if took := time.Since(start); took < 3*time.Second {
			t.Errorf("40 requests took %s only, at %g a second to begin with", took, low)
		}
		// And so is the one that it has climbed to.
		time.Sleep(recovery)
		start = time.Now()
		together(t, api, 40)
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("40 requests took %s, 8 at a time and 16 a second", took)
		}
	})
}

// A long Retry-After is no time in which NCP has put up with anything.
func TestRateDoesNotClimbDuringAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, api, throttle := throttledAt(t, limits(18, 18))
		throttle("60", true)
		together(t, api, 18)
		time.Sleep(time.Minute)
		wantRate(t, api, 9)
		time.Sleep(time.Second / 2)
		wantRate(t, api, 9*math.Sqrt2)
	})
}

// A token that comes too late only because the rate has fallen is not waited
// for either.
func TestFallenRateAndTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, api, throttle := throttledAt(t, limits(1, 1))
		throttle("", true)
		wantReason(t, changesOf(t, api), ErrRateLimited)
		wantReason(t, changesOf(t, api), ErrRateLimited) // empties the bucket at about half a second
		ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := api.RecentChanges(ctx, time.Hour)
		if wantReason(t, err, ErrLimited); time.Since(start) != 0 || len(sim.Requests()) != 2 {
			t.Errorf("after %s, %d requests: %v", time.Since(start), len(sim.Requests()), err)
		}
	})
}

// Who has been served no longer counts among those who wait.
func TestQueueIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, transport := bubbled(t, ncptest.Config{})
		api := certificateManagerAt(t, bubbleURL, through(transport), limits(2, 100))
		for range 300 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if _, err := api.RecentChanges(ctx, time.Hour); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
	})
}

func TestNoLimitDoesNotAdapt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, api, throttle := throttledAt(t, limits(2, 0))
		throttle("", true)
		together(t, api, 5)
		if got := api.RateLimit(); !math.IsInf(got, 1) {
			t.Errorf("%g a second", got)
		}
		if got := externalAccessAt(t, bubbleURL, limits(1, 7)).RateLimit(); got != 7 {
			t.Errorf("External Access: %g a second, want 7", got)
		}
	})
}

// After a 429 with Retry-After no request of the API is sent before its time,
// whoever asks, be there a limit of our own or none.
func TestRetryAfterHoldsUpAllRequests(t *testing.T) {
	t.Parallel()
	const other = 0 // the ordinary wait
	for name, tt := range map[string]struct {
		retryAfter string
		deadline   time.Duration
		refused    bool
		opens      time.Duration // after which a request is sent again
	}{
		"short":                {"4", time.Hour, false, 4 * time.Second},
		"just bearable":        {"10", time.Hour, false, 10 * time.Second},
		"past maxRetryAfter":   {"11", time.Hour, true, 11 * time.Second},
		"past the deadline":    {"4", 3 * time.Second, true, 4 * time.Second},
		"as long as is kept":   {"60", time.Hour, true, time.Minute},
		"longer than is kept":  {"86400", time.Hour, true, time.Minute},
		"nothing":              {"", time.Hour, false, other},
		"nothing that is read": {"later", time.Hour, false, other},
	} {
		for _, perSecond := range []float64{0, 100} {
			t.Run(fmt.Sprint(name, ", limit ", perSecond), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					sim, api, throttle := throttledAt(t, limits(3, perSecond))
					throttle(tt.retryAfter, true)
					wantReason(t, changesOf(t, api), ErrRateLimited)
					throttle("", false)
					sim.ResetStats()
					start := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
					defer cancel()
					var wg sync.WaitGroup
					for range 5 {
						wg.Go(func() {
							_, err := api.RecentChanges(ctx, time.Hour)
							switch {
							case !tt.refused && err != nil:
								t.Error(err)
							case tt.refused:
								e := wantReason(t, err, ErrLimited)
								until := start.Add(tt.opens).UTC().Format(time.RFC3339)
								if text := e.Error(); time.Since(start) != 0 || !strings.Contains(text, "NCP answered 429") || !strings.Contains(text, until) {
									t.Errorf("after %s, want at once until %s: %v", time.Since(start), until, err)
								}
							}
						})
					}
					wg.Wait()
					if tt.refused {
						if got := len(sim.Requests()); got != 0 {
							t.Errorf("%d requests were sent", got)
						}
						time.Sleep(tt.opens - maxRetryAfter - time.Since(start)) // does not sleep if that is past
						if err := changesOf(t, api); err != nil {
							t.Error(err)
						}
					}
					for _, r := range sim.Requests() {
						if at := r.Time.Sub(start); at < tt.opens {
							t.Errorf("a request after %s, not before %s", at, tt.opens)
						}
					}
					token := 20 * time.Millisecond // for a timer that is late
					if perSecond > 0 {
						token = time.Second // at the lowest rate, a hundredth of the limit
					}
					if at := sim.Requests()[0].Time.Sub(start); at > tt.opens+token {
						t.Errorf("the first request after %s, want %s", at, tt.opens)
					}
				})
			})
		}
	}
}

// A pause that begins binds those that wait already, wherever they wait: who
// has the time waits on, who has not is told at once.
func TestRetryAfterBindsThoseThatWait(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change with
		before int // requests that use up the bucket
		flying int // requests that are in flight when the others come
	}{
		"for a place": {limits(2, 0), 0, 2},
		"for a token": {limits(8, 1), 8, 1},
	} {
		for retryAfter, refused := range map[string]int64{"9": 1, "30": 4} {
			t.Run(name+", "+retryAfter+" s", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					var sentAt []time.Time
					answers := make(chan string) // the Retry-After of a 429; "" is a normal answer
					slow := roundTripFunc(func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						sentAt = append(sentAt, time.Now())
						mu.Unlock()
						if header := <-answers; header != "" {
							return answer(r, 429, "", "Retry-After", header), nil
						}
						return answer(r, 200, noChanges), nil
					})
					api := certificateManagerAt(t, bubbleURL, through(slow), tt.change, func(c *Config) { c.Timeout = time.Hour })
					var wg sync.WaitGroup
					var told atomic.Int64
					call := func(deadline time.Duration) {
						wg.Go(func() {
							ctx, cancel := context.WithTimeout(t.Context(), deadline)
							defer cancel()
							if _, err := api.RecentChanges(ctx, time.Hour); errors.Is(err, ErrLimited) {
								told.Add(1)
							}
						})
					}
					for range tt.before {
						call(time.Hour)
					}
					for range tt.before {
						answers <- ""
					}
					for range tt.flying {
						call(time.Hour)
					}
					time.Sleep(time.Second)
					for _, deadline := range []time.Duration{time.Hour, time.Hour, time.Hour, 8 * time.Second} {
						call(deadline)
						synctest.Wait()
					}
					start := time.Now()
					answers <- retryAfter
					synctest.Wait()
					if got := told.Load(); got != refused || time.Since(start) != 0 {
						t.Errorf("%d were told at once, want %d", got, refused)
					}
					for range tt.flying - 1 + 4 - int(refused) {
						answers <- ""
					}
					wg.Wait()
					if got, want := len(sentAt), tt.before+tt.flying+4-int(refused); got != want {
						t.Errorf("%d requests, want %d", got, want)
					}
					for _, at := range sentAt[tt.before+tt.flying:] {
						if at.Sub(start) < 9*time.Second {
							t.Errorf("a request after %s", at.Sub(start))
						}
					}
				})
			})
		}
	}
}

// Who cannot be served in time is told at once, and holds nobody up.
func TestQueueIsNotJoinedInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, transport := bubbled(t, ncptest.Config{})
		api := certificateManagerAt(t, bubbleURL, through(transport), limits(6, 1))
		together(t, api, 6)
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		start := time.Now()
		var served, told atomic.Int64
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := api.RecentChanges(ctx, time.Hour); err == nil {
					served.Add(1)
				} else if wantReason(t, err, ErrLimited); time.Since(start) == 0 {
					told.Add(1)
				}
			})
		}
		wg.Wait()
		if served.Load() != 3 || told.Load() != 2 {
			t.Errorf("%d served, %d told at once", served.Load(), told.Load())
		}
	})
}

// A shorter Retry-After does not end a longer one, and who waited for the
// shorter waits on.
func TestLongestRetryAfterCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		headers := []string{"3", "8", "1"}
		n := 0
		var mu sync.Mutex
		var opened []time.Duration
		start := time.Now()
		server := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			n++
			me := n
			if me > len(headers) {
				opened = append(opened, time.Since(start))
			}
			mu.Unlock()
			if me > len(headers) {
				return answer(r, 200, noChanges), nil
			}
			time.Sleep(time.Duration(me) * 500 * time.Millisecond) // one comes back after another
			return answer(r, 429, "", "Retry-After", headers[me-1]), nil
		})
		api := certificateManagerAt(t, bubbleURL, through(server), limits(3, 0))
		together(t, api, 3)
		together(t, api, 3)
		for _, at := range opened {
			if at < 9*time.Second || at > 9*time.Second+time.Millisecond {
				t.Errorf("sent after %s, want 9s", at)
			}
		}
		if len(opened) != 3 {
			t.Errorf("%d requests", len(opened))
		}
	})
}

// Who gives up while waiting for a token takes none along.
func TestGivingUpCostsNoToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, transport := bubbled(t, ncptest.Config{})
		api := certificateManagerAt(t, bubbleURL, through(transport), limits(5, 1))
		together(t, api, 5)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := api.RecentChanges(ctx, time.Hour)
				if wantReason(t, err, ErrLimited); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		cancel()
		wg.Wait()
		start := time.Now()
		if err := changesOf(t, api); err != nil || time.Since(start) > 500*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if got := len(sim.Requests()); got != 6 {
			t.Errorf("%d requests", got)
		}
	})
}

// TestLimitGoesOn hands on what answers of 429 did to a limit.
func TestLimitGoesOn(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	newOne := func(perSecond float64) *limit {
		return newLimit(nil, Config{MaxConcurrency: 4, RateLimit: perSecond, Now: func() time.Time { return now }})
	}
	quiet, throttled, paused := newOne(50), newOne(50), newOne(50)
	for range 50 {
		throttled.pace.note(now)
		paused.pace.note(now)
	}
	throttled.throttled(0, 0)
	paused.throttled(30*time.Second, 0)
	for _, test := range []struct {
		name         string
		from         *limit
		configured   float64
		want, later  float64 // the rates now, and after 45 s
		pause        time.Duration
		tokensAtOnce float64
	}{
		{"quiet", quiet, 20, 20, 20, 0, 4},
		{"throttled", throttled, 50, 25, 50, 0, 0},
		{"throttled, a higher limit", throttled, 100, 25, 50 + 100.*44/90, 0, 0},
		{"throttled, a limit below", throttled, 10, 10, 10, 0, 4},
		{"throttled, no limit any more", throttled, 0, math.Inf(1), math.Inf(1), 0, 4},
		{"paused", paused, 50, 25, 50, 30 * time.Second, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newOne(test.configured)
			l.takeOver(test.from)
			if got := l.inForce(); got != test.want {
				t.Errorf("the rate is %g, want %g", got, test.want)
			}
			if got := l.pace.at(now.Add(45 * time.Second)); math.Abs(got-test.later) > 1e-9 && got != test.later {
				t.Errorf("the rate in 45 s is %g, want %g", got, test.later)
			}
			if got := max(0, l.until.Sub(now)); got != test.pause {
				t.Errorf("the pause is %s, want %s", got, test.pause)
			}
			if got := l.bucket.TokensAt(now); got != test.tokensAtOnce {
				t.Errorf("%g requests at once, want %g", got, test.tokensAtOnce)
			}
		})
	}
}
