package ncptest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen})
	tests := []struct {
		name    string
		handler http.Handler
		status  int
		origin  string
		body    string
		header  map[string]string
	}{
		{
			name: "gateway", handler: GatewayError(503, "500", "Endpoint Error"), status: 503, origin: "APIGW",
			body: `{"error":{"errorCode":"500","message":"Endpoint Error"}}`,
		},
		{
			name: "throttled", handler: Throttled("3"), status: 429, origin: "APIGW", header: map[string]string{"Retry-After": "3"},
			body: `{"error":{"errorCode":"410","message":"Throttle Limited"}}`,
		},
		{
			name: "throttled without a time", handler: Throttled(""), status: 429, origin: "APIGW", header: map[string]string{"Retry-After": ""},
			body: `{"error":{"errorCode":"410","message":"Throttle Limited"}}`,
		},
		{name: "flat", handler: FlatError(400, 9011, "no"), status: 400, origin: "ENDPOINT", body: `{"errorCode":9011,"message":"no"}`},
		{name: "return code with 200", handler: ReturnCode(200, "2000", "no"), status: 200, origin: "ENDPOINT", body: `{"returnCode":"2000","returnMessage":"no"}`},
		{name: "return code with 400", handler: ReturnCode(400, "2100", "no"), status: 400, origin: "ENDPOINT", body: `{"returnCode":"2100","returnMessage":"no"}`},
		{name: "response error", handler: ResponseError(500, "1", "<no>"), status: 500, origin: "ENDPOINT", body: `{"responseError":{"returnCode":"1","returnMessage":"\u003cno\u003e"}}`},
		{
			name: "spring", handler: SpringError(401, "COMMON_999", "no"), status: 401, origin: "ENDPOINT",
			body: `{"timestamp":"2026-11-22T18:00:00.000+09:00","status":401,"error":"UNAUTHORIZED","message":"no","code":"COMMON_999"}`,
		},
		{
			name: "xml", handler: XMLError(403, "210", "a<b"), status: 403, origin: "APIGW",
			header: map[string]string{"Content-Type": "application/xml;charset=UTF-8"},
			body:   `<?xml version="1.0" encoding="UTF-8"?><error><errorCode>210</errorCode><message>a&lt;b</message></error>`,
		},
		{name: "empty", handler: EmptyBody(500), status: 500, header: map[string]string{"Content-Type": "", "Content-Length": "0"}},
		{name: "empty forbidden", handler: EmptyForbidden(), status: 403, origin: "ENDPOINT", header: map[string]string{"Content-Type": ""}},
		{name: "no return code", handler: NoReturnCode(), status: 200, body: `{"returnMessage":"Success","totalCount":0,"orders":[]}`},
		{name: "not JSON", handler: NotJSON(), status: 200, body: "OK"},
		{name: "raw", handler: Raw(299, "text/x", "y"), status: 299, body: "y", header: map[string]string{"Content-Type": "text/x"}},
		{name: "nested", handler: Nested(3), status: 200, body: `{"returnCode":"0","content":[[[]]]}`},
		{name: "redirect", handler: Redirect("http://127.0.0.1:1/"), status: 302, header: map[string]string{"Location": "http://127.0.0.1:1/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.SetFault(Always(tt.handler))
			a := get(t, s, changesPath)
			if a.status != tt.status || a.header.Get(headerOrigin) != tt.origin {
				t.Errorf("%d from %q", a.status, a.header.Get(headerOrigin))
			}
			if diff := cmp.Diff(tt.body, a.body); diff != "" {
				t.Error(diff)
			}
			for name, want := range tt.header {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			log := s.Requests()
			if got := log[len(log)-1].Status; got != tt.status {
				t.Errorf("logged status %d", got)
			}
		})
	}

	s.SetFault(Always(HTMLPage(502)))
	if a := get(t, s, changesPath); a.status != 502 || !strings.Contains(a.body, "<h1>502 Bad Gateway</h1>") {
		t.Errorf("%v", a)
	}
	s.SetFault(Always(GatewayErrorDetails(401, 210, "Permission Denied", "why")))
	a := get(t, s, changesPath)
	want := `{"error":{"errorCode":210,"message":"Permission Denied","details":"why","requestId":"` + a.header.Get("x-ncp-trace-id") + `"}}`
	if a.body != want {
		t.Errorf("%s, want %s", a.body, want)
	}
	s.SetFault(nil)
	if a := get(t, s, changesPath); a.status != http.StatusOK {
		t.Errorf("well again: %v", a)
	}
}

// The answers that break off, and what a client sees of them.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Now: frozen})
	s.AddCredentials("s1", history(20)...)
	whole := get(t, s, credentialsPath).body
	ask := func() (answered, error) {
		return do(signed(t.Context(), t, s.URL()+credentialsPath, s.Key(), start()))
	}

	s.SetFault(Always(CutShort()))
	if a, err := ask(); !errors.Is(err, io.ErrUnexpectedEOF) || a.body != whole[:len(whole)/2] || a.status != 200 {
		t.Errorf("cut short: %d bytes of %d, %v", len(a.body), len(whole), err)
	}
	s.SetFault(Always(CutClean()))
	if a, err := ask(); err != nil || a.body != whole[:len(whole)/2] {
		t.Errorf("cut clean: %d bytes of %d, %v", len(a.body), len(whole), err)
	}
	s.SetFault(Always(Reset()))
	if _, err := ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	s.SetFault(Always(HugeHeader(2 << 20)))
	if a, err := ask(); err != nil || len(a.header.Get("X-Padding")) != 2<<20 || a.body != whole {
		// Go's transport takes up to 10 MiB of headers.
		t.Errorf("huge header: %v", err)
	}
	if got := s.Count(Credentials); got != 5 {
		t.Errorf("%d requests: a client has retried by itself", got)
	}
}

// The answers that never end, and whether they end with their client.
func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	for name, h := range map[string]http.Handler{"hang": Hang(), "drip": Drip()} {
		s.SetFault(Always(h))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		a, err := do(signed(ctx, t, s.URL()+subjectsPath, s.Key(), time.Now()))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "drip" && !strings.HasPrefix(a.body, "{ ") {
			t.Errorf("dripped %q", a.body)
		}
	}
}

func TestHuge(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	for _, path := range []string{changesPath, subjectsPath, credentialsPath} {
		for _, n := range []int64{0, 1, 70, 200, 201, 400, 65536, 1<<20 + 7} {
			s.SetFault(Always(Huge(n)))
			a := get(t, s, path)
			if int64(len(a.body)) != n || a.header.Get("Content-Length") != "" && n > 4096 {
				t.Errorf("%s: %d bytes, want %d", path, len(a.body), n)
			}
			if n > 300 && !json.Valid([]byte(a.body)) {
				t.Errorf("%s: %d bytes are not JSON", path, n)
			}
		}
	}

	s.SetFault(Always(GzipBomb(10 << 20)))
	r := signed(t.Context(), t, s.URL()+subjectsPath, s.Key(), time.Now())
	r.Header.Set("Accept-Encoding", "gzip") // makes the transport leave it packed
	a, err := do(r)
	if err != nil || len(a.body) > 100<<10 || a.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%d bytes, %v", len(a.body), err)
	}
	z, err := gzip.NewReader(bytes.NewReader([]byte(a.body)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, z); err != nil || n != 10<<20 { //nolint:gosec // the bomb is ours
		t.Errorf("%d bytes, %v", n, err)
	}
}

// Faults outside of a Server, where nothing is known of the request.
func TestFaultsAlone(t *testing.T) {
	t.Parallel()
	r := signed(t.Context(), t, "http://127.0.0.1/x", Key{}, start())
	for name, h := range map[string]http.Handler{
		"clean": CutClean(), "spring": SpringError(500, "X", "y"), "huge": Huge(1000), "details": GatewayErrorDetails(500, 900, "x", "y"),
	} {
		kept := keeper{header: http.Header{}, status: 200}
		h.ServeHTTP(&kept, r)
		if kept.body.Len() == 0 {
			t.Errorf("%s: nothing", name)
		}
	}
}

func TestFaultChoice(t *testing.T) {
	t.Parallel()
	h, other := EmptyBody(1), EmptyBody(2)
	hit := func(f Fault, r Request) bool { return f(r) != nil }
	tests := []struct {
		name  string
		fault Fault
		yes   []Request
		no    []Request
	}{
		{"always", Always(h), []Request{{}, {Op: Subjects}}, nil},
		{"operation", ForOp(Subjects, h), []Request{{Op: Subjects}}, []Request{{}, {Op: Credentials}}},
		{"subject", ForSubject("a", h), []Request{{Op: Credentials, SubjectID: "a"}}, []Request{{Op: Credentials, SubjectID: "b"}, {Op: Subjects}}},
		{"page", ForPage(Credentials, 2, h), []Request{{Op: Credentials, Page: 2}}, []Request{{Op: Credentials, Page: 1}, {Op: Subjects, Page: 2}}},
		{"times", Times(2, ForOp(Subjects, h)), []Request{{Op: Subjects}, {Op: Subjects}}, []Request{{Op: Subjects}, {Op: Credentials}}},
		{"first of", FirstOf(ForOp(Subjects, h), ForOp(Credentials, other)), []Request{{Op: Subjects}, {Op: Credentials}}, []Request{{Op: RecentChanges}}},
		{"one in none", OneIn(0, 1, h), nil, []Request{{}}},
		{"one of nothing", OneIn(1, 1), nil, []Request{{}}},
	}
	for _, tt := range tests {
		for i, r := range tt.yes {
			if !hit(tt.fault, r) {
				t.Errorf("%s: missed request %d", tt.name, i)
			}
		}
		for i, r := range tt.no {
			if hit(tt.fault, r) {
				t.Errorf("%s: hit request %d", tt.name, i)
			}
		}
	}

	const requests = 10000
	var runs [2][]int
	for i := range runs {
		f := OneIn(10, 42, h, other)
		for n := 1; n <= requests; n++ {
			if hit(f, Request{Op: Credentials, N: n}) {
				runs[i] = append(runs[i], n)
			}
		}
	}
	if !cmp.Equal(runs[0], runs[1]) {
		t.Error("not the same twice")
	}
	if n := len(runs[0]); n < requests/12 || n > requests/8 {
		t.Errorf("hit %d of %d", n, requests)
	}
}

// A fault comes before the signature is looked at.
func TestFaultBeforeSignature(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	s.SetFault(Always(EmptyBody(500)))
	a, err := do(signed(t.Context(), t, s.URL()+subjectsPath, Key{AccessKey: "x"}, time.Now()))
	if err != nil || a.status != http.StatusInternalServerError || s.Unsigned() != 0 || s.Count(Subjects) != 1 {
		t.Errorf("%v, %v", a, err)
	}
}
