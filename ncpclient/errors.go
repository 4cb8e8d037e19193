package ncpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Reason says why a call failed, in a form that a caller can decide on with
// errors.Is. Its text is "title: remedy".
type Reason string //nolint:errname // it is the reason of an error, and Is compares with it

// The reasons of an *Error.
const (
	ErrKey             Reason = "the access key or the secret key is wrong: check both, and that the key is in use"
	ErrClock           Reason = "this machine's clock is off by more than the 5 minutes that NCP accepts: set it (NTP)"
	ErrPermission      Reason = "the key may not call this: give its sub-account the permission for this action"
	ErrMainAccountKey  Reason = "Certificate Manager 2.0 refuses the keys of sub-accounts: give it an access key of the main account"
	ErrRateLimited     Reason = "NCP limits the rate of requests: lower the rate, or scrape less often"
	ErrNotFound        Reason = "NCP does not know this address: check the site (public, gov, fin), the base URL, and that the subject still exists"
	ErrBadRequest      Reason = "NCP refuses the request as it stands: its message says more; check the base URL and its version"
	ErrRedirected      Reason = "NCP answered with a redirect, which a signed request must not follow: correct the base URL"
	ErrRefused         Reason = "NCP answered with an error of its own: its code and message say more"
	ErrServer          Reason = "the fault is on NCP's side: wait, or ask its support with the request id"
	ErrMalformedAnswer Reason = "the answer is not what this API documents: check that the base URL leads to NCP and not to a proxy's page"
	ErrTooLarge        Reason = "the answer is too large to be right: check that the base URL leads to NCP"
	ErrUnreachable     Reason = "NCP cannot be reached: check the network, DNS, proxy (HTTPS_PROXY), TLS and the base URL"
	ErrLimited         Reason = "the request was not sent, as our own limits (requests in flight, requests a second) or NCP's Retry-After would let it go too late: raise the limits, ask for less, or give it more time"
	ErrTimeout         Reason = "NCP did not answer in time: raise the timeouts, or ask for smaller pages"
	ErrCredentials     Reason = "there are no usable keys: correct the place of keys that is named here"
)

// Reasons are all reasons, for a table of them.
func Reasons() []Reason {
	return []Reason{
		ErrKey, ErrClock, ErrPermission, ErrMainAccountKey, ErrRateLimited, ErrNotFound, ErrBadRequest, ErrRedirected,
		ErrRefused, ErrServer, ErrMalformedAnswer, ErrTooLarge, ErrUnreachable, ErrLimited, ErrTimeout, ErrCredentials,
	}
}

// Error makes a Reason a target for errors.Is.
func (r Reason) Error() string { return string(r) }

// Title is what is wrong. It does not change between versions.
func (r Reason) Title() string {
	title, _, _ := strings.Cut(string(r), ": ")
	return title
}

// Remedy is what to do about it.
func (r Reason) Remedy() string {
	_, remedy, _ := strings.Cut(string(r), ": ")
	return remedy
}

// Error is a call that failed. It unwraps to its Reason and to its cause.
type Error struct {
	API       string
	Operation Operation
	Reason    Reason

	// What the answer says, cleaned for printing; empty where it does not say.
	Status        int           // of HTTP
	Code, Message string        // of NCP's envelope
	RequestID     string        // names the call to NCP's support
	Origin        string        // who answered: "APIGW" (the gateway) or "ENDPOINT" (the service behind it)
	RetryAfter    time.Duration // what the header asks for

	err error
}

// Error is one line: the call, what came back, and what to do about it.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: ", e.API, e.Operation)
	if facts := e.Facts(); facts != "" {
		text += facts + ": "
	}
	return text + string(e.Reason)
}

// Facts is what came back, on one line; empty if that is no more than the reason.
func (e *Error) Facts() string {
	var facts []string
	add := func(known bool, format string, value any) {
		if known {
			facts = append(facts, fmt.Sprintf(format, value))
		}
	}
	add(e.Status != 0, "HTTP %d", e.Status)
	add(e.Code != "", "code %s", e.Code)
	add(e.Message != "", "%q", e.Message)
	add(e.Origin != "", "from %s", e.Origin)
	add(e.RequestID != "", "request id %s", e.RequestID)
	if e.err != nil {
		facts = append(facts, cleanText(e.err.Error(), maxMessage))
	}
	return strings.Join(facts, ", ")
}

// Kind is the same for errors that tell a reader the same: the text holds ids and
// times that differ each time.
func (e *Error) Kind() string { return fmt.Sprint(e.Operation, e.Reason, e.Status, e.Code) }

// Unwrap gives the reason and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.err}
}

// temporary says whether the same request may succeed if it is sent again.
func (e *Error) temporary() bool {
	switch e.Reason {
	case ErrRateLimited, ErrServer:
		return true
	case ErrUnreachable:
		return !permanentTransportError(e.err)
	case ErrTimeout:
		// The time of one request, as against that of the whole call.
		return errors.Is(e.err, errRequestTimeout)
	case ErrMalformedAnswer:
		// Half a document: something on the way cut it, as with a broken connection.
		return errors.Is(e.err, io.ErrUnexpectedEOF)
	default:
		return false
	}
}

// newTransportError makes the error of a request that got no whole answer.
func newTransportError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case is[*limitError](err):
		return &Error{Reason: ErrLimited, err: err}
	case is[*http.MaxBytesError](err):
		return tooLarge("it is larger than %d MiB", maxBodyBytes>>20)
	case errors.Is(err, errRequestTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Reason: ErrTimeout, err: err}
	default:
		return &Error{Reason: ErrUnreachable, err: err}
	}
}

// newDecodeError makes the error of a whole answer that could not be read.
func newDecodeError(resp *http.Response, err error) *Error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{Reason: ErrMalformedAnswer, Status: resp.StatusCode, err: err}
	}
	e.Status = resp.StatusCode
	return e
}

const (
	maxMessage = 200
	maxToken   = 64
)

// newStatusError makes the error of an answer whose HTTP status is not 2xx.
func newStatusError(api string, resp *http.Response, offset time.Duration) *Error {
	// A body that breaks off still has its status.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e := &Error{Status: resp.StatusCode, Reason: reasonOfStatus(resp.StatusCode)}
	e.fill(resp, parseEnvelope(body))
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.err = errors.New("it switches to another protocol, which nobody asked for")
	case resp.StatusCode == http.StatusUnauthorized && e.Code == "210":
		e.Reason = ErrPermission
	case resp.StatusCode == http.StatusUnauthorized && offset.Abs() > maxClockOffset:
		e.Reason = ErrClock
		e.err = fmt.Errorf("the clock differs by %s", offset.Abs())
	case resp.StatusCode == http.StatusForbidden && api == APICertificateManager && len(body) == 0:
		// All that Certificate Manager 2.0 says of a sub-account's key.
		e.Reason = ErrMainAccountKey
	case e.temporary():
		e.RetryAfter = retryAfter(resp)
	}
	return e
}

// maxClockOffset is how far a request's timestamp may be from NCP's clock.
const maxClockOffset = 5 * time.Minute

func reasonOfStatus(status int) Reason {
	switch {
	case status < http.StatusOK:
		return ErrMalformedAnswer
	case status == http.StatusUnauthorized:
		return ErrKey
	case status == http.StatusForbidden:
		return ErrPermission
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusTooManyRequests:
		return ErrRateLimited
	case status >= http.StatusInternalServerError:
		return ErrServer
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return ErrRedirected
	default:
		return ErrBadRequest
	}
}

// cleanText makes a foreign text fit for one line of a log or a page: no
// control characters, valid UTF-8, and not longer than limit bytes.
func cleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// retryAfter reads Retry-After in both of its forms, seconds and a date (which
// is taken against the Date header of the same answer).
func retryAfter(resp *http.Response) time.Duration {
	value := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, at.Sub(date))
}
