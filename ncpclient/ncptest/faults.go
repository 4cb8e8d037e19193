package ncptest

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// dripInterval is the time between two bytes of Drip: slow for a client, and
// cheap for the machine that simulates it.
const dripInterval = 5 * time.Millisecond

// Fault says how a request fails: the handler that answers it, or nil for the
// normal answer. Handlers are called after Config.Latency.
type Fault func(Request) http.Handler

// Always answers every request with h.
func Always(h http.Handler) Fault {
	return func(Request) http.Handler { return h }
}

// ForOp answers the requests of one operation with h.
func ForOp(op Operation, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == op {
			return h
		}
		return nil
	}
}

// ForSubject answers the requests for one subject's credentials with h.
func ForSubject(id string, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == Credentials && r.SubjectID == id {
			return h
		}
		return nil
	}
}

// ForPage answers the requests of an operation for one page with h.
func ForPage(op Operation, page int, h http.Handler) Fault {
	return func(r Request) http.Handler {
		if r.Op == op && r.Page == page {
			return h
		}
		return nil
	}
}

// FirstOf takes the first of the faults that has an answer.
func FirstOf(faults ...Fault) Fault {
	return func(r Request) http.Handler {
		for _, f := range faults {
			if h := f(r); h != nil {
				return h
			}
		}
		return nil
	}
}

// Times lets a fault act on the first n requests that it matches only.
func Times(n int, f Fault) Fault {
	var left atomic.Int64
	left.Store(int64(n))
	return func(r Request) http.Handler {
		h := f(r)
		if h == nil || left.Add(-1) < 0 {
			return nil
		}
		return h
	}
}

// OneIn answers about one in n requests with one of hs. It looks like chance, but
// which ones are hit depends on the seed, the operation and the number of the
// request alone.
func OneIn(n int, seed uint64, hs ...http.Handler) Fault {
	return func(r Request) http.Handler {
		if n < 1 || len(hs) == 0 {
			return nil
		}
		x := mix(seed)
		for i := range len(r.Op) {
			x = mix(x ^ uint64(r.Op[i]))
		}
		x = mix(x + uint64(r.N)) //nolint:gosec // a count is not negative
		if x%uint64(n) != 0 {
			return nil
		}
		return hs[x/uint64(n)%uint64(len(hs))]
	}
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

// Nested is JSON that opens depth arrays and closes them all.
func Nested(depth int) http.Handler {
	return Raw(http.StatusOK, jsonType,
		`{"returnCode":"0","content":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+`}`)
}

// Redirect sends the client elsewhere; a good one does not take its signature
// there.
func Redirect(url string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", url)
		w.WriteHeader(http.StatusFound)
	})
}

// CutShort promises the normal answer by its Content-Length, sends half of it and
// cuts the connection.
func CutShort() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// CutClean is half of the normal answer in a message that is whole.
func CutClean() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)/2))
		w.WriteHeader(status)
		_, _ = w.Write(body[:len(body)/2])
	})
}

// Huge streams n bytes of an answer that looks right from beginning to end,
// without telling its length before.
func Huge(n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(http.StatusOK)
		writeHuge(w, r, n)
	})
}

// GzipBomb is Huge in few bytes on the wire. A client that does not accept gzip
// gets it all the same.
func GzipBomb(n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusOK)
		z := gzip.NewWriter(w)
		writeHuge(z, r, n)
		_ = z.Close() // fails if the client has gone
	})
}

// HugeHeader is the normal answer under a header of n bytes.
func HugeHeader(n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := normalAnswer(w, r)
		w.Header().Set("X-Padding", strings.Repeat("x", n))
		w.WriteHeader(status)
		_, _ = w.Write(body)
	})
}

// Drip sends one byte after another until the client goes away or the Server is
// closed. There is always a next one.
func Drip() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		ticker := time.NewTicker(dripInterval)
		defer ticker.Stop()
		next := []byte("{")
		for {
			if _, err := w.Write(next); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
			next = []byte(" ")
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
	})
}

// Hang never answers. It ends when the client goes away or the Server is closed.
func Hang() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Reset resets the connection without an answer.
func Reset() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // the next best thing
		}
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn() // its Close would say goodbye first
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close send RST
		}
		_ = conn.Close()
	})
}

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

// normalAnswer is what the Server would have said. Its headers, less the length,
// are set on w. Outside of a Server it is the documented page.
func normalAnswer(w http.ResponseWriter, r *http.Request) (status int, body []byte) {
	ex := exchangeOf(r)
	if ex == nil {
		w.Header().Set("Content-Type", jsonType)
		return http.StatusOK, DocumentedCredentials()
	}
	kept := keeper{header: w.Header(), status: http.StatusOK}
	ex.answer(&kept, r)
	w.Header().Del("Content-Length")
	return kept.status, kept.body.Bytes()
}

// keeper is a ResponseWriter that keeps the answer.
type keeper struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *keeper) Header() http.Header         { return k.header }
func (k *keeper) WriteHeader(status int)      { k.status = status }
func (k *keeper) Write(p []byte) (int, error) { return k.body.Write(p) }

// writeHuge writes n bytes of an answer to r: rows upon rows, padded with blanks
// to the very length.
func writeHuge(w io.Writer, r *http.Request, n int64) {
	head := `{"pageNo":0,"totalElements":2147483647,"pageSize":2147483647,"content":[`
	row := `{"issuer":"CN=Huge","serialNumber":"0","x509CertificateData":"","failed":false,"seenTime":"2024-12-12T18:09:05.705+09:00"}`
	if ex := exchangeOf(r); ex != nil {
		switch ex.route.op {
		case RecentChanges:
			head = `{"returnCode":"0","returnMessage":"Success","totalCount":2147483647,"orders":[`
			row = `{"orderId":"410","certificateId":55991,"status":"Ongoing"}`
		case Subjects:
			row = `{"subjectId":"huge","subjectNrn":"","x509Subject":"CN=Huge","enabled":true,"createTime":null,"updateTime":null,"lastSeenTime":null}`
		case Credentials:
		}
	}
	const tail = "]}"
	more := strings.Repeat(","+row, 1+32<<10/len(row))
	unit := int64(len(row) + 1)
	room := n - int64(len(head)+len(row)+len(tail)) // for more rows
	if room < 0 {
		_, _ = io.WriteString(w, (head + row + tail)[:max(0, n)])
		return
	}
	rows := room / unit
	if _, err := io.WriteString(w, head+row); err != nil {
		return
	}
	for left := rows * unit; left > 0; {
		part := more[:min(left, int64(len(more)))]
		if _, err := io.WriteString(w, part); err != nil {
			return
		}
		left -= int64(len(part))
	}
	_, _ = io.WriteString(w, strings.Repeat(" ", int(room-rows*unit))+tail)
}
