package ncptest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	changesPath     = "/api/v2/certificate/recentChanges?minutes=60"
	subjectsPath    = "/api/v1/subjects"
	credentialsPath = "/api/v1/subjects/s1/credentials"
)

func TestGateway(t *testing.T) {
	t.Parallel()
	main := Key{AccessKey: "main", SecretKey: "s3cret"}
	sub := Key{AccessKey: "sub", SecretKey: "s3cret", SubAccount: true}
	denied := Key{AccessKey: "denied", SecretKey: "s3cret", Denied: []Operation{Subjects}}
	s := run(t, Config{Now: frozen, Keys: []Key{main, sub, denied}})
	s.AddCredentials("s1", NewCredential(start(), "1", false))
	s.AddCredentials("a/b c", NewCredential(start(), "1", false))

	authFailed := func(why string) string {
		return `{"error":{"errorCode":"200","message":"Authentication Failed: ` + why + `"}}`
	}
	tests := []struct {
		name     string
		path     string
		key      Key
		at       time.Duration
		change   func(*http.Request)
		status   int
		origin   string
		body     string // contained; "" means anything, "-" nothing
		unsigned bool
	}{
		{name: "good", path: changesPath, status: 200, origin: "ENDPOINT", body: `"returnCode":"0"`},
		{name: "escaped id", path: "/api/v1/subjects/a%2Fb%20c/credentials?page=0", status: 200, origin: "ENDPOINT", body: `"totalElements":1`},
		{name: "unknown path", path: "/api/v1/nothing", status: 404, origin: "APIGW", body: `{"error":{"errorCode":"300",`},
		{name: "v1 has no recentChanges", path: "/api/v1/certificate/recentChanges?minutes=1", status: 404, origin: "APIGW", body: `"300"`},
		{name: "method", path: subjectsPath, change: func(r *http.Request) { r.Method = http.MethodPost }, status: 404, origin: "APIGW", body: `"300"`},
		{name: "no signature", path: subjectsPath, change: func(r *http.Request) { r.Header.Del(headerSignature) }, status: 401, origin: "APIGW", body: authFailed("a signing header is missing."), unsigned: true},
		{name: "no timestamp", path: subjectsPath, change: func(r *http.Request) { r.Header.Del(headerTimestamp) }, status: 401, origin: "APIGW", body: authFailed("a signing header is missing."), unsigned: true},
		{name: "no access key", path: subjectsPath, change: func(r *http.Request) { r.Header.Del(headerAccessKey) }, status: 401, origin: "APIGW", body: authFailed("a signing header is missing."), unsigned: true},
		{name: "unknown key", path: subjectsPath, key: Key{AccessKey: "nobody", SecretKey: "s3cret"}, status: 401, origin: "APIGW", body: authFailed("Invalid access key."), unsigned: true},
		{name: "wrong secret", path: subjectsPath, key: Key{AccessKey: "main", SecretKey: "wrong"}, status: 401, origin: "APIGW", body: authFailed("Invalid signature."), unsigned: true},
		{name: "query not signed", path: subjectsPath, change: func(r *http.Request) { r.URL.RawQuery = "page=1" }, status: 401, origin: "APIGW", body: authFailed("Invalid signature."), unsigned: true},
		{name: "seconds", path: subjectsPath, change: func(r *http.Request) { r.Header.Set(headerTimestamp, strconv.FormatInt(start().Unix(), 10)) }, status: 401, origin: "APIGW", body: authFailed("Expired timestamp."), unsigned: true},
		{name: "no number", path: subjectsPath, change: func(r *http.Request) { r.Header.Set(headerTimestamp, "now") }, status: 401, origin: "APIGW", body: authFailed("Invalid timestamp."), unsigned: true},
		{name: "clock 5 min behind", path: subjectsPath, at: -5 * time.Minute, status: 200, origin: "ENDPOINT"},
		{name: "clock 5 min ahead", path: subjectsPath, at: 5 * time.Minute, status: 200, origin: "ENDPOINT"},
		{name: "clock too far behind", path: subjectsPath, at: -5*time.Minute - time.Millisecond, status: 401, origin: "APIGW", body: authFailed("Expired timestamp."), unsigned: true},
		{name: "clock too far ahead", path: subjectsPath, at: 5*time.Minute + time.Millisecond, status: 401, origin: "APIGW", body: authFailed("Expired timestamp."), unsigned: true},
		{name: "denied", path: subjectsPath, key: denied, status: 401, origin: "APIGW", body: `{"error":{"errorCode":"210",`},
		{name: "denied elsewhere only", path: changesPath, key: denied, status: 200, origin: "ENDPOINT"},
		{name: "no Accept", path: subjectsPath, change: func(r *http.Request) { r.Header.Del("Accept") }, status: 400, origin: "APIGW", body: `{"error":{"errorCode":"100",`},
		{name: "wrong Accept", path: subjectsPath, change: func(r *http.Request) { r.Header.Set("Accept", "*/*") }, status: 400, origin: "APIGW", body: `{"error":{"errorCode":"100",`},
		{name: "no Content-Type on Certificate Manager", path: changesPath, change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 400, origin: "APIGW", body: `{"error":{"errorCode":"100",`},
		{name: "no Content-Type on External Access", path: subjectsPath, change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 200, origin: "ENDPOINT"},
		{name: "sub account on Certificate Manager", path: changesPath, key: sub, status: 403, origin: "ENDPOINT", body: "-"},
		{name: "sub account on External Access", path: subjectsPath, key: sub, status: 200, origin: "ENDPOINT"},
		{name: "neither minutes nor seconds", path: "/api/v2/certificate/recentChanges", status: 400, origin: "ENDPOINT", body: `{"returnCode":"2101",`},
		{name: "both", path: changesPath + "&seconds=1", status: 200, origin: "ENDPOINT", body: `{"returnCode":"0","returnMessage":"Success","totalCount":0,"orders":[]}`},
		{name: "minutes 0", path: "/api/v2/certificate/recentChanges?minutes=0", status: 400, origin: "ENDPOINT", body: `{"returnCode":"2100",`},
		{name: "minutes at most", path: "/api/v2/certificate/recentChanges?minutes=10080", status: 200, origin: "ENDPOINT"},
		{name: "minutes over", path: "/api/v2/certificate/recentChanges?minutes=10081", status: 400, origin: "ENDPOINT", body: `{"returnCode":"2100",`},
		{name: "seconds at most", path: "/api/v2/certificate/recentChanges?seconds=604800", status: 200, origin: "ENDPOINT"},
		{name: "seconds over", path: "/api/v2/certificate/recentChanges?seconds=604801", status: 400, origin: "ENDPOINT", body: `{"returnCode":"2100",`},
		{name: "seconds no number", path: "/api/v2/certificate/recentChanges?seconds=1h", status: 400, origin: "ENDPOINT", body: `{"returnCode":"2100",`},
		{name: "unknown subject", path: "/api/v1/subjects/none/credentials", status: 404, origin: "ENDPOINT", body: `"status":404,"error":"NOT_FOUND","message":"The subject does not exist.","code":"COMMON_404"}`},
		{name: "page no number", path: subjectsPath + "?page=x", status: 400, origin: "ENDPOINT", body: `"status":400,"error":"BAD_REQUEST"`},
		{name: "page below 0", path: subjectsPath + "?page=-1", status: 400, origin: "ENDPOINT", body: `"status":400`},
		{name: "size 0", path: subjectsPath + "?size=0", status: 400, origin: "ENDPOINT", body: `"status":400`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { // one after another: Unsigned is compared
			key := tt.key
			if key.AccessKey == "" {
				key = main
			}
			r := signed(t.Context(), t, s.URL()+tt.path, key, start().Add(tt.at))
			if tt.change != nil {
				tt.change(r)
			}
			before := s.Unsigned()
			a, err := do(r)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != tt.status || a.header.Get("x-ncp-apigw-response-origin") != tt.origin {
				t.Errorf("status %d from %q, want %d from %q: %s", a.status, a.header.Get(headerOrigin), tt.status, tt.origin, a.body)
			}
			switch {
			case tt.body == "-" && a.body != "":
				t.Errorf("body %q, want none", a.body)
			case tt.body != "-" && !strings.Contains(a.body, tt.body):
				t.Errorf("body %q, want %q in it", a.body, tt.body)
			}
			if a.body != "" && !json.Valid([]byte(a.body)) {
				t.Errorf("not JSON: %q", a.body)
			}
			if got := a.header.Get("Date"); got != start().Format(http.TimeFormat) {
				t.Errorf("Date %q is not the gateway's clock", got)
			}
			if a.header.Get("x-ncp-trace-id") == "" {
				t.Error("no trace id")
			}
			if refused := s.Unsigned() > before; refused != tt.unsigned {
				t.Errorf("counted as unsigned: %v, want %v", refused, tt.unsigned)
			}
		})
	}
}

// The vectors of the API facts, two of which have paths that exist here.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	key := Key{AccessKey: "TestAccessKey", SecretKey: "TestSecretKey"}
	s := run(t, Config{Keys: []Key{key}, Now: func() time.Time { return time.UnixMilli(1700000000000) }})
	s.PutSubject(Subject{SubjectID: "c2dea79b-0000-0000-0000-c162618da17d"})
	for uri, want := range map[string]string{ //nolint:gosec // published test vectors
		"/api/v2/certificate/recentChanges?minutes=60":                                     "+oTzlHsAvlRWPo3KnEdVq3rOVD909KniAfxIlfI6aps=",
		"/api/v1/subjects/c2dea79b-0000-0000-0000-c162618da17d/credentials?page=0&size=20": "Uso5xm9wkSjBBt2vlL/4G6l9gR54n15CIhyswhX7rpw=",
	} {
		r := signed(t.Context(), t, s.URL()+uri, key, time.UnixMilli(1700000000000))
		r.Header.Set(headerSignature, want)
		if a, err := do(r); err != nil || a.status != http.StatusOK {
			t.Errorf("%s: %v, %v", uri, a, err)
		}
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	former := s.Key()
	if want := (Key{AccessKey: DemoAccessKey, SecretKey: DemoSecretKey}); !cmp.Equal(former, want) {
		t.Fatalf("the default key is %v", former)
	}
	s.SetKeys(Key{AccessKey: "next", SecretKey: "one"})
	a, err := do(signed(t.Context(), t, s.URL()+subjectsPath, former, time.Now()))
	if err != nil || a.status != http.StatusUnauthorized {
		t.Errorf("the former key: %v, %v", a, err)
	}
	if a := get(t, s, subjectsPath); a.status != http.StatusOK {
		t.Errorf("the next key: %v", a)
	}
	s.SetKeys()
	if s.Key().AccessKey != "" || s.settings.Load().keys[""].SecretKey != "" {
		t.Error("keys are left")
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := run(t, Config{RateLimit: 1e-6, RateBurst: 2, RetryAfter: 1500 * time.Millisecond})
	statuses := make([]int, 0, 3)
	var last answered
	for range 3 {
		last = get(t, s, subjectsPath)
		statuses = append(statuses, last.status)
	}
	if diff := cmp.Diff([]int{200, 200, 429}, statuses); diff != "" {
		t.Error(diff)
	}
	if last.header.Get("Retry-After") != "2" || !strings.Contains(last.body, `"errorCode":"420"`) {
		t.Errorf("%v", last)
	}
	s.Configure(func(c *Config) { c.RateLimit = 0 })
	if a := get(t, s, subjectsPath); a.status != http.StatusOK {
		t.Errorf("without a limit: %v", a)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Latency: 30 * time.Millisecond})
	began := time.Now()
	get(t, s, subjectsPath)
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	s.Configure(func(c *Config) { c.Latency = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	s.OnRequest(func(Request) { cancel() })
	if _, err := do(signed(ctx, t, s.URL()+subjectsPath, s.Key(), time.Now())); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen, LogSize: 3})
	s.PutSubject(Subject{SubjectID: "s1"})
	if len(s.Requests()) != 0 {
		t.Error("a log before the first request")
	}
	for _, path := range []string{"/lost", changesPath, subjectsPath + "?page=2&size=7", credentialsPath, "/api/v1/subjects/none/credentials?page=x"} {
		get(t, s, path)
	}
	access := s.Key().AccessKey
	want := []Request{
		{Op: Subjects, Page: 2, Size: 7, N: 1, Time: start(), Status: 200, Query: "page=2&size=7", AccessKey: access},
		{Op: Credentials, SubjectID: "s1", Size: 20, N: 1, Time: start(), Status: 200, AccessKey: access},
		{Op: Credentials, SubjectID: "none", Page: -1, Size: 20, N: 2, Time: start(), Status: 400, Query: "page=x", AccessKey: access},
	}
	if diff := cmp.Diff(want, s.Requests()); diff != "" {
		t.Error(diff)
	}
	counts := []int{s.Count(RecentChanges), s.Count(Subjects), s.Count(Credentials), s.Count("")}
	if diff := cmp.Diff([]int{1, 1, 2, 1}, counts); diff != "" {
		t.Error(diff)
	}
	s.ResetStats()
	if len(s.Requests()) != 0 || s.Count(Credentials) != 0 || s.Unsigned() != 0 || s.MaxInFlight() != 0 {
		t.Error("something is left after ResetStats")
	}
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	const together = 5
	s := run(t, Config{})
	var here sync.WaitGroup // all are there at the same time
	here.Add(together)
	s.OnRequest(func(Request) {
		here.Done()
		here.Wait()
	})
	var done sync.WaitGroup
	for range together {
		done.Go(func() {
			if _, err := do(signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now())); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if got := s.MaxInFlight(); got != together {
		t.Errorf("%d in flight, want %d", got, together)
	}

	// A client that sends one request after another is never seen as two.
	s.OnRequest(nil)
	s.AddCredentials("s1", history(2000)...)
	s.ResetStats()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for range 50 {
		if _, err := doWith(transport, signed(t.Context(), t, s.URL()+credentialsPath+"?size=2000", s.Key(), time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.MaxInFlight(); got != 1 {
		t.Errorf("%d in flight, want 1", got)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	certPEM, err := s.StartTLS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certPEM) {
		t.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	ask := func() (answered, error) {
		return doWith(transport, signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now()))
	}
	if a, err := ask(); err != nil || a.status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
	s.SetFault(Always(Reset()))
	if a, err := ask(); err == nil {
		t.Errorf("an answer over a connection that was reset: %v", a)
	}
	if _, err := do(signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now())); err == nil {
		t.Error("trusted without its certificate")
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	if s.URL() != "" {
		t.Errorf("URL %q before Start", s.URL())
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close before Start: %v", err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err == nil {
		t.Error("started twice")
	}
	url := s.URL()
	if s.CertificateManagerURL() != url+"/api/v2" || s.ExternalAccessURL() != url+"/api/v1" {
		t.Errorf("base URLs %s and %s", s.CertificateManagerURL(), s.ExternalAccessURL())
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := do(signed(t.Context(), t, url+subjectsPath, s.Key(), time.Now())); err == nil {
		t.Error("an answer after Close")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("came back at %s, was at %s", s.URL(), url)
	}
	if a := get(t, s, subjectsPath); a.status != http.StatusOK {
		t.Errorf("%v", a)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Close ends at once whatever hangs, and takes the idle connections with it.
func TestCloseIsPrompt(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.Handler{"hang": Hang(), "drip": Drip(), "latency": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clients = 4
			s := run(t, Config{})
			get(t, s, subjectsPath)
			if h == nil {
				s.Configure(func(c *Config) { c.Latency = time.Hour })
			} else {
				s.SetFault(Always(h))
			}
			var arrived, ended sync.WaitGroup
			arrived.Add(clients)
			s.OnRequest(func(Request) { arrived.Done() })
			for range clients {
				ended.Go(func() {
					if a, err := do(signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now())); err == nil {
						t.Errorf("a whole answer: %v", a)
					}
				})
			}
			idle, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = idle.Close() }()
			arrived.Wait()
			began := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > closeGrace/2 {
				t.Errorf("Close took %v", took)
			}
			ended.Wait()
		})
	}
}

// A hook may take the server down in the middle of a read.
func TestCloseInHook(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	s.OnRequest(func(Request) { _ = s.Close() })
	if a, err := do(signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now())); err == nil {
		t.Errorf("an answer from a closed server: %v", a)
	}
}

// Everything at once, for the race detector.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Order: NoOrder, LogSize: 10})
	s.AddCredentials("s1", history(100)...)
	s.SetFault(OneIn(5, 1, EmptyBody(500), Reset(), CutShort()))
	s.OnRequest(func(r Request) {
		s.AddCredentials("s1", NewCredential(time.Now(), fmt.Sprint(r.Op, r.N), false))
		s.TrimCredentials("s1", 50)
		s.AddChanges(Change{OrderID: "1"})
		s.PutSubject(Subject{SubjectID: "s2"})
		s.Configure(func(c *Config) { c.Order = Order(r.N % 3) })
		_, _ = s.Requests(), s.CredentialCount("s1")
	})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for i := range 30 {
				path := []string{changesPath, subjectsPath, credentialsPath}[i%3]
				_, _ = doWith(transport, signed(t.Context(), t, s.URL()+path, s.Key(), time.Now()))
			}
		})
	}
	done.Wait()
	if n := s.Count(Credentials); n < 40 {
		t.Errorf("%d requests", n)
	}
}
