package ncpclient

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The three headers of signature v2.
const (
	headerTimestamp = "x-ncp-apigw-timestamp"
	headerAccessKey = "x-ncp-iam-access-key"
	headerSignature = "x-ncp-apigw-signature-v2"
)

// signature is NCP's signature v2: the base64 of the HMAC-SHA256 over the
// method, the path and query exactly as they are sent, the timestamp (Unix
// milliseconds, the very digits of the header) and the access key.
func signature(method, requestURI, timestamp string, keys Keys) string {
	mac := hmac.New(sha256.New, []byte(keys.SecretKey))
	// hash.Hash.Write never returns an error.
	_, _ = fmt.Fprintf(mac, "%s %s\n%s\n%s", method, requestURI, timestamp, keys.AccessKey)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signer signs each request at the moment it is sent: NCP refuses a timestamp
// that is more than 5 minutes off, so one that waited for the rate limit or is
// sent again must not carry an old one.
type signer struct {
	next        http.RoundTripper
	credentials Credentials
	now         func() time.Time
}

func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	keys, err := s.credentials.Keys(req.Context())
	if err != nil {
		return nil, &Error{Reason: ErrCredentials, err: fmt.Errorf("reading the keys: %w", err)}
	}
	callOf(req.Context()).keys = keys
	timestamp := strconv.FormatInt(s.now().UnixMilli(), 10)
	req = req.Clone(req.Context())
	req.Header.Set(headerTimestamp, timestamp)
	req.Header.Set(headerAccessKey, keys.AccessKey)
	req.Header.Set(headerSignature, signature(req.Method, req.URL.RequestURI(), timestamp, keys))
	resp, err := s.next.RoundTrip(req)
	if err != nil {
		// net/http quotes an answer that it cannot read, and that may repeat what was sent.
		return nil, &redactedError{redact(err.Error(), req.Header), err}
	}
	return resp, nil
}

// redact takes out of a text what our headers say of the keys.
func redact(s string, sent http.Header) string {
	for _, name := range []string{headerAccessKey, headerSignature} {
		if value := sent.Get(name); value != "" {
			s = strings.ReplaceAll(s, value, "[redacted]")
		}
	}
	return s
}

// redactedError is an error without what it quoted of our headers.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }
