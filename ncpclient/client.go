package ncpclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The names of the APIs, as errors and observations carry them.
const (
	APICertificateManager = "certificate_manager"
	APIExternalAccess     = "external_access"
)

// Operation names an operation of an API.
type Operation string

// The operations.
const (
	OpRecentChanges Operation = "recentChanges"
	OpSubjects      Operation = "subjects"
	OpCredentials   Operation = "credentials"
	OpTrustAnchors  Operation = "trustAnchors"
	OpCRLs          Operation = "crls"
	OpCertificates  Operation = "certificates"
)

// Config is what a client of one API needs. Only BaseURL and Credentials have
// no default.
type Config struct {
	// BaseURL is the address of the API including its version, such as
	// https://externalaccess.apigw.ntruss.com/api/v1. It is https, unless the
	// host is loopback.
	BaseURL     string
	Credentials Credentials
	// Transport sends the requests of this API and of others; see NewTransport.
	Transport      http.RoundTripper
	Timeout        time.Duration // of one HTTP request with its body; default 5 s
	MaxConcurrency int           // of requests in flight; default 10
	// RateLimit bounds the requests a second, retries counted, with bursts of
	// MaxConcurrency; 0 is no limit. An answer of 429 (throttled) lowers it for a
	// while. Its Retry-After is respected even without a limit.
	RateLimit float64
	Crowd     *Crowd // of the clients of many accounts; nil for one account
	// MaxRetries bounds how often one call is sent again; 0 is never. One more
	// retry is free: when the call finds its pooled connection dead for the first
	// time, it is sent again on a new one, within the limits like all others.
	MaxRetries int
	Observer   Observer // may be nil
	UserAgent  string
	Now        func() time.Time // default time.Now
}

// api is what the clients of both APIs share.
type api struct {
	name   string
	base   *url.URL
	cfg    Config // with its defaults
	sender *limit // the first of the chain
}

func newAPI(name string, cfg Config) (*api, error) {
	base, err := ParseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if cfg.Credentials == nil {
		return nil, errors.New("no credentials given")
	}
	cfg.Timeout = cmp.Or(max(0, cfg.Timeout), 5*time.Second)
	cfg.MaxRetries = max(0, cfg.MaxRetries)
	cfg.MaxConcurrency = cmp.Or(max(0, cfg.MaxConcurrency), 10)
	if cfg.Transport == nil {
		cfg.Transport = NewTransport(cfg.MaxConcurrency, nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observer == nil {
		cfg.Observer = noopObserver{}
	}
	return &api{name: name, base: base, cfg: cfg, sender: chain(name, cfg)}, nil
}

type noopObserver struct{}

func (noopObserver) RequestDone(Observation)          {}
func (noopObserver) RequestRetried(string, Operation) {}

// ParseBaseURL checks the base URL of an API: https (http only to loopback),
// with a host, and without user, query or fragment.
func ParseBaseURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("not a URL") // the error's text may hold a password
	}
	switch {
	case u.User != nil:
		return nil, errors.New("a URL must not hold a user or password")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("not of the form https://host/api/v1")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a base URL must not have a query or a fragment")
	case u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
		return nil, errors.New("http is accepted for loopback addresses only: use https")
	}
	u = u.JoinPath() // cleans the path
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// decoder reads the body of an answer with an HTTP status of 2xx. An *Error
// that it returns stands as it is; any other is a malformed answer.
type decoder func(resp *http.Response, body io.Reader) error

// get calls one operation: GET {base}/{path}?{query}. The path is escaped.
func (a *api) get(ctx context.Context, op Operation, path string, query url.Values, decode decoder) error {
	u := a.base.JoinPath(path)
	u.RawQuery = query.Encode()
	c := &call{operation: op}
	ctx = context.WithValue(ctx, callKey{}, c)
	return a.withRetries(ctx, c, func() *Error {
		e := a.attempt(ctx, u, decode)
		if e != nil {
			e.API, e.Operation = a.name, op
		}
		return e
	})
}

// call tells the round trippers, which see requests only, which call a request
// belongs to. It is used by one goroutine at a time.
type call struct {
	operation Operation
	keys      Keys // those that signed its last request
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return &call{}
	}
	return c
}

func (a *api) attempt(ctx context.Context, u *url.URL, decode decoder) *Error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return &Error{Reason: ErrBadRequest, err: err}
	}
	req.Header.Set("Accept", "application/json")
	// Certificate Manager marks this as required even without a body.
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", a.cfg.UserAgent)
	resp, err := a.sender.RoundTrip(req)
	if err != nil {
		return newTransportError(err)
	}
	defer func() { _ = resp.Body.Close() }() // the body was read; an error here changes nothing

	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		offset, _ := clockOffset(resp, a.cfg.Now())
		return newStatusError(a.name, resp, offset)
	}
	body := &hookedBody{ReadCloser: resp.Body}
	err = decode(resp, body)
	switch {
	case err == nil:
		return nil
	case body.err != nil:
		return newTransportError(body.err) // and not what the JSON looked like without the rest
	default:
		return newDecodeError(resp, err)
	}
}
