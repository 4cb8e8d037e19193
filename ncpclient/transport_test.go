package ncpclient

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ncp_exporter/ncpclient/ncptest"
)

func TestConcurrencyIsHeld(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			sim, transport := bubbled(t, ncptest.Config{Latency: time.Second})
			// Failures and retries hold and free their places as well.
			sim.SetFault(ncptest.FirstOf(
				ncptest.Times(3, ncptest.Always(ncptest.EmptyBody(503))),
				ncptest.Times(3, ncptest.Always(ncptest.CutShort())),
				ncptest.Times(3, ncptest.Always(ncptest.Reset()))))
			api := certificateManagerAt(t, bubbleURL, through(transport), retries(9), func(c *Config) { c.MaxConcurrency = most })
			changesAtOnce(t, api, 20)
			if got := sim.MaxInFlight(); got != most {
				t.Errorf("%d requests in flight, want %d", got, most)
			}
			if got := sim.Count(ncptest.RecentChanges); got != 29 {
				t.Errorf("%d requests, want 29", got)
			}
		})
	}
}

// A place is held until the body was read: an answer that has only begun is
// still in flight.
func TestPlaceIsHeldByTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most atomic.Int64
		slow := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), inFlight.Add(1)))
			resp := answer(r, 200, "")
			body, write := io.Pipe()
			resp.Body = &closing{ReadCloser: body, done: func() { inFlight.Add(-1) }}
			go func() {
				time.Sleep(time.Second)
				_, _ = io.WriteString(write, noChanges)
				_ = write.Close()
			}()
			return resp, nil
		})
		api := certificateManagerAt(t, bubbleURL, through(slow), func(c *Config) { c.MaxConcurrency = 2 })
		changesAtOnce(t, api, 6)
		if most.Load() != 2 || inFlight.Load() != 0 {
			t.Errorf("%d bodies at one time, want 2; %d left open", most.Load(), inFlight.Load())
		}
	})
}

type closing struct {
	io.ReadCloser
	done func()
}

func (c *closing) Close() error {
	c.done()
	return c.ReadCloser.Close()
}

// Under a rate limit of 10 with a burst of 4, request n is not sent before
// (n-4)/10 s, be it a first try or a retry.
func TestRateIsHeld(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ calls, failures, requests int }{
		"first tries": {24, 0, 24},
		"retries":     {6, 18, 24},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{})
				sim.SetFault(ncptest.Times(tt.failures, ncptest.Always(ncptest.EmptyBody(429))))
				api := certificateManagerAt(t, bubbleURL, through(transport), retries(18), func(c *Config) { c.MaxConcurrency, c.RateLimit = 4, 10 })
				start := time.Now()
				var wg sync.WaitGroup
				for range tt.calls {
					wg.Go(func() {
						if err := changesOf(t, api); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				requests := sim.Requests()
				if len(requests) != tt.requests {
					t.Errorf("%d requests, want %d", len(requests), tt.requests)
				}
				for i, r := range requests {
					earliest := max(0, time.Duration(i+1-4)*100*time.Millisecond)
					if at := r.Time.Sub(start); at < earliest-time.Millisecond {
						t.Errorf("request %d after %s, not before %s", i+1, at, earliest)
					}
				}
				if took := time.Since(start); tt.failures == 0 && took > 2*time.Second+time.Millisecond {
					t.Errorf("the limit holds up more than it must: %s", took)
				}
			})
		})
	}
}

// Tokens do not pile up behind slow answers and then go out in one burst: a
// place is taken before the token.
func TestNoLimitOfRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, transport := bubbled(t, ncptest.Config{})
		api := certificateManagerAt(t, bubbleURL, through(transport), func(c *Config) { c.MaxConcurrency = 1 })
		start := time.Now()
		for range 100 {
			if err := changesOf(t, api); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("100 calls without a limit waited for %s", took)
		}
	})
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const perRequest = "the request took longer than the timeout of one request (2s)"
	for name, tt := range map[string]struct {
		fault    http.Handler
		deadline time.Duration // of the call
		took     time.Duration
		says     string
		isCtx    bool
	}{
		"one request":                 {ncptest.Hang(), time.Hour, 2 * time.Second, perRequest, false},
		"one request, in the body":    {ncptest.Drip(), time.Hour, 2 * time.Second, perRequest, false},
		"the deadline":                {ncptest.Hang(), time.Second, time.Second, "context deadline exceeded", true},
		"the deadline, in the body":   {ncptest.Drip(), time.Second, time.Second, "context deadline exceeded", true},
		"the deadline, retries apart": {ncptest.Hang(), 2*time.Second - 1, 2*time.Second - 1, "context deadline exceeded", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{})
				sim.SetFault(ncptest.Always(tt.fault))
				var w watcher
				api := certificateManagerAt(t, bubbleURL, through(transport), observed(&w), func(c *Config) { c.Timeout = 2 * time.Second })
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				start := time.Now()
				_, err := api.RecentChanges(ctx, time.Hour)
				took := time.Since(start)
				wantReason(t, err, ErrTimeout)
				if took != tt.took || !strings.Contains(err.Error(), tt.says) || errors.Is(err, context.DeadlineExceeded) != tt.isCtx {
					t.Errorf("after %s, want %s: %v", took, tt.took, err)
				}
				if strings.Contains(err.Error(), perRequest) == tt.isCtx {
					t.Errorf("does not say which: %v", err)
				}
				if done, _ := w.seen(); len(done) != 1 || done[0].Status != 0 || done[0].Duration != tt.took {
					t.Errorf("observed %+v", done)
				}
			})
		})
	}
}

func TestWaitsEndWithTheCall(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		took   time.Duration
		says   string
	}{
		"for a place": {func(c *Config) { c.MaxConcurrency = 1 }, time.Second, "waiting for a place"},
		// A token that comes after the deadline is not waited for.
		"for the rate": {func(c *Config) { c.MaxConcurrency, c.RateLimit = 2, 1./60 }, 0, "waiting for the rate limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sim, transport := bubbled(t, ncptest.Config{Latency: 10 * time.Second})
				var w watcher
				api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), observed(&w), tt.change,
					func(c *Config) { c.Timeout = time.Hour })
				var wg sync.WaitGroup
				for range cap(api.api.sender.inFlight) {
					wg.Go(func() {
						if err := changesOf(t, api); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				if name == "for the rate" {
					wg.Wait() // all places are free again
				}
				sent := len(sim.Requests())
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				_, err := api.RecentChanges(ctx, time.Hour)
				took := time.Since(start)
				wantReason(t, err, ErrLimited)
				if took != tt.took || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("after %s, want %s: %v", took, tt.took, err)
				}
				wg.Wait()
				if done, _ := w.seen(); len(sim.Requests()) != sent || len(done) != sent {
					t.Errorf("%d sent and %d observed, want %d", len(sim.Requests()), len(done), sent)
				}
				// The place was not lost.
				time.Sleep(10 * time.Minute)
				if err := changesOf(t, api); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, transport := bubbled(t, ncptest.Config{})
		sim.SetFault(ncptest.Always(ncptest.Hang()))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := certificateManagerAt(t, bubbleURL, through(transport), retries(3)).RecentChanges(ctx, time.Hour)
		if !errors.Is(err, context.Canceled) || time.Since(start) != time.Second || sim.Count(ncptest.RecentChanges) != 1 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestObserverSeesEachRequestOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault  http.Handler
		status int
		offset bool
	}{
		"normal":      {nil, 200, true},
		"200 refused": {ncptest.ReturnCode(200, "9999", "x"), 200, true},
		"not JSON":    {ncptest.NotJSON(), 200, true},
		"redirect":    {ncptest.Redirect("https://elsewhere.example/"), 302, true},
		"401":         {ncptest.GatewayError(401, "200", "x"), 401, true},
		"500":         {ncptest.HTMLPage(500), 500, true},
		"reset":       {ncptest.Reset(), 0, false},
		"cut short":   {ncptest.CutShort(), 0, true},
		"hang":        {ncptest.Hang(), 0, false},
		"header bomb": {ncptest.HugeHeader(1 << 20), 0, false},
		"drip":        {ncptest.Drip(), 0, true},
		"error, hangs": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const ahead = 4 * time.Minute
				start := time.Now()
				sim, transport := bubbled(t, ncptest.Config{Latency: time.Second, Now: func() time.Time { return time.Now().Add(ahead) }})
				sim.AddCredentials("s-1", ncptest.NewCredential(start, "1", false))
				if tt.fault != nil {
					sim.SetFault(ncptest.Always(tt.fault))
				}
				var cm, ea watcher
				_ = changesOf(t, certificateManagerAt(t, bubbleURL, through(transport), observed(&cm)))
				api := externalAccessAt(t, bubbleURL, through(transport), observed(&ea))
				_, _ = api.SubjectsPage(t.Context(), 0, 20)
				_, _ = api.CredentialsPage(t.Context(), "s-1", 0, 20)

				done, _ := cm.seen()
				more, _ := ea.seen()
				done = append(done, more...)
				if len(done) != 3 || len(sim.Requests()) != 3 {
					t.Fatalf("observed %d of %d requests", len(done), len(sim.Requests()))
				}
				for i, op := range []Operation{OpRecentChanges, OpSubjects, OpCredentials} {
					want := Observation{API: APIExternalAccess, Operation: op, Status: tt.status, Duration: done[i].Duration, HasClockOffset: tt.offset}
					if i == 0 {
						want.API = APICertificateManager
					}
					want.URL = bubbleURL + map[Operation]string{
						OpRecentChanges: "/api/v2/certificate/recentChanges?minutes=60",
						OpSubjects:      "/api/v1/subjects?page=0&size=20",
						OpCredentials:   "/api/v1/subjects/s-1/credentials?page=0&size=20",
					}[op]
					if tt.offset {
						want.ClockOffset = ahead - time.Second // the simulated Date is from before the latency
					}
					if diff := cmp.Diff(want, done[i]); diff != "" {
						t.Error(diff)
					}
					if d := done[i].Duration; d < time.Second || d > 5*time.Second {
						t.Errorf("took %s", d)
					}
				}
			})
		})
	}
}

func TestClockOffset(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 9, 0, 0, 999_000_000, time.UTC)
	for date, want := range map[string]time.Duration{
		"Sun, 22 Nov 2026 09:00:00 GMT": 0, // the half of a second that is lost is not an offset
		"Sun, 22 Nov 2026 09:05:00 GMT": 5 * time.Minute,
		"Sun, 22 Nov 2026 08:59:59 GMT": -time.Second,
		"":                              -1,
		"today":                         -1,
	} {
		resp := answer(nil, 200, "", "Date", date)
		got, ok := clockOffset(resp, now)
		_ = resp.Body.Close()
		if ok != (want != -1) || ok && got != want {
			t.Errorf("%q: %s, %t", date, got, ok)
		}
	}
}

// gzipBomb is an answer without an end whose parts are compressed once: what
// ncptest.GzipBomb compresses takes seconds under -race.
func gzipBomb(tb testing.TB) http.Handler {
	tb.Helper()
	var part bytes.Buffer
	z := gzip.NewWriter(&part)
	if _, err := z.Write(make([]byte, 1<<20)); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		for {
			if _, err := w.Write(part.Bytes()); err != nil {
				return
			}
		}
	})
}

// Answers that are far too large end early, and take a bounded part of memory.
func TestHugeAnswers(t *testing.T) { //nolint:paralleltest // measures what the process allocates
	sim := simulated(t, ncptest.Config{})
	sim.AddCredentials("s-1", ncptest.NewCredential(time.Now(), "1", false))
	// The body is read as a decoder reads it, but not decoded: to do that to
	// 32 MiB takes seconds under -race.
	read := int64(0)
	drain := func(_ *http.Response, body io.Reader) (err error) {
		read, err = io.Copy(io.Discard, body)
		return err
	}
	for name, tt := range map[string]struct {
		fault  http.Handler
		reason Reason
		most   uint64 // bytes that may be allocated, rubbish included
	}{
		"200 MiB":               {ncptest.Huge(200 << 20), ErrTooLarge, 80 << 20},
		"gzip bomb":             {gzipBomb(t), ErrTooLarge, 80 << 20},
		"one byte over":         {ncptest.Huge(maxBodyBytes + 1), ErrTooLarge, 80 << 20},
		"as much as is allowed": {ncptest.Huge(maxBodyBytes), "", 80 << 20},
		"error of 200 MiB": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			ncptest.Huge(200<<20).ServeHTTP(w, r)
		}), ErrBadRequest, 20 << 20},
		"header of 1 MiB": {ncptest.HugeHeader(1 << 20), ErrUnreachable, 20 << 20},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // as above
			sim.SetFault(ncptest.Always(tt.fault))
			var w watcher
			api := certificateManagerAt(t, sim.URL(), observed(&w), func(c *Config) { c.Timeout = time.Minute })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := api.api.get(t.Context(), OpRecentChanges, "certificate/recentChanges", url.Values{"minutes": {"60"}}, drain)
			runtime.ReadMemStats(&after)
			switch tt.reason {
			case "":
				if err != nil || read != maxBodyBytes {
					t.Errorf("read %d bytes, %v", read, err)
				}
			case ErrTooLarge:
				if wantReason(t, err, tt.reason); read != maxBodyBytes || !strings.Contains(err.Error(), "32 MiB") {
					t.Errorf("read %d bytes, %v", read, err)
				}
			default:
				wantReason(t, err, tt.reason)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > tt.most {
				t.Errorf("%d MiB allocated", got>>20)
			}
			if done, _ := w.seen(); len(done) != 1 {
				t.Errorf("observed %+v", done)
			}
		})
	}
}

// The bound is on what comes out of the decompression, to the very byte.
func TestMaxBodyIsExact(t *testing.T) {
	t.Parallel()
	for size, tooLong := range map[int]bool{0: false, 9: false, 10: false, 11: true, 1000: true} {
		for _, buffer := range []int{1, 7, 10, 11, 4096} {
			b := &boundBody{limit: 10, next: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				return answer(r, 200, strings.Repeat("x", size)), nil
			})}
			resp, err := b.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(bufio.NewReaderSize(resp.Body, max(16, buffer)))
			_ = resp.Body.Close()
			var limit *http.MaxBytesError
			if len(got) != min(size, 10) || errors.As(err, &limit) != tooLong {
				t.Errorf("%d bytes in steps of %d: read %d, %v", size, buffer, len(got), err)
			}
		}
	}
}

// switching takes the connection over, as it would for another protocol, and sends
// on it without an end.
func switching(w http.ResponseWriter, _ *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n{")
	_ = buffered.Flush()
	_, _ = io.Copy(io.Discard, conn) // until the client closes
}

// The body of a 101 is the bare connection, which no context ends. It is refused at
// once, its connection is closed, and the next call is as any other.
func TestSwitchingProtocolsIsRefused(t *testing.T) {
	t.Parallel()
	for _, once := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			sim, transport := bubbled(t, ncptest.Config{})
			sim.SetFault(ncptest.Times(once, ncptest.Always(http.HandlerFunc(switching))))
			var w watcher
			api := certificateManagerAt(t, bubbleURL, through(transport), retries(3), observed(&w), limits(1, 0))
			start := time.Now()
			for range once {
				e := wantReason(t, changesOf(t, api), ErrMalformedAnswer)
				if e.Status != http.StatusSwitchingProtocols || time.Since(start) != 0 {
					t.Errorf("after %s: %v", time.Since(start), e.err)
				}
			}
			if err := changesOf(t, api); err != nil {
				t.Error(err)
			}
			if done, _ := w.seen(); len(done) != once+1 || done[0].Status != http.StatusSwitchingProtocols {
				t.Errorf("observed %+v", done)
			}
		})
	}
}

// deaf is a body that never ends and knows no context.
type deaf struct {
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Read([]byte) (int, error) { <-d.closed; return 0, errors.New("closed") }
func (d *deaf) Close() error             { d.once.Do(func() { close(d.closed) }); return nil }

// Whatever the body is, a wait for it ends with its request or with the call.
func TestAWaitForAnyBodyEnds(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 204, 302, 400, 500} {
		for name, tt := range map[string]struct {
			deadline, took time.Duration
			isCtx          bool
		}{
			"the request's": {time.Hour, 5 * time.Second, false},
			"the call's":    {time.Second, time.Second, true},
		} {
			synctest.Test(t, func(t *testing.T) {
				endless := roundTripFunc(func(r *http.Request) (*http.Response, error) {
					resp := answer(r, status, "")
					resp.Body = &deaf{closed: make(chan struct{})}
					return resp, nil
				})
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				start := time.Now()
				_, err := certificateManagerAt(t, bubbleURL, through(endless)).RecentChanges(ctx, time.Hour)
				if took := time.Since(start); err == nil || took != tt.took {
					t.Errorf("%d, %s time: after %s: %v", status, name, took, err)
				}
				if status == 200 {
					if wantReason(t, err, ErrTimeout); errors.Is(err, context.DeadlineExceeded) != tt.isCtx {
						t.Errorf("%s time: %v", name, err)
					}
				}
			})
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := served(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	sim := simulated(t, ncptest.Config{})
	for _, status := range []int{301, 302, 303, 307, 308} {
		sim.SetFault(ncptest.Always(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other+r.RequestURI+"&s3cret")
			w.WriteHeader(status)
		})))
		err := changesOf(t, certificateManagerAt(t, sim.URL(), retries(2)))
		if e := wantReason(t, err, ErrRedirected); e.Status != status || strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
	}
	if elsewhere.Load() != 0 || sim.Count(ncptest.RecentChanges) != 5 {
		t.Errorf("%d requests went elsewhere, %d to NCP", elsewhere.Load(), sim.Count(ncptest.RecentChanges))
	}
}

func trusting(tb testing.TB, certPEM []byte) *http.Transport {
	tb.Helper()
	transport := NewTransport(1, nil)
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(certPEM) {
		tb.Fatal("no certificate")
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}

func simulatedTLS(tb testing.TB) (*ncptest.Server, []byte) {
	tb.Helper()
	sim := ncptest.New(ncptest.Config{})
	certPEM, err := sim.StartTLS()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = sim.Close() })
	return sim, certPEM
}

func TestTLS(t *testing.T) {
	t.Parallel()
	sim, certPEM := simulatedTLS(t)
	if err := changesOf(t, certificateManagerAt(t, sim.URL(), through(trusting(t, certPEM)))); err != nil {
		t.Errorf("a root of our own: %v", err)
	}
	// Nobody is asked twice, and nobody is sent a signature.
	var w watcher
	wantReason(t, changesOf(t, certificateManagerAt(t, sim.URL(), retries(3), observed(&w))), ErrUnreachable)
	if done, _ := w.seen(); len(done) != 1 || sim.Count(ncptest.RecentChanges) != 1 {
		t.Errorf("an unknown root: observed %+v", done)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(ncptest.New(ncptest.Config{}))
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version} //nolint:gosec // what shall be refused
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			t.Cleanup(server.Close)
			transport := NewTransport(1, nil)
			transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			t.Cleanup(transport.CloseIdleConnections)
			var w watcher
			err := changesOf(t, certificateManagerAt(t, server.URL, through(transport), retries(3), observed(&w)))
			if ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantReason(t, err, ErrUnreachable)
			if done, _ := w.seen(); len(done) != 1 {
				t.Errorf("tried %d times: %v", len(done), err)
			}
		})
	}
}

// proxy is a CONNECT proxy that counts its tunnels and looks for secrets.
type proxy struct {
	tunnels atomic.Int64
	other   atomic.Int64 // requests that are no CONNECT
	signed  atomic.Int64 // with headers that are no proxy's business
	refuse  bool
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(headerAccessKey)+r.Header.Get(headerSignature) != "" {
		p.signed.Add(1)
	}
	switch {
	case r.Method != http.MethodConnect:
		p.other.Add(1)
		return
	case p.refuse:
		http.Error(w, "not you", http.StatusProxyAuthRequired)
		return
	}
	p.tunnels.Add(1)
	there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, "", http.StatusBadGateway)
		return
	}
	defer func() { _ = there.Close() }()
	w.WriteHeader(http.StatusOK)
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = here.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(there, buffered); _ = there.Close() })
	_, _ = io.Copy(here, there)
	_ = here.Close()
	wg.Wait()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	sim, certPEM := simulatedTLS(t)
	for name, refuse := range map[string]bool{"tunnel": false, "refused": true} {
		p := &proxy{refuse: refuse}
		address, err := url.Parse(served(t, p))
		if err != nil {
			t.Fatal(err)
		}
		address.User = url.UserPassword("user", "s3cret")
		transport := trusting(t, certPEM)
		transport.Proxy = NewTransport(1, http.ProxyURL(address)).Proxy
		sim.ResetStats()
		err = changesOf(t, certificateManagerAt(t, sim.URL(), through(transport)))
		transport.CloseIdleConnections()
		switch {
		case refuse:
			wantReason(t, err, ErrUnreachable)
			if strings.Contains(err.Error(), "s3cret") {
				t.Error(err)
			}
		case err != nil || p.tunnels.Load() != 1 || sim.Count(ncptest.RecentChanges) != 1:
			t.Errorf("%s: %d tunnels, %v", name, p.tunnels.Load(), err)
		}
		if p.signed.Load() != 0 || p.other.Load() != 0 {
			t.Errorf("%s: the proxy saw %d signed and %d other requests", name, p.signed.Load(), p.other.Load())
		}
	}
}

// The connections are pooled, and used again after answers of all kinds.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	transport := NewTransport(1, nil)
	t.Cleanup(transport.CloseIdleConnections)
	var dials atomic.Int64
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}
	sim.SetFault(func(r ncptest.Request) http.Handler {
		return []http.Handler{nil, ncptest.EmptyForbidden(), ncptest.HTMLPage(404), ncptest.ReturnCode(200, "9999", "x"), ncptest.SpringError(400, "x", "y")}[r.N%5]
	})
	api := certificateManagerAt(t, sim.URL(), through(transport))
	for range 20 {
		_ = changesOf(t, api)
	}
	if dials.Load() != 1 || sim.Count(ncptest.RecentChanges) != 20 {
		t.Errorf("%d connections for %d requests", dials.Load(), sim.Count(ncptest.RecentChanges))
	}
}
