package ncptest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const jsonType = "application/json;charset=UTF-8"

// The envelopes, in the order of fields that they were seen in.
type (
	wrapped struct {
		Error gatewayEnvelope `json:"error"`
	}
	gatewayEnvelope struct {
		ErrorCode any    `json:"errorCode"`
		Message   string `json:"message"`
		Details   string `json:"details,omitempty"`
		RequestID string `json:"requestId,omitempty"`
	}
	flatEnvelope struct {
		ErrorCode int    `json:"errorCode"`
		Message   string `json:"message"`
	}
	returnEnvelope struct {
		ReturnCode    string `json:"returnCode"`
		ReturnMessage string `json:"returnMessage"`
	}
	responseEnvelope struct {
		ResponseError returnEnvelope `json:"responseError"`
	}
	springEnvelope struct {
		Timestamp string `json:"timestamp"`
		Status    int    `json:"status"`
		Error     string `json:"error"`
		Message   string `json:"message"`
		Code      string `json:"code"`
	}
)

func jsonReply(status int, origin string, body func(*http.Request) any) http.Handler {
	return reply(status, origin, jsonType, func(r *http.Request) string {
		b, err := json.Marshal(body(r))
		if err != nil { // cannot be: strings and numbers
			panic(err)
		}
		return string(b)
	})
}

func reply(status int, origin, contentType string, body func(*http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin != "" {
			w.Header().Set(headerOrigin, origin)
		}
		text := body(r)
		switch {
		case contentType != "":
			w.Header().Set("Content-Type", contentType)
		case text == "":
			w.Header()["Content-Type"] = nil // keeps net/http from guessing one
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

func traceOf(r *http.Request) string {
	if ex := exchangeOf(r); ex != nil {
		return ex.trace
	}
	return ""
}

func nowOf(r *http.Request) time.Time {
	if ex := exchangeOf(r); ex != nil {
		return ex.Now()
	}
	return time.Now()
}

// Raw answers with the given status, Content-Type and body.
func Raw(status int, contentType, body string) http.Handler {
	return reply(status, "", contentType, func(*http.Request) string { return body })
}

// GatewayError is the documented envelope of the API gateway.
func GatewayError(status int, code, message string) http.Handler {
	return jsonReply(status, originGateway, func(*http.Request) any {
		return wrapped{gatewayEnvelope{ErrorCode: code, Message: message}}
	})
}

// GatewayErrorDetails is the gateway's envelope with all that was seen in it: the
// code as a number, details, and the id of the request.
func GatewayErrorDetails(status, code int, message, details string) http.Handler {
	return jsonReply(status, originGateway, func(r *http.Request) any {
		return wrapped{gatewayEnvelope{ErrorCode: code, Message: message, Details: details, RequestID: traceOf(r)}}
	})
}

// Throttled is 429 with errorCode 410, and Retry-After as given unless empty.
func Throttled(retryAfter string) http.Handler {
	inner := GatewayError(http.StatusTooManyRequests, "410", "Throttle Limited")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		inner.ServeHTTP(w, r)
	})
}

// FlatError is the envelope without an outer object, its code a number.
func FlatError(status, code int, message string) http.Handler {
	return jsonReply(status, originEndpoint, func(*http.Request) any {
		return flatEnvelope{ErrorCode: code, Message: message}
	})
}

// ReturnCode is the envelope of Certificate Manager; it comes with HTTP 400, and
// for business errors with 200.
func ReturnCode(status int, code, message string) http.Handler {
	return jsonReply(status, originEndpoint, func(*http.Request) any {
		return returnEnvelope{ReturnCode: code, ReturnMessage: message}
	})
}

// ResponseError is the envelope of the older APIs.
func ResponseError(status int, code, message string) http.Handler {
	return jsonReply(status, originEndpoint, func(*http.Request) any {
		return responseEnvelope{returnEnvelope{ReturnCode: code, ReturnMessage: message}}
	})
}

// SpringError is the envelope of the services behind External Access.
func SpringError(status int, code, message string) http.Handler {
	return jsonReply(status, originEndpoint, func(r *http.Request) any {
		name := strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "_"))
		return springEnvelope{Timestamp: FormatTime(nowOf(r)), Status: status, Error: name, Message: message, Code: code}
	})
}

// XMLError is the gateway's envelope in XML, which it falls back to.
func XMLError(status int, code, message string) http.Handler {
	return reply(status, originGateway, "application/xml;charset=UTF-8", func(*http.Request) string {
		var b bytes.Buffer
		b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><error><errorCode>`)
		_ = xml.EscapeText(&b, []byte(code)) // a Buffer does not fail
		b.WriteString("</errorCode><message>")
		_ = xml.EscapeText(&b, []byte(message))
		b.WriteString("</message></error>")
		return b.String()
	})
}

// HTMLPage is a page as a proxy or a load balancer shows it.
func HTMLPage(status int) http.Handler {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	return Raw(status, "text/html; charset=utf-8",
		"<html>\r\n<head><title>"+title+"</title></head>\r\n<body>\r\n<center><h1>"+title+
			"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")
}

// EmptyBody is a status and nothing else.
func EmptyBody(status int) http.Handler {
	return reply(status, "", "", func(*http.Request) string { return "" })
}

// EmptyForbidden is how Certificate Manager 2.0 refuses a Sub Account's key.
func EmptyForbidden() http.Handler {
	return reply(http.StatusForbidden, originEndpoint, "", func(*http.Request) string { return "" })
}

// NoReturnCode is an answer of recentChanges that lacks its returnCode.
func NoReturnCode() http.Handler {
	return Raw(http.StatusOK, jsonType, `{"returnMessage":"Success","totalCount":0,"orders":[]}`)
}

// NotJSON says that it is JSON, and is not.
func NotJSON() http.Handler { return Raw(http.StatusOK, jsonType, "OK") }
