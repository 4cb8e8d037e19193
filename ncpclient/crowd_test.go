package ncpclient

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowNCP answers each request after a time.
type slowNCP struct {
	takes    time.Duration
	inFlight atomic.Int64
}

func (s *slowNCP) RoundTrip(req *http.Request) (*http.Response, error) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	select {
	case <-time.After(s.takes):
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// send sends so many requests at once, and returns when all are answered.
func send(ctx context.Context, l *limit, requests int) error {
	var all sync.WaitGroup
	errs := make([]error, requests)
	for i := range errs {
		all.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/", http.NoBody)
			if err != nil {
				errs[i] = err
				return
			}
			resp, err := l.RoundTrip(req)
			if err == nil {
				err = resp.Body.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func inCrowd(crowd *Crowd, ncp http.RoundTripper) *limit {
	return newLimit(ncp, Config{MaxConcurrency: 10, Crowd: crowd, Now: time.Now})
}

// Accounts that are all scraped at the same instant have few requests in flight, until
// they have waited for long.
func TestCrowdBoundsAccountsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const accounts, places = 20, 15
		crowd, ncp := NewCrowd(places), &slowNCP{takes: time.Hour}
		var all sync.WaitGroup
		limits := make([]*limit, accounts)
		for i := range limits {
			limits[i] = inCrowd(crowd, ncp)
			all.Go(func() {
				if err := send(t.Context(), limits[i], 10); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := ncp.inFlight.Load(); got != accounts*ownPlaces+places {
			t.Errorf("%d requests are in flight, want %d for each account and %d more", got, ownPlaces, places)
		}
		time.Sleep(10 * maxWait) // NCP hangs, and each account has all requests in flight that it may have
		synctest.Wait()
		if got := ncp.inFlight.Load(); got != accounts*10 {
			t.Errorf("%d requests are in flight, want all", got)
		}
		all.Wait()
		for _, l := range limits {
			if len(crowd.places)+len(l.ownPlaces)+len(l.inFlight)+len(l.tokenQueue) > 0 {
				t.Fatal("a place is not given back")
			}
		}
	})
}

// An account whose answers are quick waits for nobody, and others wait for those that
// hang only for a while.
func TestCrowdWhileOthersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crowd, hanging := NewCrowd(5), &slowNCP{takes: time.Hour}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { _ = send(ctx, inCrowd(crowd, hanging), 10) }) // they are canceled
		}
		synctest.Wait()
		begin := time.Now()
		if err := send(t.Context(), inCrowd(crowd, &slowNCP{takes: 10 * time.Millisecond}), 100); err != nil {
			t.Error(err)
		}
		if took, alone := time.Since(begin), 100/ownPlaces*10*time.Millisecond; took > alone {
			t.Errorf("quick answers took %s, want %s", took, alone)
		}
		time.Sleep(10 * maxWait)
		begin = time.Now()
		if err := send(t.Context(), inCrowd(crowd, &slowNCP{takes: time.Second}), 7); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("slow answers took %s while others hang for long, want %s", took, time.Second)
		}
		cancel()
		all.Wait()
	})
}

func TestCrowdEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crowd := NewCrowd(0)
		l := inCrowd(crowd, &slowNCP{takes: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), maxWait/2)
		defer cancel()
		begin := time.Now()
		if err := send(ctx, l, ownPlaces+1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that the time is over", err)
		}
		if took := time.Since(begin); took != maxWait/2 || len(l.ownPlaces)+len(l.inFlight)+len(l.tokenQueue) > 0 {
			t.Errorf("it took %s", took)
		}
	})
}
