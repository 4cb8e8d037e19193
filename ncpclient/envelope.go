package ncpclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxErrorBody is how much of a failed answer is read for its envelope.
const maxErrorBody = 64 << 10

// envelope is what the error bodies of NCP have in common.
type envelope struct {
	code, message, requestID string
}

// or takes from another what it lacks.
func (e envelope) or(other envelope) envelope {
	return envelope{cmp.Or(e.code, other.code), cmp.Or(e.message, other.message), cmp.Or(e.requestID, other.requestID)}
}

const utf8BOM = "\xef\xbb\xbf"

// parseEnvelope reads the error body in each of the forms that NCP is known to
// send, and gives what it found: never an error, as the status says enough.
func parseEnvelope(body []byte) envelope {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte(utf8BOM)))
	if bytes.HasPrefix(body, []byte("<")) {
		return parseXMLEnvelope(body)
	}
	var m members
	if json.Unmarshal(body, &m) != nil {
		return envelope{}
	}
	return m.envelope()
}

// members are those of a JSON object.
type members map[string]json.RawMessage

// text is the first of these that is a string or a number.
func (m members) text(names ...string) string {
	for _, name := range names {
		if s := textOf(m[name]); s != "" {
			return s
		}
	}
	return ""
}

// textOf is a JSON string or number without outer blanks; anything else is no text.
func textOf(raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' {
		return ""
	}
	return strings.TrimSpace(unquote(jsontext.Value(raw)))
}

// isEnvelopeMember says whether a member of an object may tell of an error.
func isEnvelopeMember(name string, kind jsontext.Kind) bool {
	switch name {
	case "error", "responseError":
		return true
	case "status", "errorCode", "returnCode", "code", "message", "returnMessage", "errorMessage", "details", "requestId", "traceId":
		return kind != '{' && kind != '['
	default:
		return false
	}
}

// envelope is what an object and the errors in it tell.
func (m members) envelope() envelope {
	env := m.flatEnvelope()
	for _, name := range []string{"error", "responseError"} {
		var inner members
		if json.Unmarshal(m[name], &inner) == nil {
			env = inner.flatEnvelope().or(env)
		}
	}
	// {"status":401,"error":"UNAUTHORIZED",...}: the word is better than nothing.
	return env.or(envelope{message: m.text("error")})
}

func (m members) flatEnvelope() envelope {
	env := envelope{
		code:      m.text("errorCode", "returnCode", "code"),
		message:   m.text("message", "returnMessage", "errorMessage"),
		requestID: m.text("requestId", "traceId"),
	}
	if details := m.text("details"); details != "" && details != env.message {
		env.message = strings.TrimPrefix(env.message+": "+details, ": ")
	}
	return env
}

// parseXMLEnvelope takes the elements by name wherever they stand; of an HTML page
// that leaves the title.
func parseXMLEnvelope(body []byte) envelope {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = false
	d.AutoClose = xml.HTMLAutoClose
	d.Entity = xml.HTMLEntity
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	found := make(members)
	element := ""
	for {
		token, err := d.Token()
		if err != nil {
			return found.envelope().or(envelope{message: found.text("title")})
		}
		switch token := token.(type) {
		case xml.StartElement:
			element = token.Name.Local
		case xml.EndElement:
			element = ""
		case xml.CharData:
			if value, err := json.Marshal(string(token)); err == nil && found.text(element) == "" {
				found[element] = value
			}
		}
	}
}

// fill copies what an answer says of itself, with our own headers taken out of
// it: a server may echo what it was sent.
func (e *Error) fill(resp *http.Response, env envelope) {
	clean := func(s string, limit int) string {
		if resp.Request != nil {
			s = redact(s, resp.Request.Header)
		}
		return cleanText(s, limit)
	}
	header := resp.Header.Get
	e.Code = clean(env.code, maxToken)
	e.Message = clean(env.message, maxMessage)
	e.RequestID = clean(cmp.Or(env.requestID, header("x-ncp-trace-id"), header("x-ncp-apigw-request-id"), header("x-request-id")), maxToken)
	e.Origin = clean(header("x-ncp-apigw-response-origin"), maxToken)
}

// checkEnvelope finds the errors that come with HTTP 200, also beside an empty
// list: a member that says so, or no returnCode where one is required.
func checkEnvelope(resp *http.Response, m members, returnCodeRequired bool) error {
	if m.sayError() || returnCodeRequired && m.text("returnCode") != "0" {
		return refusal(resp, m, errors.New("the answer has no returnCode"))
	}
	return nil
}

// refusal makes the error of an object that came with HTTP 200 but is not the
// answer: what its envelope says or, if it has none, that it is malformed.
func refusal(resp *http.Response, m members, malformed error) error {
	e := &Error{Status: resp.StatusCode, Reason: ErrMalformedAnswer, err: malformed}
	var env envelope
	if m.sayError() {
		e.Reason, e.err = ErrRefused, nil
		if m.text("returnCode") == "0" {
			delete(m, "returnCode") // it is another member that tells of the error
			delete(m, "returnMessage")
		}
		env = m.envelope()
	}
	e.fill(resp, env)
	return e
}

// sayError says whether a member of an answer tells of an error. Members that
// have these names and tell of a success do not: "status":"OK", "error":null,
// "code":"200" (which is HTTP's OK).
func (m members) sayError() bool {
	code, returnCode := m.text("code"), m.text("returnCode")
	status, err := strconv.Atoi(m.text("status"))
	return returnCode != "" && returnCode != "0" ||
		isErrorValue(m["error"]) || isErrorValue(m["responseError"]) ||
		!isSuccess(m.text("errorCode")) ||
		m.text("message") != "" && !isSuccess(code) && code != "200" ||
		err == nil && status >= http.StatusBadRequest
}

// isErrorValue says whether a member that is named after an error holds one: a
// text, or an object whose code does not say success.
func isErrorValue(raw json.RawMessage) bool {
	var m members
	if json.Unmarshal(raw, &m) != nil {
		return !isSuccess(textOf(raw))
	}
	code := m.flatEnvelope().code
	return code != "" && !isSuccess(code) || code == "" && len(m) > 0
}

// isSuccess says whether a code or a text says that nothing is wrong: none, a
// zero of any length, or a word. 200 does not: it is the gateway's errorCode for a
// failed authentication.
func isSuccess(s string) bool {
	switch strings.ToLower(s) {
	case "", "ok", "success", "none", "null", "false":
		return true
	}
	return strings.Trim(s, "0") == ""
}
