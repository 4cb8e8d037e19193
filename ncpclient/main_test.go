package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ncp_exporter/ncpclient/ncptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulated is an NCP on loopback.
func simulated(tb testing.TB, cfg ncptest.Config) *ncptest.Server {
	tb.Helper()
	s := ncptest.New(cfg)
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

// bubbled is an NCP behind pipes instead of a network, for a synctest bubble:
// the same HTTP over the same transport, in the bubble's time. It is reached
// through the transport, whatever the address.
func bubbled(tb testing.TB, cfg ncptest.Config) (*ncptest.Server, *http.Transport) {
	tb.Helper()
	s := ncptest.New(cfg)
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Hour}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // http.ErrServerClosed
	}()
	transport := NewTransport(10, nil)
	transport.DialContext = l.dial
	tb.Cleanup(func() {
		_ = server.Close()
		<-served
		transport.CloseIdleConnections()
	})
	return s, transport
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// served is a plain loopback server of a test's own.
func served(tb testing.TB, h http.Handler) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL
}

// with changes a Config of a test.
type with func(*Config)

func newConfig(tb testing.TB, base string, changes []with) Config {
	tb.Helper()
	cfg := Config{BaseURL: base, Credentials: demoKeys()}
	for _, change := range changes {
		change(&cfg)
	}
	if cfg.Transport == nil {
		transport := NewTransport(10, nil)
		tb.Cleanup(transport.CloseIdleConnections)
		cfg.Transport = transport
	}
	return cfg
}

func demoKeys() Credentials {
	return StaticCredentials(Keys{AccessKey: ncptest.DemoAccessKey, SecretKey: ncptest.DemoSecretKey}, "test")
}

const bubbleURL = "http://127.0.0.1"

func through(rt http.RoundTripper) with { return func(c *Config) { c.Transport = rt } }
func retries(n int) with                { return func(c *Config) { c.MaxRetries = n } }
func observed(o Observer) with          { return func(c *Config) { c.Observer = o } }

// certificateManagerAt is a client of a server at a URL without a path.
func certificateManagerAt(tb testing.TB, server string, changes ...with) *CertificateManager {
	tb.Helper()
	c, err := NewCertificateManager(newConfig(tb, server+"/api/v2", changes))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// externalAccessAt is a client of a server at a URL without a path.
func externalAccessAt(tb testing.TB, server string, changes ...with) *ExternalAccess {
	tb.Helper()
	c, err := NewExternalAccess(newConfig(tb, server+"/api/v1", changes))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// changesOf asks for the changes of an hour and returns the error only.
func changesOf(tb testing.TB, c *CertificateManager) error {
	tb.Helper()
	_, err := c.RecentChanges(tb.Context(), time.Hour)
	return err
}

// changesAtOnce asks so many times at one time, and no answer may be an error.
func changesAtOnce(tb testing.TB, c *CertificateManager, n int) {
	tb.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := changesOf(tb, c); err != nil {
				tb.Error(err)
			}
		})
	}
	wg.Wait()
}

// roundTripFunc is a transport without a network.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is an answer without a network: name and value of headers in turn.
func answer(r *http.Request, status int, body string, headers ...string) *http.Response {
	h := make(http.Header)
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

// decodeHistory reads a page of credentials without a network.
func decodeHistory(resp *http.Response, body io.Reader, number, size int) (CredentialsPage, error) {
	presented := new(PresentedCertificate)
	page, err := decodePage(externalAccessNames(), resp, body, number, size, func(clock time.Time) rowDecoder[Credential] {
		return decodeCredentials(clock, presented)
	})
	if presented.SeenTime.IsZero() {
		presented = nil
	}
	return CredentialsPage{page, presented}, err
}

// say writes to a client, or to one that has gone.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

const noChanges = `{"returnCode":"0","returnMessage":"Success","totalCount":0,"orders":[]}`

// watcher is an Observer that remembers.
type watcher struct {
	mu      sync.Mutex
	done    []Observation
	retried int
}

func (w *watcher) RequestDone(o Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, o)
}

func (w *watcher) RequestRetried(string, Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retried++
}

func (w *watcher) seen() ([]Observation, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Observation(nil), w.done...), w.retried
}

// asError is the *Error that a call must have failed with.
func asError(tb testing.TB, err error) *Error {
	tb.Helper()
	var e *Error
	if !errors.As(err, &e) {
		tb.Fatalf("not an *Error: %v", err)
	}
	return e
}

// wantReason says that a call failed for a reason, in one line. What it returns
// is a value, so that it need not be looked at.
func wantReason(tb testing.TB, err error, want Reason) Error {
	tb.Helper()
	e := asError(tb, err)
	if e.Reason != want || !errors.Is(err, want) {
		tb.Fatalf("reason %q, want %q: %v", e.Reason, want, err)
	}
	if text := err.Error(); strings.ContainsAny(text, "\n\r\t\x00") || !strings.HasSuffix(text, string(want)) {
		tb.Errorf("not one line that ends with what to do: %q", text)
	}
	return *e
}
