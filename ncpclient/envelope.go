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

// parseEnvelope reads the error body in each of the forms that NCP is known to
// send, and gives what it found: never an error, as the status says enough.
func parseEnvelope(body []byte) envelope {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte(utf8BOM)))
	switch {
	case len(body) == 0:
		return envelope{}
	case body[0] == '{':
		return parseJSONEnvelope(body)
	case body[0] == '<':
		return parseXMLEnvelope(body)
	default:
		return envelope{}
	}
}

const utf8BOM = "\xef\xbb\xbf"

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

func parseJSONEnvelope(body []byte) envelope {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) != nil {
		return envelope{}
	}
	env := envelopeOf(outer)
	for _, key := range []string{"error", "responseError"} {
		var inner map[string]json.RawMessage
		if json.Unmarshal(outer[key], &inner) != nil {
			continue
		}
		nested := envelopeOf(inner)
		env.code = cmp.Or(nested.code, env.code)
		env.message = cmp.Or(nested.message, env.message)
		env.requestID = cmp.Or(nested.requestID, env.requestID)
	}
	if env.message == "" {
		// {"status":401,"error":"UNAUTHORIZED",...}: the word is better than nothing.
		env.message = textOf(outer["error"])
	}
	return env
}

func envelopeOf(fields map[string]json.RawMessage) envelope {
	var env envelope
	for _, key := range []string{"errorCode", "returnCode", "code"} {
		env.code = cmp.Or(env.code, textOf(fields[key]))
	}
	for _, key := range []string{"message", "returnMessage", "errorMessage"} {
		env.message = cmp.Or(env.message, textOf(fields[key]))
	}
	if details := textOf(fields["details"]); details != "" && details != env.message {
		env.message = strings.TrimPrefix(env.message+": "+details, ": ")
	}
	for _, key := range []string{"requestId", "traceId"} {
		env.requestID = cmp.Or(env.requestID, textOf(fields[key]))
	}
	return env
}

// textOf is a JSON string or number as text; anything else is no text.
func textOf(raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n' {
		return ""
	}
	var t text
	if json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return string(t)
}

// parseXMLEnvelope takes the elements by name wherever they stand; of an HTML
// page that leaves the title.
func parseXMLEnvelope(body []byte) envelope {
	var env envelope
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = false
	d.AutoClose = xml.HTMLAutoClose
	d.Entity = xml.HTMLEntity
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var element string
	for {
		token, err := d.Token()
		if err != nil {
			return env
		}
		switch token := token.(type) {
		case xml.StartElement:
			element = token.Name.Local
		case xml.EndElement:
			element = ""
		case xml.CharData:
			value := strings.TrimSpace(string(token))
			switch strings.ToLower(element) {
			case "errorcode", "returncode", "code":
				env.code = cmp.Or(env.code, value)
			case "message", "returnmessage", "title":
				env.message = cmp.Or(env.message, value)
			case "requestid":
				env.requestID = cmp.Or(env.requestID, value)
			}
		}
	}
}

// fill copies what an answer says of itself, with our own headers taken out of
// it: a server may echo what it was sent.
func (e *Error) fill(resp *http.Response, env envelope) {
	var secrets []string
	if resp.Request != nil {
		for _, h := range []string{headerAccessKey, headerSignature} {
			if v := resp.Request.Header.Get(h); v != "" {
				secrets = append(secrets, v, "[redacted]")
			}
		}
	}
	clean := func(s string, limit int) string {
		return cleanText(strings.NewReplacer(secrets...).Replace(s), limit)
	}
	e.Code = clean(env.code, maxToken)
	e.Message = clean(env.message, maxMessage)
	e.RequestID = clean(env.requestID, maxToken)
	for _, h := range []string{"x-ncp-trace-id", "x-ncp-apigw-request-id", "x-request-id"} {
		if e.RequestID == "" {
			e.RequestID = clean(resp.Header.Get(h), maxToken)
		}
	}
	e.Origin = clean(resp.Header.Get("x-ncp-apigw-response-origin"), maxToken)
}

// checkEnvelope finds the errors that come with HTTP 200, also beside an empty
// list: a member that says so, or no returnCode where one is required.
func checkEnvelope(resp *http.Response, members map[string]json.RawMessage, returnCodeRequired bool) error {
	if saysError(members) || returnCodeRequired && trimmedText(members["returnCode"]) != "0" {
		return refusal(resp, members, errors.New("the answer has no returnCode"))
	}
	return nil
}

// refusal makes the error of an object that came with HTTP 200 but is not the
// answer: what its envelope says or, if it has none, that it is malformed.
func refusal(resp *http.Response, members map[string]json.RawMessage, malformed error) error {
	e := &Error{Status: resp.StatusCode, Reason: ErrMalformedAnswer, err: malformed}
	var env envelope
	if saysError(members) {
		e.Reason, e.err = ErrRefused, nil
		if trimmedText(members["returnCode"]) == "0" {
			delete(members, "returnCode") // it is another member that tells of the error
			delete(members, "returnMessage")
		}
		if body, err := json.Marshal(members); err == nil {
			env = parseJSONEnvelope(body)
		}
	}
	e.fill(resp, env)
	return e
}

// saysError says whether a member of an answer tells of an error. Members that
// have these names and tell of a success do not: "status":"OK", "error":null,
// "code":"200" (which is HTTP's OK).
func saysError(members map[string]json.RawMessage) bool {
	code, message := trimmedText(members["code"]), trimmedText(members["message"])
	returnCode := trimmedText(members["returnCode"])
	status, err := strconv.Atoi(trimmedText(members["status"]))
	return returnCode != "" && returnCode != "0" ||
		isErrorValue(members["error"]) || isErrorValue(members["responseError"]) ||
		!isSuccess(trimmedText(members["errorCode"])) ||
		message != "" && !isSuccess(code) && code != "200" ||
		err == nil && status >= http.StatusBadRequest
}

// isErrorValue says whether a member that is named after an error holds one: a
// text, or an object whose code does not say success.
func isErrorValue(raw json.RawMessage) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return !isSuccess(trimmedText(raw))
	}
	env := envelopeOf(fields)
	return env.code != "" && !isSuccess(env.code) || env.code == "" && len(fields) > 0
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

// trimmedText is textOf without outer blanks.
func trimmedText(raw json.RawMessage) string { return strings.TrimSpace(textOf(raw)) }
