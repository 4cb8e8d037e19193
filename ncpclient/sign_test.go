package ncpclient

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"ncp_exporter/ncpclient/ncptest"
)

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, uri, timestamp string
		keys                   Keys
		want                   string
	}{
		{"GET", "/vserver/v2/getServerInstanceList?responseFormatType=json", "1234567890123", Keys{"TestAccessKey", "TestSecretKey"}, "FPsYYX8fuMAgi+cue3eACOW0dNtIwu1LYWfg/megA2M="},
		{"POST", "/vserver/v2/createServerInstances?regionCode=KR", "1700000000000", Keys{"AK_TEST", "SK_TEST"}, "xBcE26XFU55BMjppdPT7ZY3oDrqoOedfPyAn3Cq4lUw="},
		{"GET", "/api/v2/certificate/recentChanges?minutes=60", "1700000000000", Keys{"TestAccessKey", "TestSecretKey"}, "+oTzlHsAvlRWPo3KnEdVq3rOVD909KniAfxIlfI6aps="},
		{"GET", "/api/v1/subjects/c2dea79b-0000-0000-0000-c162618da17d/credentials?page=0&size=20", "1700000000000", Keys{"TestAccessKey", "TestSecretKey"}, "Uso5xm9wkSjBBt2vlL/4G6l9gR54n15CIhyswhX7rpw="},
	} {
		if got := signature(tt.method, tt.uri, tt.timestamp, tt.keys); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.uri, got, tt.want)
		}
	}
}

// received notes what a server was sent, on its way to next.
type received struct {
	next http.Handler
	mu   sync.Mutex
	all  []*http.Request
}

func (n *received) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.all = append(n.all, r.Clone(context.WithoutCancel(r.Context())))
	n.mu.Unlock()
	n.next.ServeHTTP(w, r)
}

func (n *received) requests() []*http.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all
}

func TestRequestIsSignedAnewAtEachRetry(t *testing.T) {
	t.Parallel()
	sim := ncptest.New(ncptest.Config{})
	sim.SetFault(ncptest.Times(2, ncptest.Always(ncptest.EmptyBody(503))))
	server := &received{next: sim}
	tick := time.Now().Add(-time.Minute)
	var mu sync.Mutex
	clock := func(c *Config) {
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			tick = tick.Add(time.Millisecond)
			return tick
		}
		c.UserAgent = "ncp_exporter/test"
	}
	if err := changesOf(t, certificateManagerAt(t, served(t, server), retries(2), clock)); err != nil {
		t.Fatal(err)
	}
	if got := len(server.requests()); got != 3 {
		t.Fatalf("%d requests, want 3", got)
	}
	timestamps, signatures := make(map[string]bool), make(map[string]bool)
	for _, r := range server.requests() {
		timestamp := r.Header.Get("x-ncp-apigw-timestamp")
		got := r.Header.Get("x-ncp-apigw-signature-v2")
		timestamps[timestamp], signatures[got] = true, true
		if want := signature(r.Method, r.RequestURI, timestamp, Keys{ncptest.DemoAccessKey, ncptest.DemoSecretKey}); got != want {
			t.Errorf("signature %q over %q, want %q", got, r.RequestURI, want)
		}
		if millis, err := strconv.ParseInt(timestamp, 10, 64); err != nil || time.Since(time.UnixMilli(millis)).Abs() > time.Hour {
			t.Errorf("timestamp %q is not now in milliseconds", timestamp)
		}
		for name, want := range map[string]string{
			"Accept": "application/json", "Content-Type": "application/json",
			"User-Agent": "ncp_exporter/test", "x-ncp-iam-access-key": ncptest.DemoAccessKey,
		} {
			if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	if len(timestamps) != 3 || len(signatures) != 3 {
		t.Errorf("%d timestamps and %d signatures for 3 requests", len(timestamps), len(signatures))
	}
}

// A request that waited for its turn is signed when it is sent.
func TestSignatureIsMadeAfterTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, transport := bubbled(t, ncptest.Config{Latency: 4 * time.Minute})
		api := certificateManagerAt(t, bubbleURL, through(transport), func(c *Config) {
			c.MaxConcurrency, c.Timeout = 1, time.Hour
		})
		var wg sync.WaitGroup
		for range 4 { // the last waits for 12 minutes
			wg.Go(func() {
				if err := changesOf(t, api); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if sim.Unsigned() != 0 || sim.Count(ncptest.RecentChanges) != 4 {
			t.Errorf("%d of %d requests were refused", sim.Unsigned(), sim.Count(ncptest.RecentChanges))
		}
	})
}

func TestBaseURLPrefixSurvives(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/proxy", "/a/b%2Fc", "/with%20blank"} {
		t.Run(prefix, func(t *testing.T) {
			t.Parallel()
			sim := ncptest.New(ncptest.Config{})
			sim.AddCredentials("s-1", ncptest.NewCredential(time.Now(), "1", false))
			// The prefix goes, as at a reverse proxy; RequestURI, over which the
			// simulated gateway signs, stays as it was sent.
			server := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.RequestURI, prefix+"/api/") {
					t.Errorf("sent to %q", r.RequestURI)
				}
				_, path, _ := strings.Cut(r.URL.Path, "/api/")
				r.URL.Path = "/api/" + path
				r.URL.RawPath = ""
				sim.ServeHTTP(w, r)
			}))
			if err := changesOf(t, certificateManagerAt(t, server+prefix)); err != nil {
				t.Error(err)
			}
			page, err := externalAccessAt(t, server+prefix).CredentialsPage(t.Context(), "s-1", 0, 20)
			if err != nil || len(page.Rows) != 1 {
				t.Errorf("%d rows, %v", len(page.Rows), err)
			}
		})
	}
}

func TestIDsAreEscapedAndSigned(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	api := externalAccessAt(t, sim.URL())
	for _, id := range []string{
		"c2dea79b-0000-0000-0000-c162618da17d", "a/b", "a b", "../../x", "..;", "a?b=c", "a#b", "a%2Fb", "100%", "a+b", "a&b",
		"한글", "a:b@c", `"quoted"`, "a\\b", "~", strings.Repeat("x", maxIDBytes),
	} {
		sim.AddCredentials(id, ncptest.NewCredential(time.Now(), "serial of "+id, false))
		page, err := api.CredentialsPage(t.Context(), id, 0, 20)
		if err != nil || len(page.Rows) != 1 || page.Rows[0].SerialNumber != "serial of "+id {
			t.Errorf("%q: %+v, %v", id, page, err)
		}
	}
	requests := len(sim.Requests())
	for _, id := range []string{"", ".", "..", " ", "a ", "a\nb", "a\x00b", "\xff", strings.Repeat("x", maxIDBytes+1)} {
		if _, err := api.CredentialsPage(t.Context(), id, 0, 20); err == nil {
			t.Errorf("%q was taken for an id", id)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || !utf8.ValidString(err.Error()) || len(err.Error()) > 200 {
			t.Errorf("%q", err)
		}
	}
	if got := len(sim.Requests()); got != requests {
		t.Errorf("%d requests for ids that cannot be", got-requests)
	}
	if sim.Unsigned() != 0 {
		t.Errorf("%d requests were refused", sim.Unsigned())
	}
}

type noKeys struct{ Credentials }

func (noKeys) Keys(context.Context) (Keys, error) { return Keys{}, ErrNoKeys }

func TestMissingKeysSendNothing(t *testing.T) {
	t.Parallel()
	sim := simulated(t, ncptest.Config{})
	var w watcher
	err := changesOf(t, certificateManagerAt(t, sim.URL(), retries(3), observed(&w), func(c *Config) { c.Credentials = noKeys{} }))
	wantReason(t, err, ErrCredentials)
	if !errors.Is(err, ErrNoKeys) {
		t.Errorf("the cause is lost: %v", err)
	}
	if done, retried := w.seen(); len(done) != 0 || retried != 0 || len(sim.Requests()) != 0 {
		t.Errorf("observed %v, retried %d, sent %v", done, retried, sim.Requests())
	}
}
