package ncptest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// start is the instant at which the tests' fixed clocks stand.
func start() time.Time { return time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC) }

func frozen() time.Time { return start() }

// run starts a server and sees to its end.
func run(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	s := New(cfg)
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// signed is a GET as a good client sends it.
func signed(ctx context.Context, tb testing.TB, url string, key Key, at time.Time) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	timestamp := strconv.FormatInt(at.UnixMilli(), 10)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("x-ncp-apigw-timestamp", timestamp)
	r.Header.Set("x-ncp-iam-access-key", key.AccessKey)
	r.Header.Set("x-ncp-apigw-signature-v2", signature(key, r.URL.RequestURI(), timestamp))
	return r
}

func signature(key Key, uri, timestamp string) string {
	mac := hmac.New(sha256.New, []byte(key.SecretKey))
	mac.Write([]byte("GET " + uri + "\n" + timestamp + "\n" + key.AccessKey))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// answered is a whole answer.
type answered struct {
	status int
	header http.Header
	body   string
}

// do sends a request over a connection of its own.
func do(r *http.Request) (answered, error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	return doWith(transport, r)
}

func doWith(transport http.RoundTripper, r *http.Request) (answered, error) {
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return answered{response.StatusCode, response.Header, string(body)}, err
}

// get asks a server with a good signature.
func get(tb testing.TB, s *Server, path string) answered {
	tb.Helper()
	a, err := do(signed(tb.Context(), tb, s.URL()+path, s.Key(), s.settings.Load().Now()))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// pageAnswer is a page of either kind.
type pageAnswer struct {
	PageNo, TotalElements, PageSize int
	Content                         []struct {
		SubjectID    string `json:"subjectId"`
		SerialNumber string `json:"serialNumber"`
		Failed       *bool  `json:"failed"`
		SeenTime     string `json:"seenTime"`
	}
}

func getPage(tb testing.TB, s *Server, path string) pageAnswer {
	tb.Helper()
	a := get(tb, s, path)
	if a.status != http.StatusOK {
		tb.Fatalf("%s: status %d: %s", path, a.status, a.body)
	}
	var p pageAnswer
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return p
}

func (p *pageAnswer) serials() []string {
	serials := make([]string, 0, len(p.Content))
	for _, row := range p.Content {
		serials = append(serials, row.SerialNumber)
	}
	return serials
}
