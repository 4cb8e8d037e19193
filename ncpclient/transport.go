package ncpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxBodyBytes   = 32 << 20 // of an answer, after decompression
	maxHeaderBytes = 256 << 10
)

// NewTransport returns the pooled transport that sends the requests of all
// APIs. proxy picks a proxy for a request; nil is none.
func NewTransport(maxIdleConnsPerHost int, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	// One HTTP/2 connection would put all requests of an API behind whichever
	// of them hangs; the concurrency here is small, so HTTP/1.1 costs nothing.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    maxIdleConnsPerHost,
		IdleConnTimeout:        90 * time.Second,
		WriteBufferSize:        1 << 10, // a request has no body
		ReadBufferSize:         2 << 10, // for the header; a body is read past it
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              &protocols,
	}
}

// chain is what a request passes, from the inside out: whatever goes over the wire has
// passed each of them, once. A round tripper that holds something until the body was
// read (a slot in flight, a timer) lets go of it when the body is closed.
func chain(api string, cfg Config) *limit {
	var rt http.RoundTripper = &noAutoRetry{next: cfg.Transport}
	rt = &boundBody{next: rt, limit: maxBodyBytes}
	rt = &observe{next: rt, api: api, observer: cfg.Observer, now: cfg.Now}
	rt = &signer{next: rt, credentials: cfg.Credentials, now: cfg.Now}
	rt = &timeout{next: rt, timeout: cfg.Timeout}
	return newLimit(rt, cfg)
}

// errRequestTimeout is the end of one request, as against that of the whole call.
var errRequestTimeout = errors.New("the request took longer than the timeout of one request")

type timeout struct {
	next    http.RoundTripper
	timeout time.Duration
}

func (t *timeout) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), t.timeout, errRequestTimeout)
	// explain says whose time was over, where that is why it failed.
	explain := func(err error) error {
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errRequestTimeout):
			return fmt.Errorf("%w (%s)", cause, t.timeout)
		case cause != nil:
			return cause
		default:
			return err
		}
	}
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		err = explain(err)
		cancel()
		return nil, err
	}
	resp.Body = &hookedBody{ReadCloser: resp.Body, readErr: explain, closed: func(error) { cancel() }}
	return resp, nil
}

// Observation is what is known of one HTTP request after its end.
type Observation struct {
	API       string // APICertificateManager or APIExternalAccess
	Operation Operation
	URL       string        // what was asked for, without a password
	Status    int           // the HTTP status; 0 if no whole answer came
	Duration  time.Duration // from the start of sending to the end of the body
	// ClockOffset is the Date header of the answer less this machine's clock,
	// exact to a second; HasClockOffset is false if there was no such header.
	ClockOffset    time.Duration
	HasClockOffset bool
}

// Observer is told of each HTTP request that was sent and of each decision to
// send one again. Its methods are called from many goroutines.
type Observer interface {
	RequestDone(Observation)
	RequestRetried(api string, op Operation)
}

type observe struct {
	next     http.RoundTripper
	api      string
	observer Observer
	now      func() time.Time
}

func (t *observe) RoundTrip(req *http.Request) (*http.Response, error) {
	start := t.now()
	o := Observation{API: t.api, Operation: callOf(req.Context()).operation, URL: req.URL.Redacted()}
	done := func(err error) {
		if err != nil {
			o.Status = 0
		}
		o.Duration = t.now().Sub(start)
		t.observer.RequestDone(o)
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		done(err)
		return nil, err
	}
	o.Status = resp.StatusCode
	o.ClockOffset, o.HasClockOffset = clockOffset(resp, t.now())
	resp.Body = &hookedBody{ReadCloser: resp.Body, closed: done}
	return resp, nil
}

func clockOffset(resp *http.Response, now time.Time) (time.Duration, bool) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	// The header has whole seconds. Compare it with the whole second here, or
	// two clocks that agree would seem half a second apart.
	return date.Sub(now.Truncate(time.Second)), true
}

// boundBody ends a body that is larger than any answer can rightly be, and lets a
// wait for it end with the request's context, whatever the body is. Most bodies of
// net/http do that by themselves. That of 101 (Switching Protocols) is the bare
// connection, which has no end and knows no context: it is taken away.
type boundBody struct {
	next  http.RoundTripper
	limit int64
}

func (b *boundBody) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // nothing of it is of use
		resp.Body = http.NoBody
		return resp, nil
	}
	body := resp.Body
	stop := context.AfterFunc(req.Context(), func() { _ = body.Close() }) // the read that it ends has the error
	resp.Body = http.MaxBytesReader(nil, &hookedBody{ReadCloser: body, closed: func(error) { stop() }}, b.limit)
	return resp, nil
}

// noAutoRetry keeps net/http from sending a request again by itself, as it does when a
// pooled connection turns out to be dead: such a request passes no limit, carries
// an old signature, and is seen by no Observer. The error says that the connection
// was dead, so that our own retry can send it again.
type noAutoRetry struct{ next http.RoundTripper }

func (o *noAutoRetry) RoundTrip(req *http.Request) (*http.Response, error) {
	var pooled, answered atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:              func(c httptrace.GotConnInfo) { pooled.Store(c.Reused) },
		GotFirstResponseByte: func() { answered.Store(true) },
	})
	req = req.WithContext(ctx)
	// A body that net/http cannot rewind makes a request one that it must not send
	// again. It finds it empty before it writes the header: nothing goes over the wire.
	req.Body, req.GetBody = io.NopCloser(strings.NewReader("")), nil
	resp, err := o.next.RoundTrip(req)
	if err == nil || !pooled.Load() || answered.Load() || ctx.Err() != nil {
		return resp, err
	}
	// The other idle connections are as old, and likely as dead: the retry must
	// not get one of them. Closing one that is alive costs a handshake.
	if pool, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		pool.CloseIdleConnections()
	}
	return nil, fmt.Errorf("%w: %w", errDeadConnection, err)
}

// errDeadConnection marks a request whose pooled connection was dead: the server,
// or something on the way, had closed it while it was idle.
var errDeadConnection = errors.New("a connection that was kept open")

// hookedBody lets a round tripper act when a body fails and when it is closed.
type hookedBody struct {
	io.ReadCloser
	readErr func(error) error // may give a read error a better text
	closed  func(readErr error)

	err  error // the first read error that is not io.EOF
	once sync.Once
}

func (b *hookedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.EOF is never wrapped by a Reader
		if b.readErr != nil {
			err = b.readErr(err)
		}
		if b.err == nil {
			b.err = err
		}
	}
	return n, err
}

func (b *hookedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.closed(b.err) })
	return err
}
